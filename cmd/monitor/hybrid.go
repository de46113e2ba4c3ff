package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"monitor/internal/claude"
	"monitor/internal/cost"
	"monitor/internal/job"
	"monitor/internal/llm"
	"monitor/internal/pipeline"
	"monitor/internal/router"
	"monitor/internal/secret"
	"monitor/internal/store"
)

// lanes are what a process has to answer with when a job may ask more than its local
// model: the router's table, the places of all lanes, the purse, and what was seen of each
// arm. All jobs of a process share one.
type lanes struct {
	purse *purse
	table *router.Table
	desk  *router.Desk
	store *store.Store
	batch *batcher
	hour  cost.Money

	mu     sync.Mutex
	memory router.Memory
	// learner orders the arms where a replay found that better (monitor route replay); nil
	// elsewhere.
	learner *router.Learner
	habits  map[[2]string]habit // by model and kind of task
	halted  string              // why Claude is not asked any more
	out     outage
	told    map[string]bool
}

// rememberedOutcomes is how many past outcomes count at the start: older ones are
// discounted to nothing (0.997^2000 is 0.25 %).
const rememberedOutcomes = 2000

// openLanes makes the lanes of this process; nil where there is no key to Claude, since
// then there is nothing to choose from.
func (p analysis) openLanes(ctx context.Context, logf func(string, ...any)) (*lanes, error) {
	l := &lanes{desk: router.NewDesk(), store: p.store, hour: p.settings.hour(), habits: map[[2]string]habit{}, told: map[string]bool{}}
	lane, at, err := claudeCommands(p).lane(ctx, nil)
	if at == secret.Shut && logf != nil {
		logf("the keyring did not open, so a key to Claude in it is not used (monitor claude status)")
	}
	if err != nil || lane == nil {
		return nil, err
	}
	book, err := costCommands(p).book()
	if err != nil {
		return nil, err
	}
	if l.table, err = p.routes(); err != nil {
		return nil, err
	}
	l.purse = &purse{lane: lane, book: book, books: store.BooksOf(p.store), logf: logf}
	l.batch = newBatcher(l.purse)
	if err := p.doubtTheDead(ctx); err != nil {
		return nil, err
	}
	l.desk.Places(router.Arm{Lane: router.Claude}, cmp.Or(p.settings.Claude.Workers, 3))
	if _, err := os.Stat(routeCommands(p).learnedFile()); err == nil {
		l.learner = router.NewLearner(l.table)
	}
	past, err := store.OutcomesOf(p.store).List(ctx, "", rememberedOutcomes)
	if err != nil {
		return nil, err
	}
	for _, o := range past {
		var v router.Outcome
		if json.Unmarshal(o.Body, &v) == nil { // what a later version wrote says nothing to this one
			l.memory.Add(v)
			if v.Class == "" || v.Class == router.Syntax || v.Class == router.Content { // it answered
				l.used(v)
			}
			if l.learner != nil {
				l.learner.Add(v)
			}
		}
	}
	return l, nil
}

// lanesOf tells lanes apart by all that they are opened with: the key, what the config says
// of them, and the user's own routes and prices. It is kept in memory only.
func (p analysis) lanesOf(ctx context.Context) (sum [32]byte, err error) {
	key, _, err := claudeCommands(p).keyPlaces().Find(ctx)
	if err != nil {
		return sum, &coded{exitUsage, err}
	}
	h := sha256.New()
	fmt.Fprintf(h, "%q %+v %+v %+v", key.Reveal(), p.settings.Claude, p.settings.Route, p.settings.Cost)
	for _, name := range []string{p.folders.routesFile(), p.folders.pricesFile()} {
		b, err := os.ReadFile(name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return sum, usage("%s cannot be read: %w", name, err)
		}
		fmt.Fprintf(h, "%q", b)
	}
	return [32]byte(h.Sum(nil)), nil
}

// doubtTheDead puts in doubt what processes that died had on its way: until then it counts
// as if it would soon give back what it reserved.
func (p analysis) doubtTheDead(ctx context.Context) error {
	books := store.BooksOf(p.store)
	open, err := books.Intents(ctx, "", store.IntentOpen)
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, k := range open {
		if k.Batch != "" || seen[k.Job] {
			continue
		}
		seen[k.Job] = true
		release, err := p.store.Claim(ctx, k.Job)
		if held := (*job.HeldError)(nil); errors.As(err, &held) {
			continue // it runs
		} else if err != nil {
			return err
		}
		_, err = books.Doubt(ctx, k.Job, "its process ended before the answer came")
		if err = errors.Join(err, release()); err != nil {
			return err
		}
	}
	return nil
}

