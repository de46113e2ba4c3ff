package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/term"

	"monitor/internal/cost"
	"monitor/internal/pipeline"
	"monitor/internal/router"
)

// An order says which lanes may answer; here its words become an AnalyzeSpec's.

// laneFlags are the flags of analyze that choose lanes.
type laneFlags struct {
	policy, pin, budget, deadline string
	private                       []string
	confirm                       int
	shrink                        bool
}

// noBudget is what --budget is where nobody gave one.
const noBudget = "the config's"

// policyNames are the policies as a sentence has them.
func policyNames() string {
	var names []string
	for _, n := range router.Policies() {
		names = append(names, string(n))
	}
	return strings.Join(names[:len(names)-1], ", ") + " or " + names[len(names)-1]
}

// defaultBudget is what a job may cost when nobody set a budget anywhere: enough to see
// what Claude adds, too little to regret.
const defaultBudget = cost.Dollar

// usualConfirm is how many findings a model of another family is asked about.
const usualConfirm = 5

// order puts the flags into a spec, as far as they are about lanes. Who may be asked is
// settled where the job will run (settle).
func (f laneFlags) order(p *Program, spec *pipeline.AnalyzeSpec) error {
	given, err := privateGiven(spec.Root, p.Dir, f.private)
	if err != nil {
		return err
	}
	spec.Private = append(privateSet(spec.Root, p.settings.Private), given...)
	spec.Confirm = f.confirm
	spec.Lanes = pipeline.LanesSpec{Policy: f.policy, Pin: f.pin, Shrink: f.shrink}
	if f.policy != "" && !slices.Contains(router.Policies(), router.Policy(f.policy)) {
		return usage("--policy %s: give %s", f.policy, policyNames())
	}
	if f.budget != noBudget { // an empty one is a script's variable that is not set
		m, err := cost.ParseMoney(f.budget)
		if err != nil || m <= 0 {
			return usage("--budget %q: give dollars, as in 0.50; to spend nothing, --policy local-only", f.budget)
		}
		spec.Lanes.Budget = int64(m)
	}
	later, err := deadline(f.deadline, time.Now())
	if err == nil && f.deadline != "" && !later {
		fmt.Fprintln(p.Stderr, "A batch may take a day, and the deadline is sooner: all is asked at once, at the full price.")
	}
	spec.Lanes.Later = later
	return err
}

// batchTime is what Anthropic takes for a batch at most.
const batchTime = 24 * time.Hour

// deadline says whether an answer may wait for a batch.
func deadline(s string, now time.Time) (later bool, err error) {
	if s == "" {
		return false, nil
	}
	if s == "tomorrow" {
		return true, nil
	}
	if d, err := time.ParseDuration(s); err == nil && d > 0 {
		return d >= batchTime, nil
	}
	if t, err := time.ParseInLocation("2006-01-02 15:04", s, now.Location()); err == nil && t.After(now) {
		return t.Sub(now) >= batchTime, nil
	}
	if t, err := time.ParseInLocation(time.DateOnly, s, now.Location()); err == nil && t.After(now) {
		return t.Sub(now) >= batchTime, nil
	}
	return false, usage("--deadline %s: give tomorrow, a time such as 36h, or a day such as 2026-11-28 that is still to come", s)
}

// pinsClaude says that a pin is Claude, or one of its models.
func pinsClaude(pin string) bool {
	return pin == string(router.Claude) || strings.HasPrefix(pin, "claude-")
}

// wantsClaude says whether an order may go to Claude, and whether to nobody else.
func wantsClaude(l pipeline.LanesSpec) (may, only bool) {
	claudePin := pinsClaude(l.Pin)
	switch {
	case l.Policy == string(router.LocalOnly), l.Pin != "" && !claudePin:
		return false, false
	case l.Policy == string(router.ClaudeOnly), claudePin:
		return true, true
	}
	return true, false
}

