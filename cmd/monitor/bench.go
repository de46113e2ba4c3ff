package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"monitor/internal/crew"
	"monitor/internal/engine"
	"monitor/internal/gguf"
	"monitor/internal/gpu"
	"monitor/internal/llm"
	"monitor/internal/memory"
	"monitor/internal/pipeline"
	"monitor/internal/placement"
	"monitor/internal/runner"
	"monitor/internal/scheduler"
	"monitor/internal/store"
)

// benchCommand is `monitor bench`: the speed-up of the crew on this machine,
// measured. (The project's own promised figures are another thing: make bench.)
type benchCommand struct{ *Program }

type benchFlags struct {
	model, kv, plot string
	slots           []int
	prompt, answer  int
	rounds          int
	list, json      bool
}

const (
	// benchAnswers is how many answers each worker gives in a round: the last one of
	// a round is written beside idle workers, so that it must not be the only one.
	benchAnswers = 3
	benchWorkers = 64 // at most, as in a plan
)

func (p benchCommand) command() *cobra.Command {
	var f benchFlags
	c := &cobra.Command{
		Use: "bench", Short: "Measure how fast the crew writes with 1, 2, 4, … workers, and how many suit this machine",
		Long: "Starts the engine once with the largest number of slots and lets 1, 2, 4, … workers answer prompts at the same\n" +
			"time, in rounds: each number through the crew and then straight to the engine, with the same prompts, so that a busy\n" +
			"moment of the machine hits both. Each request has a number of its own at its start, so that nothing is answered from a cache.\n\n" +
			"What was measured is stored: monitor plan takes it instead of its estimate, and where there is no graphics card\n" +
			"monitor analyze takes the recommended number of workers. Recommended is the smallest number that writes within 5 % of\n" +
			"the most, or within the noise of the rounds. Nothing else should work meanwhile: what is too noisy nobody takes.",
		Example: "  monitor bench\n  monitor bench --model smollm2-135m --slots 1,2,4,8 --plot speed.svg\n  monitor bench --list",
		Args:    cobra.NoArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return p.bench(c.Context(), f) },
	}
	c.Flags().StringVar(&f.model, "model", "", "model to measure (`NAME`); left out: the one that an analysis would take")
	c.Flags().IntSliceVar(&f.slots, "slots", nil, "the `NUMBERS` of workers; left out: 1,2,4,8, and 16 with a graphics card")
	c.Flags().IntVar(&f.prompt, "prompt-tokens", 150, "`TOKENS` of a prompt, by the engine's count")
	c.Flags().IntVar(&f.answer, "answer-tokens", 64, "most `TOKENS` of an answer")
	c.Flags().IntVar(&f.rounds, "rounds", 3, "how often everything is measured; the median counts")
	c.Flags().StringVar(&f.kv, "kv", "f16", "`TYPE` of the cache: f16, q8_0 or q4_0")
	c.Flags().StringVar(&f.plot, "plot", "", "draw the curve into this `FILE`.svg")
	c.Flags().BoolVar(&f.list, "list", false, "print what was measured before, and measure nothing")
	c.Flags().BoolVar(&f.json, "json", false, "print as JSON")
	return c
}

// check says what is wrong with the flags, and puts the numbers in order.
func (f *benchFlags) check(card bool) error {
	if len(f.slots) == 0 {
		f.slots = []int{1, 2, 4, 8}
		if card {
			f.slots = append(f.slots, 16)
		}
	}
	slices.Sort(f.slots)
	f.slots = slices.Compact(f.slots)
	switch last := f.slots[len(f.slots)-1]; {
	case f.slots[0] < 1 || last > benchWorkers:
		return usage("--slots: give numbers of workers from 1 to %d", benchWorkers)
	case f.rounds < 1 || f.rounds > 100:
		return usage("--rounds %d: give 1 to 100", f.rounds)
	case f.prompt < 1 || f.prompt > 1<<20 || f.answer < 1 || f.answer > 1<<20:
		return usage("--prompt-tokens %d, --answer-tokens %d: give 1 to %d", f.prompt, f.answer, 1<<20)
	case !slices.Contains([]string{"f16", "q8_0", "q4_0"}, f.kv):
		return usage("--kv is f16, q8_0 or q4_0, not %q", f.kv)
	case f.plot != "" && !strings.HasSuffix(strings.ToLower(f.plot), ".svg"):
		return usage("--plot %s: give the name of a file that ends in .svg", f.plot)
	}
	return nil
}