// routes are the router's table with the user's rules.
func (p analysis) routes() (*router.Table, error) {
	src, err := os.ReadFile(p.folders.routesFile())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, usage("your routes cannot be read: %w", err)
	}
	t, err := router.NewTable(src, p.folders.routesFile())
	if err != nil {
		return nil, &coded{exitUsage, err}
	}
	return t, nil
}

// say says something once.
func (l *lanes) say(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.told[text] && l.purse.logf != nil {
		l.told[text] = true
		l.purse.logf("%s", text)
	}
}

// halt stops asking Claude: nothing that this process does will change the answer.
func (l *lanes) halt(why string) {
	l.mu.Lock()
	first := l.halted == ""
	l.halted = cmp.Or(l.halted, why)
	l.mu.Unlock()
	if first {
		l.say("Claude is not asked any more: " + why)
	}
}

// strengthOf is how much a model is trusted with, as kinds.yaml has it.
func strengthOf(m pipeline.ModelSpec, parameters int64) int {
	switch {
	case m.Trial || parameters > 0 && parameters < 1e9:
		return 0
	case parameters > 9e9:
		return 2
	}
	return 1
}

func claudeStrength(model string) int {
	if strings.Contains(model, "haiku") {
		return 3
	}
	return 4
}

// First guesses of how fast models answer, until they were seen to: a local one on a
// processor (reference/durable-jobs.md §2), Claude's by their announcements. Remembered,
// and replaced by what this process measures.
const (
	guessRead  = 300 // tokens of a prompt a second
	guessWrite = 40  // tokens of an answer a second
	guessPaid  = 5 * time.Second
)

// candidates are all arms for a task, as they stand now; here is its prompt in tokens as the
// local model gets it.
func (h *hands) candidates(ctx context.Context, t pipeline.Task, f router.Facts, here, bytes, most int) ([]router.Candidate, error) {
	l := h.lanes
	l.mu.Lock()
	habits, halted := map[string]habit{}, l.halted
	for k, v := range l.habits {
		if k[1] == f.Kind {
			habits[k[0]] = v
		}
	}
	seen := func(c *router.Candidate) {
		c.Seen, c.After, c.Mended = l.memory.Of(f.Kind, c.Arm), l.memory.After(f.Kind, c.Arm), l.memory.Mended(f.Kind, c.Arm)
	}
	var out []router.Candidate
	if h.model.Name != "" {
		c := h.localArm(f, here)
		c.Time = cmp.Or(habits[h.model.Name].took, c.Time)
		seen(&c)
		out = append(out, c)
	}
	l.mu.Unlock()
	state := l.purse.lane.State()
	if !state.StoppedUntil.IsZero() {
		halted = cmp.Or(halted, fmt.Sprintf("%s, until %s", state.Why, state.StoppedUntil.Format("2006-01-02 15:04")))
	}
	now := time.Now()
	doubtful := false
	if t.Unit != "" { // an estimate has none
		var err error
		if doubtful, err = h.doubtful(ctx, t.Unit); err != nil {
			return nil, err
		}
	}
	if doubtful {
		halted = cmp.Or(halted, "a call for this unit is in doubt: it may have been paid for, and is not made again by itself (monitor cost)")
	}
	most += int(claude.Allowance(l.effort(f.Kind)))
	paid := h.spec.Paid
	if m := l.table.Names(f); len(paid) > 0 && strings.HasPrefix(m, "claude-") && !slices.Contains(paid, m) {
		paid = append(slices.Clone(paid), m) // who sends something to a model means that it may be asked
	}
	for _, m := range paid {
		batch := h.spec.Later
		a := router.Arm{Lane: router.Claude, Model: m, Batch: batch}
		c := router.Candidate{Arm: a, Window: 1_000_000, Paid: true, Remote: true, Family: m, Strength: claudeStrength(m), Stopped: halted, Time: cmp.Or(habits[m].took, guessPaid)}
		if batch {
			c.Time = time.Second // its day is nobody's
		}
		expected, err := l.purse.book.Cost(cost.Call{Model: m, At: now, Batch: batch, Tokens: habits[m].tokens(f)})
		if err == nil {
			c.Worst, err = l.purse.book.Worst(cost.AtMost{Model: m, At: now, Batch: batch, Prompt: int64(bytes), Output: int64(most)})
		}
		c.Cost, c.CostKnown = expected.Money, err == nil
		l.mu.Lock()
		seen(&c)
		l.mu.Unlock()
		out = append(out, c)
	}
	return out, nil
}