// settle decides which of Claude's models an order may ask. l is nil where there is no key.
func (p analysis) settle(spec *pipeline.AnalyzeSpec, l *lanes) error {
	s := &spec.Lanes
	s.Policy = cmp.Or(s.Policy, p.settings.Route.Policy)
	may, only := wantsClaude(*s)
	pinned := pinsClaude(s.Pin)
	switch {
	case s.Policy == string(router.LocalOnly) && pinned, s.Policy == string(router.ClaudeOnly) && s.Pin != "" && !pinned:
		return usage("--lane %s and the policy %s exclude each other", s.Pin, s.Policy)
	case s.Pin != "" && !pinned && s.Pin != string(router.Local) && s.Pin != spec.Model.Name:
		return usage("--lane %s: give local, claude, a model of Claude's, or the local model (%s)", s.Pin, spec.Model.Name)
	}
	switch {
	case l == nil && only:
		return noKey()
	case !may, l == nil, spec.Model.Name == "" && !only && !spec.Lanes.Alone:
		switch {
		case l == nil && p.needsLanes(*s, false) && (s.Budget > 0 || s.Later || s.Shrink):
			fmt.Fprintln(p.Stderr, "There is no key to Claude (monitor claude login): --budget, --deadline and --shrink change nothing.")
		case l != nil && may:
			fmt.Fprintln(p.Stderr, "No model is asked, Claude neither (model: none); --policy claude-only asks Claude alone.")
		}
		s.Paid, s.Budget, s.Later = nil, 0, false
		spec.Confirm = max(0, spec.Confirm)
		if spec.Confirm > 0 {
			return usage("--confirm needs a model of another family than the local one: a key to Claude (monitor claude login) and a policy that allows it")
		}
		return nil
	}
	now := time.Now()
	s.Paid = costCommands(p).claudeModels()
	if strings.HasPrefix(s.Pin, "claude-") && !slices.Contains(s.Paid, s.Pin) {
		s.Paid = append(slices.Clone(s.Paid), s.Pin)
	}
	for _, m := range s.Paid {
		if _, err := l.purse.book.Rates(m, now, 0); err != nil {
			return usage("%w (--lane or claude.models of the config name it)", err)
		}
	}
	if only {
		spec.Model = pipeline.ModelSpec{}
	}
	lonely := strings.HasPrefix(s.Pin, "claude-") || only && len(s.Paid) == 1
	switch {
	case lonely && spec.Confirm > 0:
		return usage("--confirm asks another model than the one that found something, and only %s may be asked: give up --lane, or --confirm", cmp.Or(s.Pin, s.Paid[0]))
	case spec.Confirm < 0 && lonely:
		spec.Confirm = 0
	case spec.Confirm < 0:
		spec.Confirm = usualConfirm
	}
	if s.Budget == 0 && p.settings.Cost.Job == "" {
		s.Budget = int64(defaultBudget)
	}
	return nil
}

// atTerminal asks whoever sits there; where nobody does, the answer is no.
func (p analysis) atTerminal(question string) bool {
	f, ok := p.Stdin.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return false
	}
	fmt.Fprintf(p.Stderr, "%s [y/N] ", question)
	line, _ := bufio.NewReader(p.Stdin).ReadString('\n')
	line = strings.ToLower(strings.TrimSpace(line))
	return line == "y" || line == "yes"
}

func nobody(string) bool { return false }

// traits are what the router knows of the local model.
type traits struct {
	family   string
	strength int
	// remote: its engine is a server on another machine.
	remote bool
}

// traitsOf looks a local model up.
func (p analysis) traitsOf(m pipeline.ModelSpec) traits {
	t := traits{family: m.Name, strength: strengthOf(m, 0), remote: elsewhere(p.settings.Engine.URL)}
	if cat, err := p.catalogue(); err == nil {
		if row, err := cat.Model(m.Name); err == nil {
			t.family, t.strength = row.Architecture, strengthOf(m, row.Parameters)
			return t
		}
	}
	if in, err := p.library().Find(m.Name); err == nil && in.Architecture != "" {
		t.family, t.strength = in.Architecture, strengthOf(m, in.Bytes()) // about a byte a weight
	}
	return t
}

// elsewhere says that an address is of another machine.
func elsewhere(address string) bool {
	u, err := url.Parse(address)
	if address == "" || err != nil {
		return address != ""
	}
	ip := net.ParseIP(u.Hostname())
	return u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback())
}