func (p benchCommand) bench(ctx context.Context, f benchFlags) error {
	if err := p.readSettings(); err != nil {
		return err
	}
	if f.list {
		return p.list(ctx, f.json)
	}
	if err := f.check(p.machine(ctx).VRAMBytes > 0); err != nil {
		return err
	}
	if err := p.openStore(ctx, true); err != nil {
		return err
	}
	spec, err := p.chooseModel(ctx, f.model, f.slots[len(f.slots)-1])
	if err != nil {
		return err
	}
	if spec.Name == "" {
		return usage("`monitor bench` measures a model, and the model is none; give --model NAME (monitor models list)")
	}
	// Half a curve is none: the first signal ends it, and nothing is stored.
	ctx, _, release := untilSignal(ctx, p.Program)
	defer release()
	b, err := p.measure(ctx, spec, f)
	if err != nil {
		return err
	}
	if err := p.remember(ctx, b); err != nil {
		return err
	}
	if f.plot != "" {
		if err := os.WriteFile(p.path(f.plot), []byte(benchSVG(b)), 0o644); err != nil {
			return fmt.Errorf("the measurement is stored (monitor bench --list), but not drawn: %w", err)
		}
	}
	if f.json {
		return p.json(b)
	}
	return writeBench(p.Stdout, b, speaksUTF8(p.Getenv))
}

// measure starts the engine, measures and ends it.
func (p benchCommand) measure(ctx context.Context, spec pipeline.ModelSpec, f benchFlags) (b benchJSON, err error) {
	e, err := p.findEngine(ctx)
	if err != nil {
		return b, err
	}
	most := f.slots[len(f.slots)-1]
	// The chat template's marks, and prompts that come out longer than they were meant.
	spec.Workers, spec.Window, spec.KV = most, f.prompt*5/4+f.answer+128, strings.TrimPrefix(f.kv, "f16")
	c := p.runnerConfig(ctx, e, spec)
	r, w, done, err := p.benchCrew(ctx, e, spec)
	if err != nil {
		return b, err
	}
	defer func() { err = errors.Join(err, done()) }()
	info := r.Info()
	if info.Slots < most {
		return b, usage("the server at engine.url has %d slots; give --slots up to %d", info.Slots, info.Slots)
	}
	prompts, err := newBenchPrompts(ctx, benchAnswers*most, f.prompt, f.answer, r.Count)
	if err != nil {
		return b, err
	}
	run := benchRun{prompts: prompts, crew: throughCrew(crewModel{w, spec.Name}), direct: straight(r, info.Model)}
	if _, err := run.round(ctx, run.crew, most, most); err != nil { // every slot reads what all prompts begin with
		return b, err
	}
	rounds := map[int][]benchPair{}
	for i := range f.rounds {
		fmt.Fprintf(p.Stderr, "round %d of %d\n", i+1, f.rounds)
		for _, k := range f.slots {
			pair, err := run.pair(ctx, k, i%2 == 1)
			if err != nil {
				return b, err
			}
			rounds[k] = append(rounds[k], pair)
		}
	}
	b = benchJSON{Version: 1, Name: spec.Name, Model: spec.SHA256, Engine: cmp.Or(info.Build, e.Build, e.ID), At: time.Now().UTC().Truncate(time.Second),
		Slots: info.Slots, Window: info.Window, KV: f.kv, Rounds: f.rounds}
	if in, err := p.library().Find(spec.Name); err == nil {
		b.Quant = in.Quant
	}
	for _, k := range f.slots {
		b.Points = append(b.Points, pointOf(k, rounds[k]))
	}
	b.finish(rounds)
	c.Slots, c.Window = info.Slots, info.Window
	return b, p.place(ctx, &b, e, c, r)
}