// localArm is the local model as an arm, before anything was seen of it.
func (h *hands) localArm(f router.Facts, here int) router.Candidate {
	c := router.Candidate{
		Prompt: here,
		Arm:    router.Arm{Lane: router.Local, Model: h.model.Name, BestOf: bestOfArm(h.bestOf)}, Window: h.model.Window, Family: h.traits.family, Strength: h.traits.strength, Remote: h.traits.remote,
		Time: time.Duration(here)*time.Second/guessRead + time.Duration(f.Output)*time.Second/guessWrite,
	}
	if f.Kind == "confirm" && h.traits.strength == 0 {
		c.Stopped = "it is only for trying things out: its opinion counts for nothing"
	}
	return c
}

// bestOfArm is how an arm says that one worker is asked.
func bestOfArm(n int) int {
	if n < 2 {
		return 0
	}
	return n
}

// doubtful says whether a call for a unit of this job is in doubt.
func (h *hands) doubtful(ctx context.Context, unit string) (bool, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.notes.doubts == nil {
		b := h.lanes.purse.books
		// Whoever asks runs the job: what is open was left by a process that died.
		if _, err := b.Doubt(ctx, h.flow, "its process ended before the answer came"); err != nil {
			return false, err
		}
		all, err := b.Intents(ctx, h.flow, store.IntentDoubt)
		if err != nil {
			return false, err
		}
		h.notes.doubts = map[string]bool{}
		for _, k := range all {
			h.notes.doubts[k.Unit] = true
		}
		if n := len(all); n > 0 {
			h.lanes.say(fmt.Sprintf("%s of job %s in doubt: the process ended before the answer came. What is in doubt counts at its worst against the budget and is not asked again by itself (monitor cost --job %s)", plural(n, "call"), h.flow, h.flow))
		}
	}
	return h.notes.doubts[unit], nil
}

// carrying is one task on its way through its arms.
type carrying struct {
	h     *hands
	t     pipeline.Task
	facts router.Facts
	bill  bill

	calls    []job.Call         // not stored yet
	kept     *pipeline.Answered // the best answer so far
	outcomes []router.Outcome
	fatal    error // the local crew cannot be had
	soft     bool  // some arm may do better another time
	stopped  error // Claude's lane has stopped, for all units
	alone    bool  // nobody but Claude may do it
	expired  bool  // a batch with it did: no second one holds the deadline
}