// stays refuses an order that must stay on this machine where the engine is on another.
// Every way to run a job goes through equip, which asks it: analyze, jobs resume, serve.
func stays(spec pipeline.AnalyzeSpec, engine string) error {
	if spec.Lanes.Policy != string(router.LocalOnly) || spec.Model.Name == "" || !elsewhere(engine) {
		return nil
	}
	return usage("the policy local-only lets nothing leave this machine, and engine.url (%s) is another machine: remove engine.url, or choose another policy", engine)
}

func noKey() error {
	return missing("Claude is to answer and there is no key to it; type: monitor claude login")
}

// sayWhatAKeyAdds says it once in the life of a data folder.
func (p analysis) sayWhatAKeyAdds() {
	mark := filepath.Join(p.folders.Data, "said-claude")
	if f, err := os.OpenFile(mark, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600); err == nil {
		_ = f.Close()
		fmt.Fprintln(p.Stderr, whatAKeyAdds)
	}
}

// equip gives a job its lanes: those of this process, opened now unless they are given.
func (p analysis) equip(ctx context.Context, w work, spec pipeline.AnalyzeSpec, l *lanes) error {
	if err := stays(spec, p.settings.Engine.URL); err != nil {
		return err
	}
	w.crew.spec = spec.Lanes
	w.crew.traits = p.traitsOf(spec.Model)
	if len(spec.Lanes.Paid) == 0 {
		return nil
	}
	if l == nil {
		return missing("the job may ask Claude, and there is no key to it any more; type: monitor claude login")
	}
	w.crew.lanes = l
	if spec.Model.Name != "" {
		l.desk.Places(router.Arm{Lane: router.Local, Model: spec.Model.Name}, max(1, spec.Model.Workers))
	}
	return nil
}

// needsLanes says whether an order, or a job that goes on, may ask anybody but the local
// model.
func (p analysis) needsLanes(s pipeline.LanesSpec, resumed bool) bool {
	s.Policy = cmp.Or(s.Policy, p.settings.Route.Policy)
	may, _ := wantsClaude(s)
	return may && !(resumed && len(s.Paid) == 0)
}

// lanesFor opens the lanes that an order may need; nil where it may not, or without a key.
func (p analysis) lanesFor(ctx context.Context, s pipeline.LanesSpec, resumed bool) (*lanes, error) {
	if !p.needsLanes(s, resumed) {
		return nil, nil
	}
	return p.openLanes(ctx, func(format string, a ...any) { fmt.Fprintf(p.Stderr, "monitor: "+format+"\n", a...) })
}

// close ends what the lanes began.
func (l *lanes) close() {
	if l != nil {
		l.batch.close()
	}
}

// workers is how many units of a job are at work at once: twice as many as there are
// places, since one that waits for a lane's place must not keep another from a lane that
// is free; and all that share a batch.
func (w work) workers(spec pipeline.AnalyzeSpec, asked int) int {
	n := cmp.Or(asked, spec.Model.Workers)
	if l := w.crew.lanes; l != nil {
		n = 2 * (n + cmp.Or(w.crew.p.settings.Claude.Workers, 3))
		if spec.Lanes.Later {
			n = max(n, unitsInBatches)
		}
	}
	return max(1, n)
}

// unitsInBatches is how many units wait for batches at once: each is a goroutine.
const unitsInBatches = 1000

// localModel is the local model of an order; where Claude may do without, none is no
// error.
func (p analysis) localModel(ctx context.Context, name string, workers int, spec *pipeline.AnalyzeSpec, l *lanes) error {
	_, only := wantsClaude(spec.Lanes)
	switch {
	case only && l == nil: // before a local model is missed that nobody asked for
		return noKey()
	case only:
		return nil
	}
	asks := *spec // before anything is asked of an engine that may be another machine's
	asks.Model.Name, asks.Lanes.Policy = cmp.Or(name, p.settings.Model, "the default"), cmp.Or(spec.Lanes.Policy, p.settings.Route.Policy)
	err := error(nil)
	if asks.Model.Name != "none" {
		err = stays(asks, p.settings.Engine.URL)
	}
	if err != nil {
		return err
	}
	spec.Model, err = p.chooseModel(ctx, name, workers)
	var c *coded
	if err != nil && l != nil && name == "" && errors.As(err, &c) && c.code == exitMissing {
		spec.Lanes.Alone = true
		fmt.Fprintf(p.Stderr, "No local model is here (monitor setup): Claude does all of it.\n")
		return nil
	}
	return err
}