// place says on what it was measured and under which settings, and how far the
// bandwidth of that would go.
func (p benchCommand) place(ctx context.Context, b *benchJSON, e engine.Engine, c runner.Config, r *runner.Runner) error {
	if e.Source == engine.FromURL {
		b.Card, b.Settings = "unknown", fmt.Sprintf("%d slots of a server that somebody else runs", b.Slots)
		return nil
	}
	found, err := planCommand(p).detected(ctx)
	if err != nil {
		return err
	}
	b.Engine = cmp.Or(e.Build, e.ID) // the key of what this engine took is the same
	told := r.Reserved()
	used := len(told.Cards())
	if !told.Whole && c.GPULayers != 0 {
		used = 1
	}
	card, capabilities := cardsOf(found.GPUs, used)
	b.Card = card
	b.Settings = fmt.Sprintf("-c %d -np %d -ctk %s -ctv %s", b.Slots*b.Window, b.Slots, b.KV, b.KV)
	file, err := gguf.ReadFile(c.Model.Path)
	var m *memory.Model
	if err == nil {
		m, err = memory.NewModel(file)
	}
	var s memory.Settings
	if err == nil {
		s, err = runSettings(m, c, capabilities)
	}
	var n memory.Need
	if err == nil {
		n, err = m.NeedOfAny(s, buildsOf(engine.Narrow(e.Flags.Rules(), told.Outputs, c.Slots))...)
	}
	if err != nil {
		return nil // a model that no memory model knows is measured all the same
	}
	b.Settings = settingsWords(s, n)
	if used != 1 {
		return nil
	}
	return p.ceilings(b, file, found, c)
}

// ceilings puts beside each point what the card's bandwidth allows.
func (p benchCommand) ceilings(b *benchJSON, file *gguf.File, found gpu.Machine, c runner.Config) error {
	cards, err := p.folders.cards()
	if err != nil {
		return err
	}
	m, capability := machineOf(found, cards)
	i := slices.IndexFunc(m.Devices, func(d placement.Device) bool { return d.Name == b.Card })
	v, err := placement.RealVariant(b.Quant, c.Model.Path, file, capability, memory.Build{})
	if i < 0 || err != nil || m.Devices[i].Bandwidth == 0 {
		return nil // not known
	}
	set := placement.Settings{Context: b.Slots * b.Window, Slots: b.Slots, KV: b.KV}
	for j := range b.Points {
		most, err := placement.Ceiling(v, m.Devices[i], set, b.Points[j].Workers, min(1, float64(b.filled())/float64(b.Window)))
		if err == nil && most > 0 {
			b.Points[j].Ceiling = &most
		}
	}
	return nil
}

// remember stores a curve where plans and the next analysis find it.
func (p benchCommand) remember(ctx context.Context, b benchJSON) error {
	if b.Model == "" {
		return nil
	}
	curve, err := json.Marshal(b)
	if err == nil {
		err = p.store.Measured().PutSpeed(ctx, store.Speed{SpeedKey: store.SpeedKey{Model: b.Model, Engine: b.Engine, Card: b.Card, Settings: b.Settings}, Curve: curve, At: b.At})
	}
	return err
}

// curves are the measurements of the store, the last one first. One that another
// version wrote and this one cannot read is left out.
func curves(ctx context.Context, s *store.Store) ([]benchJSON, error) {
	all, err := s.Measured().Speeds(ctx)
	if err != nil {
		return nil, err
	}
	var out []benchJSON
	for _, v := range all {
		var b benchJSON
		if json.Unmarshal(v.Curve, &b) == nil && b.Version == 1 && len(b.Points) > 0 {
			b.Model, b.Engine, b.Card, b.Settings, b.At = v.Model, v.Engine, v.Card, v.Settings, v.At
			out = append(out, b)
		}
	}
	return out, nil
}