// cascade carries a task through the router's arms.
func (h *hands) cascade(ctx context.Context, t pipeline.Task) (pipeline.Answered, error) {
	now := time.Now()
	probe := t.Request(pipeline.Worker{Attempt: 1}, "")
	bytes := sizeOf(probe)
	c := &carrying{h: h, t: t, bill: bill{job: h.flow, unit: t.Unit, kind: t.Kind, attempt: t.Attempt, limits: costCommands{h.p}.limits(h.flow, h.spec, now)}}
	c.facts = router.Facts{
		Kind: t.Kind, Language: t.Language, Path: t.Path, Private: t.Private, Prompt: bytes / 3, Output: max(1, probe.MaxTokens/3),
		Policy: router.Policy(h.spec.Policy), Pin: h.spec.Pin, Later: h.spec.Later, Hour: h.lanes.hour,
	}
	if t.Unlike != "" {
		c.facts.Unlike = h.familyOf(t.Unlike)
	}
	for _, l := range c.bill.limits {
		s, err := h.lanes.purse.books.Spent(ctx, l)
		if err != nil {
			return pipeline.Answered{}, err
		}
		left := max(0, l.Amount-s.Settled-s.Doubtful) // calls on their way will have given back what they do not need
		if c.facts.Budget == nil || left < *c.facts.Budget {
			c.facts.Budget, c.facts.InDoubt, c.facts.BudgetOf = &left, s.Doubtful, ""
			if l.Job == "" {
				c.facts.BudgetOf = l.Name
			}
		}
	}
	if c.facts.Budget != nil {
		h.mu.Lock()
		c.facts.Lambda = h.notes.pace.Lambda()
		h.mu.Unlock()
	}
	here := max(1, sizeOf(t.Request(pipeline.Worker{Local: true, Attempt: 1}, ""))/3)
	all, err := h.candidates(ctx, t, c.facts, here, bytes+promptRoom, probe.MaxTokens)
	if err != nil {
		return pipeline.Answered{}, err
	}
	if h.lanes.learner != nil {
		for i := range all {
			all[i].Seen, all[i].After = router.Seen{}, [3]router.Seen{} // it would count twice
		}
	}
	d, err := h.lanes.table.Decide(c.facts, all)
	if no := (*router.NoArmError)(nil); errors.As(err, &no) {
		c.keep(ctx, router.Trail{Decision: d, Steps: []router.Step{{Action: router.Park, Why: no.Error()}}})
		if why := h.lanes.halting(); why != "" && h.wouldDo(t, c.facts, all) {
			return pipeline.Answered{}, stoppedLane(why, no)
		}
		return pipeline.Answered{}, &job.Failure{Park: true, Err: no, Reason: no.Error()}
	} else if err != nil {
		return pipeline.Answered{}, err
	}
	d = h.lanes.learned(d, t)
	c.alone = !slices.ContainsFunc(d.Arms, func(r router.Ranked) bool { return !r.Paid })
	trail, err := router.Run(ctx, d, c)
	c.keep(ctx, trail)
	c.pace(ctx)
	if err != nil {
		return pipeline.Answered{Calls: c.calls}, err
	}
	switch end := trail.End(); {
	case end.Action == router.Accept, end.Action == router.Keep:
		out := *c.kept
		out.Calls = c.calls
		return out, nil
	case c.stopped != nil:
		return pipeline.Answered{Calls: c.calls}, stoppedLane(c.stopped.Error(), c.stopped)
	default:
		f := &job.Failure{Park: !c.soft, Reason: end.Why, Err: c.fatal, Fatal: c.fatal != nil && len(h.spec.Paid) == 0}
		return pipeline.Answered{Calls: c.calls}, f
	}
}

// wouldDo says whether somebody might do a task if Claude's lane had not stopped.
func (h *hands) wouldDo(t pipeline.Task, f router.Facts, all []router.Candidate) bool {
	h.mu.Lock()
	doubtful := h.notes.doubts[t.Unit]
	h.mu.Unlock()
	if doubtful { // its arms are out for that
		return false
	}
	all = slices.Clone(all)
	for i := range all {
		if all[i].Lane == router.Claude {
			all[i].Stopped = ""
		}
	}
	_, err := h.lanes.table.Decide(f, all)
	return err == nil
}

// stoppedLane ends a job that needs a lane which answers nobody: its units wait, none is
// given up for it.
func stoppedLane(why string, err error) *job.Failure {
	return &job.Failure{Fatal: true, Err: err, Reason: "Claude does not answer and nobody else may do what is left: " + why}
}

// halting is why Claude is not asked any more; "" while it is.
func (l *lanes) halting() string {
	l.mu.Lock()
	halted := l.halted
	l.mu.Unlock()
	if s := l.purse.lane.State(); halted == "" && !s.StoppedUntil.IsZero() {
		return s.Why
	}
	if err := l.out.now(); halted == "" && err != nil {
		return err.Error()
	}
	return halted
}

// learned puts a decision's arms into the order that the outcomes taught, where that is
// on. The dice are the unit's, so that the same outcomes give the same order.
func (l *lanes) learned(d router.Decision, t pipeline.Task) router.Decision {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.learner == nil {
		return d
	}
	h := fnv.New64a()
	fmt.Fprint(h, t.Job, "\x00", t.Unit)
	return l.learner.Order(d, rand.New(rand.NewPCG(h.Sum64(), uint64(t.Attempt))))
}

// sizeOf is how many bytes a question has: no fewer than tokens, about three of them one.
func sizeOf(r llm.Request) int {
	n := len(r.Schema)
	for _, m := range r.Messages {
		n += len(m.Text)
	}
	return n
}

// promptRoom is what the lane reckons with beyond a prompt's bytes: the frame of a request.
const promptRoom = 4_000

// effort is how much a kind of task lets a model think.
func (l *lanes) effort(kind string) string {
	for _, k := range l.table.KindsOf() {
		if k.Name == kind {
			return k.Effort
		}
	}
	return ""
}

// keep stores what was decided and what came of it.
func (c *carrying) keep(ctx context.Context, t router.Trail) {
	ctx = context.WithoutCancel(ctx)
	body, err := json.Marshal(t)
	if err == nil {
		model := ""
		if len(t.Decision.Arms) > 0 {
			model = t.Decision.Arms[0].Model
		}
		err = c.h.lanes.store.Decisions().Add(ctx, []store.Decision{{At: time.Now(), What: "route", Request: routeID(c.h.flow, c.t.Unit), Model: model, Body: body}})
	}
	var rows []store.Outcome
	for _, o := range c.outcomes {
		b, e := json.Marshal(o)
		err = errors.Join(err, e)
		rows = append(rows, store.Outcome{At: time.Now(), Source: "work", Kind: o.Kind, Body: b})
		c.h.lanes.mu.Lock()
		c.h.lanes.memory.Add(o)
		if c.h.lanes.learner != nil {
			c.h.lanes.learner.Add(o)
		}
		c.h.lanes.mu.Unlock()
	}
	if len(rows) > 0 {
		err = errors.Join(err, store.OutcomesOf(c.h.lanes.store).Add(ctx, rows))
	}
	if err != nil {
		c.h.lanes.say(fmt.Sprintf("what was decided could not be stored, and cannot be explained later: %v", err))
	}
}

// pace tells the job's pacer what the task cost, and what it might have: its share of what
// is left of the tightest budget.
func (c *carrying) pace(ctx context.Context) {
	if c.facts.Budget == nil {
		return
	}
	j, err := c.h.p.jobs.Get(context.WithoutCancel(ctx), c.h.flow)
	if err != nil {
		return // it is advice
	}
	var spent cost.Money
	for _, o := range c.outcomes {
		spent += o.Cost
	}
	left := max(1, j.Units.Total-j.Units.Done-j.Units.Cached-j.Units.Parked)
	c.h.mu.Lock()
	defer c.h.mu.Unlock()
	c.h.notes.pace.Spent(spent, *c.facts.Budget/cost.Money(left))
}

// routeID is the name under which `monitor explain` finds a unit's decisions.
func routeID(job, unit string) string { return job + "/" + unit }

// Place implements router.Runner. A call in a batch waits with all others of its batch
// and takes no worker's place.
func (c *carrying) Place(ctx context.Context, arms []router.Ranked, f router.Facts) (router.Ranked, string, func(), error) {
	if arms[0].Batch {
		return arms[0], "in a batch", func() {}, nil
	}
	if f.Later { // waiting costs nobody anything, so nothing is dearer for being free
		arms = arms[:1]
	}
	return c.h.lanes.desk.Take(ctx, arms, f.Hour)
}

// Relieve implements router.Runner.
func (c *carrying) Relieve(ctx context.Context, o router.Over) (router.Ranked, string, func(), error) {
	return c.h.lanes.desk.Relieve(ctx, o)
}

// Try implements router.Runner.
func (c *carrying) Try(ctx context.Context, arm router.Ranked, evidence string, repair bool) (router.Verdict, error) {
	began := time.Now()
	var ans pipeline.Answered
	var err error
	if arm.Lane == router.Local {
		ans, err = c.tryLocal(ctx, arm, evidence, repair)
	} else {
		ans, err = c.tryClaude(ctx, &arm, evidence)
	}
	if err != nil && ctx.Err() != nil {
		return router.Verdict{}, err
	}
	v := c.verdict(ans, err)
	if ans.Verdict.Usable || v.Passed {
		c.kept = &ans
	}
	o := router.Outcome{
		Task: c.t.Unit, Kind: c.t.Kind, Language: c.t.Language, Prompt: c.facts.Prompt, Arm: arm.Arm, Failures: c.failures(arm.Arm), Repair: repair, Passed: v.Passed, Class: v.Class, Took: time.Since(began),
		Tokens: cost.Tokens{Fresh: int64(ans.Usage.PromptTokens - ans.Usage.CachedTokens), Read: int64(ans.Usage.CachedTokens), Output: int64(ans.Usage.OutputTokens)},
	}
	if n := len(ans.Calls); n > 0 && ans.Calls[n-1].Cost != nil {
		o.Cost, o.CostKnown = cost.Money(*ans.Calls[n-1].Cost), true
	}
	if u := ans.Usage; !o.CostKnown && err == nil && arm.Lane == router.Claude { // it did not pass: its call is in the ledger by itself
		charged, e := c.h.lanes.purse.book.Cost(cost.Call{Model: arm.Model, At: began, Batch: arm.Batch, Tokens: cost.Tokens{
			Fresh: int64(u.PromptTokens - u.CachedTokens - u.Written5m - u.Written1h), Write5m: int64(u.Written5m), Write1h: int64(u.Written1h), Read: int64(u.CachedTokens), Output: int64(u.OutputTokens),
		}})
		o.Cost, o.CostKnown = charged.Money, e == nil
	}
	c.outcomes = append(c.outcomes, o)
	if err == nil {
		c.h.lanes.used(o)
	}
	return v, nil
}