func (p benchCommand) list(ctx context.Context, asJSON bool) error {
	if err := p.openStore(ctx, false); err != nil {
		return err
	}
	all, err := curves(ctx, p.store)
	if err != nil {
		return err
	}
	if asJSON {
		return p.json(map[string]any{"version": 1, "curves": append([]benchJSON{}, all...)})
	}
	if len(all) == 0 {
		p.printf("Nothing was measured yet. `monitor bench` measures.\n")
		return nil
	}
	w := tabwriter.NewWriter(p.Stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "MODEL\tON\tTAKE\tTOKENS/S BY WORKERS\tNOISE\tCREW/ENGINE\tMEASURED\tENGINE\tSETTINGS")
	for _, b := range all {
		var points []string
		for _, o := range b.Points {
			points = append(points, fmt.Sprintf("%d:%.0f", o.Workers, o.Rate))
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%.0f %%\t%.3f\t%s\t%s\t%s\n", printable(b.Name), printable(b.Card), b.Best, strings.Join(points, " "), 100*b.Noise, b.Ratio, b.At.Local().Format("2006-01-02 15:04"), printable(b.Engine), printable(b.Settings))
	}
	return w.Flush()
}

// measuredWorkers is the number of workers that was recommended for a model on
// this machine's processor, with the engine that would run it; 0 without one.
func (p benchCommand) measuredWorkers(ctx context.Context, sha string) (int, string) {
	if p.store == nil || sha == "" {
		return 0, ""
	}
	all, err := curves(ctx, p.store)
	if err != nil {
		return 0, ""
	}
	all = slices.DeleteFunc(all, func(b benchJSON) bool { return b.Model != sha || b.Card != cpuOnly || b.Best < 1 || b.Noise > tooNoisy })
	if len(all) == 0 {
		return 0, "" // before an engine is probed for nothing
	}
	e, err := p.findEngine(ctx)
	if err != nil {
		return 0, ""
	}
	for _, b := range all {
		if b.Engine == cmp.Or(e.Build, e.ID) {
			return b.Best, fmt.Sprintf("%s, as measured here on %s (monitor bench --list; --workers overrides)", plural(b.Best, "worker"), b.At.Local().Format(time.DateOnly))
		}
	}
	return 0, ""
}

// benchAsk asks one question one way.
type benchAsk func(context.Context, llm.Request) (benchAnswer, error)

type benchAnswer struct {
	usage llm.Usage
	first time.Duration
}

// benchRun is a measurement that goes on.
type benchRun struct {
	prompts      benchPrompts
	crew, direct benchAsk
	serial       int
}

// pair measures a number of workers both ways, the other way round in every second
// round, so that what the first leaves behind favours neither.
func (b *benchRun) pair(ctx context.Context, workers int, turned bool) (p benchPair, err error) {
	ways := []struct {
		ask benchAsk
		to  *benchRound
	}{{b.crew, &p.crew}, {b.direct, &p.direct}}
	if turned {
		slices.Reverse(ways)
	}
	for _, w := range ways {
		if *w.to, err = b.round(ctx, w.ask, workers, workers*benchAnswers); err != nil {
			return p, err
		}
	}
	return p, nil
}

// round lets so many workers answer so many prompts, each taking the next one
// when it is done.
func (b *benchRun) round(ctx context.Context, ask benchAsk, workers, answers int) (r benchRound, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var mu sync.Mutex
	var wg sync.WaitGroup
	next, serial := 0, b.serial
	b.serial += answers
	begun := time.Now()
	for range workers {
		wg.Go(func() {
			for {
				mu.Lock()
				i := next
				next++
				mu.Unlock()
				if i >= answers || ctx.Err() != nil {
					return
				}
				a, err := ask(ctx, b.prompts.request(serial+i, i))
				if err != nil {
					cancel(err)
					return
				}
				mu.Lock()
				r.answers++
				r.output += a.usage.OutputTokens
				r.prompt += a.usage.PromptTokens
				r.cached += a.usage.CachedTokens
				r.firsts = append(r.firsts, a.first)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	r.wall = time.Since(begun)
	if err := context.Cause(ctx); err != nil {
		return r, err
	}
	if r.output == 0 {
		return r, errors.New("the engine wrote no token, so there is no speed to measure; look at its log (monitor doctor says where)")
	}
	return r, nil
}

// benchCrew is a crew of one model, loaded, and the engine behind it.
func (p benchCommand) benchCrew(ctx context.Context, e engine.Engine, spec pipeline.ModelSpec) (*runner.Runner, *crew.Crew, func() error, error) {
	plan, err := planCommand(p).crewPlan(ctx, e, []pipeline.ModelSpec{spec})
	if err != nil {
		return nil, nil, nil, err
	}
	cfg, closeMore := p.crewConfig(e, plan)
	var r *runner.Runner
	remember := cfg.Measured
	cfg.Measured = func(ctx context.Context, up *runner.Runner, c runner.Config, at scheduler.Place) []scheduler.Share {
		r = up
		return remember(ctx, up, c, at)
	}
	w, err := crew.New(cfg)
	if err != nil {
		return nil, nil, nil, errors.Join(err, closeMore())
	}
	done := func() error { return errors.Join(w.Close(), closeMore()) }
	if err := w.Load(ctx, spec.Name); err != nil {
		return nil, nil, nil, errors.Join(err, done())
	}
	return r, w, done, nil
}

// crewModel is a model of a crew, asked as jobs ask.
type crewModel struct {
	crew  *crew.Crew
	model string
}

// Chat implements llm.Model.
func (m crewModel) Chat(ctx context.Context, r llm.Request) (*llm.Stream, error) {
	st, _, err := m.crew.Chat(ctx, crew.Ask{Model: m.model, Flow: "bench", Request: r})
	return st, err
}

// throughCrew asks the way that jobs do.
func throughCrew(m llm.Model) benchAsk {
	return func(ctx context.Context, q llm.Request) (benchAnswer, error) {
		begun := time.Now()
		var out benchAnswer
		s, err := m.Chat(ctx, q)
		if err != nil {
			return out, err
		}
		pieces := 0
		a, err := llm.Collect(s, func(string) {
			if pieces == 0 {
				out.first = time.Since(begun)
			}
			pieces++
		})
		out.usage = a.Usage
		out.usage.OutputTokens = cmp.Or(out.usage.OutputTokens, pieces)
		return out, err
	}
}

// straight asks the engine itself, with nothing of ours in between but the
// reading of lines. It keeps no connections, as the runner does not (newHTTP says why).
func straight(r *runner.Runner, model string) benchAsk {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	return func(ctx context.Context, q llm.Request) (out benchAnswer, err error) {
		base, key, err := r.Address(ctx)
		if err != nil {
			return out, err
		}
		messages := []map[string]string{}
		for _, m := range q.Messages {
			messages = append(messages, map[string]string{"role": string(m.Role), "content": m.Text})
		}
		body, err := json.Marshal(map[string]any{"model": model, "messages": messages, "max_tokens": q.MaxTokens, "temperature": q.Temperature,
			"stream": true, "stream_options": map[string]any{"include_usage": true}})
		if err != nil {
			return out, err
		}
		begun := time.Now()
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+"/v1/chat/completions", bytes.NewReader(body))
		if err != nil {
			return out, err
		}
		req.Header.Set("Content-Type", "application/json")
		if key != "" {
			req.Header.Set("Authorization", "Bearer "+key)
		}
		res, err := client.Do(req)
		if err != nil {
			return out, err
		}
		defer res.Body.Close()
		if res.StatusCode != http.StatusOK {
			b, _ := io.ReadAll(io.LimitReader(res.Body, 1<<10)) // for the message
			return out, fmt.Errorf("the engine, asked directly, answered HTTP %d: %.300q", res.StatusCode, b)
		}
		pieces := 0
		lines := bufio.NewScanner(io.LimitReader(res.Body, 64<<20))
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			data, ok := bytes.CutPrefix(lines.Bytes(), []byte("data: "))
			if !ok {
				continue
			}
			if bytes.Contains(data, []byte(`"content":"`)) && !bytes.Contains(data, []byte(`"content":""`)) {
				if pieces == 0 {
					out.first = time.Since(begun)
				}
				pieces++
			}
			if !bytes.Contains(data, []byte(`"usage":{`)) {
				continue
			}
			var chunk struct {
				Usage struct {
					Prompt int `json:"prompt_tokens"`
					Output int `json:"completion_tokens"`
				} `json:"usage"`
			}
			if json.Unmarshal(data, &chunk) == nil {
				out.usage.PromptTokens, out.usage.OutputTokens = chunk.Usage.Prompt, chunk.Usage.Output
			}
		}
		out.usage.OutputTokens = cmp.Or(out.usage.OutputTokens, pieces)
		return out, lines.Err()
	}
}