// failures is how many other arms failed at the task before, in a way that says something
// about it.
func (c *carrying) failures(now router.Arm) int {
	failed := map[router.Arm]bool{}
	for _, o := range c.outcomes {
		if o.Arm != now && (o.Class == router.Syntax || o.Class == router.Content) {
			failed[o.Arm] = true
		}
	}
	return len(failed)
}

// cacheFor is how long the shared beginning of a prompt is to be kept at Claude's: five
// minutes where enough of the job is left that writing it costs less than sending it
// fresh each time, else not at all.
func (c *carrying) cacheFor(model string, r llm.Request) time.Duration {
	shared := 0
	for _, m := range r.Messages[:r.Shared] {
		shared += len(m.Text)
	}
	rates, err := c.h.lanes.purse.book.Rates(model, time.Now(), int64(c.facts.Prompt))
	if err != nil {
		return 0
	}
	left := int64(2) // until the first unit has ended
	if j, err := c.h.p.jobs.Get(context.Background(), c.h.flow); err == nil {
		left = int64(j.Units.Total - j.Units.Done - j.Units.Cached - j.Units.Parked)
	}
	if worth, _ := rates.Warm(int64(shared/3), left, false); worth {
		return 5 * time.Minute
	}
	return 0
}

// verdict says as data what became of an attempt.
func (c *carrying) verdict(ans pipeline.Answered, err error) router.Verdict {
	if err != nil {
		v := router.Verdict{Class: router.Unavailable, Evidence: err.Error()}
		var over *store.OverLimit
		switch {
		case errors.Is(err, errDoubt):
			v.Class = router.Doubt
			c.h.mu.Lock()
			c.h.notes.doubts[c.t.Unit] = true
			c.h.mu.Unlock()
			c.h.lanes.say(fmt.Sprintf("a call of job %s is in doubt: it was cut off before Claude said whether it counts. It counts at its worst against the budget, and its unit is not sent to Claude again in this job (monitor cost --job %s)", c.h.flow, c.h.flow))
		case errors.As(err, &over):
			v.Class = router.OverBudget
			c.h.lanes.say(over.Error() + "; what is left goes to the local model, or is parked")
		default:
			switch llm.KindOf(err) {
			case llm.Refused:
				v.Class = router.Refusal
			case llm.TooLong:
				v.Class = router.Overflow
			case llm.Timeout:
				v.Class = router.Timeout
			case llm.BadRequest, llm.Auth, llm.SpendCap:
			default:
				c.soft = c.fatal == nil
			}
		}
		return v
	}
	v := router.Verdict{Passed: ans.Verdict.Passed(), Usable: ans.Verdict.Usable}
	for _, k := range ans.Verdict.Checks {
		v.Checks = append(v.Checks, router.Check(k))
		if k.Passed || v.Class != "" {
			continue
		}
		v.Evidence = k.Evidence
		switch k.Name {
		case "whole":
			v.Class = router.Overflow
		case "schema":
			v.Class = router.Syntax
		default:
			v.Class = router.Content
		}
	}
	return v
}

// familyOf names the family of a model that answered.
func (h *hands) familyOf(model string) string {
	if model == h.model.Name {
		return h.traits.family
	}
	return model // Claude may judge what another of its models said, but not itself
}
