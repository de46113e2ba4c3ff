package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"monitor/internal/engine"
	"monitor/internal/fetch"
	"monitor/internal/gguf"
	"monitor/internal/gpu"
	"monitor/internal/memory"
	"monitor/internal/placement"
	"monitor/internal/runner"
	"monitor/internal/store"
)

// Predictions are held against what engines say after a load, and a plan takes
// what was measured where there is such a load.

// loadTerms are the terms of a load, predicted or reported, as they are stored
// and printed.
type loadTerms struct {
	Cards []cardTerms `json:"cards"`
	Host  termsJSON   `json:"host"`
	// Output is the buffer of logits, in the host's memory.
	Output int64 `json:"output"`
	// Repacked are weights that were copied into an order that suits the processor,
	// beside Host: nobody predicts them.
	Repacked int64  `json:"repacked,omitempty"`
	Upper    string `json:"upper_estimate,omitempty"`
}

// cardTerms are those of one card, under the engine's name for it.
type cardTerms struct {
	Name string `json:"name"`
	termsJSON
}

func (t loadTerms) onCards() (sum int64) {
	for _, c := range t.Cards {
		sum += c.Total
	}
	return sum
}

func (t loadTerms) onHost() int64 { return t.Host.Total + t.Output + t.Repacked }

func predictedTerms(n memory.Need, cards []string) loadTerms {
	t := loadTerms{Cards: []cardTerms{}, Host: termsOf(n.Host), Output: n.Output, Upper: n.Upper}
	for i, c := range n.Cards {
		t.Cards = append(t.Cards, cardTerms{cards[i], termsOf(c)})
	}
	return t
}

func reportedTerms(r runner.Reserved) loadTerms {
	terms := func(p runner.Place) termsJSON {
		return termsOf(memory.Terms{Weights: p.Weights.Bytes, KV: p.KV.Bytes, State: p.State.Bytes, Compute: p.Compute.Bytes})
	}
	t := loadTerms{Cards: []cardTerms{}, Repacked: r.Place("CPU_REPACK").Weights.Bytes}
	for _, name := range r.Cards() {
		p := r.Card(name)
		p.Compute.Bytes += p.Output.Bytes
		t.Cards = append(t.Cards, cardTerms{name, terms(p)})
	}
	host := r.Host()
	host.Weights.Bytes -= t.Repacked
	t.Host, t.Output = terms(host), host.Output.Bytes
	return t
}

// settingsWords are settings as the key of a load: what the engine made of them,
// so that a flag left out and the same flag given are one.
func settingsWords(s memory.Settings, n memory.Need) string {
	var w strings.Builder
	typ := func(t *gguf.Type) gguf.Type {
		if t == nil {
			return gguf.F16
		}
		return *t
	}
	unified := "no-kvu"
	if n.Unified || n.Slots == 1 {
		unified = "kvu"
	}
	fmt.Fprintf(&w, "-c %d -np %d -%s -ctk %s -ctv %s -fa %s -b %d -ub %d", n.Context, n.Slots, unified, typ(s.K), typ(s.V), onOff(n.FlashAttention), n.Batch, n.MicroBatch)
	if s.FullWindow {
		w.WriteString(" --swa-full")
	}
	if s.Embeddings {
		fmt.Fprintf(&w, " --embeddings pooling %d", s.Pooling)
	}
	if s.Draft > 0 {
		fmt.Fprintf(&w, " --spec-draft-n-max %d", s.Draft)
	}
	cards := 1
	if s.Cards != nil {
		cards = len(s.Cards)
	}
	fmt.Fprintf(&w, ", %d cards", cards)
	if cards > 0 && s.CPULayers > 0 {
		fmt.Fprintf(&w, ", %d layers on the processor", s.CPULayers)
	}
	if cards > 0 && s.CPUExperts > 0 {
		fmt.Fprintf(&w, ", experts of %d layers on the processor", s.CPUExperts)
	}
	if len(s.Split) > 0 && cards > 1 {
		fmt.Fprintf(&w, ", split %v", s.Split)
	}
	return w.String()
}

// runSettings are the settings that the runner starts an engine with.
func runSettings(m *memory.Model, c runner.Config, cards []int) (memory.Settings, error) {
	typ := func(name string) (*gguf.Type, error) {
		if name == "" {
			return nil, nil
		}
		t, err := gguf.ParseType(name)
		return &t, err
	}
	k, err := typ(c.Reserve.K)
	if err != nil {
		return memory.Settings{}, err
	}
	v, err := typ(c.Reserve.V)
	if err != nil {
		return memory.Settings{}, err
	}
	s := memory.Settings{
		Context: int64(c.Slots * c.Window), Slots: int64(c.Slots), Unified: memory.Off, K: k, V: v,
		Batch: int64(c.Reserve.Batch), MicroBatch: int64(c.Reserve.MicroBatch), FullWindow: c.Reserve.FullWindow,
		FlashAttention: map[string]memory.Switch{"on": memory.On, "off": memory.Off}[c.Reserve.FlashAttention], Cards: cards,
	}
	if c.Reserve.Unified {
		s.Unified = memory.On
	}
	if all := int64(m.AllLayers()) + 1; c.GPULayers >= 0 {
		s.CPULayers = max(0, all-int64(c.GPULayers))
	}
	return s, nil
}

// cpuOnly is the name of a load without a card.
const cpuOnly = "cpu"

// cardsOf names the cards of a load: those of the machine, where the engine uses
// them all, or as many of one kind. used is how many it uses.
func cardsOf(gpus []gpu.Device, used int) (key string, capabilities []int) {
	if used == 0 {
		return cpuOnly, []int{}
	}
	var names []string
	for _, g := range gpus {
		names = append(names, g.Name)
	}
	kinds := slices.Compact(slices.Sorted(slices.Values(names)))
	switch {
	case len(kinds) == 0:
		key = fmt.Sprintf("%d unknown", used)
	case len(kinds) == 1:
		key = strings.Repeat(kinds[0]+" + ", used-1) + kinds[0]
	case len(names) == used:
		slices.Sort(names)
		key = strings.Join(names, " + ")
	default:
		key = fmt.Sprintf("%d of %s", used, strings.Join(kinds, ", "))
	}
	for i := range used {
		c := memory.DefaultCapability
		if len(kinds) == 1 || len(names) == used {
			c = cmp.Or(capabilityOf(gpus[min(i, len(gpus)-1)].Arch), c)
		}
		capabilities = append(capabilities, c)
	}
	return key, capabilities
}

// measureLoad compares what an engine that is ready says it reserved with what
// is predicted for it: m is its model, gpus are the machine's, held is the driver's
// figure for the process, nil without one.
func measureLoad(m *memory.Model, e engine.Engine, c runner.Config, r runner.Reserved, gpus []gpu.Device, held *int64) (store.Load, error) {
	names := r.Cards()
	card, capabilities := cardsOf(gpus, len(names))
	s, err := runSettings(m, c, capabilities)
	if err != nil {
		return store.Load{}, err
	}
	n, err := m.NeedOfAny(s, buildsOf(engine.Narrow(e.Flags.Rules(), r.Outputs, c.Slots))...)
	if err != nil {
		return store.Load{}, err
	}
	predicted, reported := predictedTerms(n, names), reportedTerms(r)
	l := store.Load{
		LoadKey: store.LoadKey{Model: c.Model.SHA256, Settings: settingsWords(s, n), Engine: cmp.Or(e.Build, e.ID), Card: card},
		OnCards: store.Sums{Predicted: predicted.onCards(), Reported: reported.onCards()},
		OnHost:  store.Sums{Predicted: predicted.onHost(), Reported: reported.onHost()},
		Driver:  held,
	}
	if l.Predicted, err = json.Marshal(predicted); err != nil {
		return store.Load{}, err
	}
	l.Reported, err = json.Marshal(reported)
	return l, err
}

// rememberLoad stores what an engine took, where its log tells (some old builds'
// does not). That this fails is no reason to stop: it is said, and plans go on with
// predictions.
func rememberLoad(ctx context.Context, p *Program, e engine.Engine, c runner.Config, run *runner.Runner) {
	r := run.Reserved()
	if p.store == nil || e.Source == engine.FromURL || !r.Whole || c.Model.SHA256 == "" {
		return
	}
	info := run.Info()
	c.Slots = info.Slots
	if !c.Reserve.Unified {
		c.Window = info.Window
	}
	var gpus []gpu.Device
	var held *int64
	if len(r.Cards()) > 0 { // a new look: what the process holds is not in the old one
		now, err := gpu.Detect(ctx, gpuConfig(p))
		if err != nil {
			return // ctx is over
		}
		gpus, held = now.GPUs, heldBy(now, info.PID)
	}
	f, err := gguf.ReadFile(c.Model.Path)
	var m *memory.Model
	if err == nil {
		m, err = memory.NewModel(f)
	}
	var l store.Load
	if err == nil {
		l, err = measureLoad(m, e, c, r, gpus, held)
	}
	if err == nil {
		l.At = time.Now()
		err = p.store.Loads().Put(ctx, l)
	}
	if err != nil && ctx.Err() == nil {
		fmt.Fprintf(p.Stderr, "What the engine took was not remembered: %v\n", err)
	}
}

// heldBy is what the driver says that a process holds on all cards, in bytes; nil
// where it does not tell of one that uses it.
func heldBy(m gpu.Machine, pid int) *int64 {
	var sum *int64
	for _, g := range m.GPUs {
		for _, u := range g.Processes {
			if u.PID != pid {
				continue
			}
			if u.Bytes == nil {
				return nil
			}
			if sum == nil {
				sum = new(int64(0))
			}
			*sum += *u.Bytes
		}
	}
	return sum
}

// measured are the loads that an engine made on this machine's cards.
type measured struct {
	engine string
	gpus   []gpu.Device
	loads  map[store.LoadKey]store.Load
	// overheads by the name of a card: what a process holds there beyond what the
	// engine reports, in bytes, the most that was seen. Not there where no driver told.
	overheads map[string]int64
	// curves are the speeds that were measured with this engine, by the model's sum, the
	// last measurement first.
	curves map[string][]placement.Curve
}

// measuredNeeds reads what was measured with an engine's build on these cards: a
// plan takes it instead of predictions.
func measuredNeeds(ctx context.Context, s *store.Store, build string, gpus []gpu.Device) (*measured, error) {
	m := &measured{engine: build, gpus: gpus, loads: map[store.LoadKey]store.Load{}, overheads: map[string]int64{}, curves: map[string][]placement.Curve{}}
	all, err := s.Loads().All(ctx)
	if err != nil {
		return nil, err
	}
	for _, l := range all {
		m.loads[l.LoadKey] = l
	}
	for _, g := range gpus {
		n, seen, err := s.Loads().Overhead(ctx, build, g.Name)
		if err != nil {
			return nil, err
		}
		if seen > 0 {
			m.overheads[g.Name] = n
		}
	}
	benches, err := curves(ctx, s)
	if err != nil {
		return nil, err
	}
	for _, b := range benches {
		if c, err := b.curve(); err == nil && b.Engine == build && b.Noise <= tooNoisy { // one that is none is of no use
			m.curves[b.Model] = append(m.curves[b.Model], c)
		}
	}
	return m, nil
}

// of corrects a prediction by what a load of exactly this took, where there was
// one: then the load is returned as well, for its predicted and measured figures. A
// term that agrees to the log's last digit stays exact; one that does not becomes what the
// log says. sha is the model file's.
func (m *measured) of(sha string, s memory.Settings, n memory.Need) (memory.Need, *store.Load) {
	card, _ := cardsOf(m.gpus, len(n.Cards))
	l, ok := m.loads[store.LoadKey{Model: sha, Settings: settingsWords(s, n), Engine: m.engine, Card: card}]
	if !ok {
		return n, nil
	}
	var r loadTerms
	if err := json.Unmarshal(l.Reported, &r); err != nil || len(r.Cards) != len(n.Cards) {
		return n, nil // stored by another version; a prediction is better than a guess
	}
	n.Cards = slices.Clone(n.Cards)
	for i := range n.Cards {
		n.Cards[i] = correct(n.Cards[i], r.Cards[i].termsJSON)
	}
	n.Host = correct(n.Host, r.Host)
	n.Host.Weights += r.Repacked
	n.Upper = ""
	return n, &l
}

// logDigit is how far the truth may be from what a log prints for a term: half of
// 0.01 MiB for each of its buffers, of which a term has at most two.
const logDigit = 10486

func correct(p memory.Terms, r termsJSON) memory.Terms {
	term := func(predicted, reported int64) int64 {
		if d := predicted - reported; d <= logDigit && d >= -logDigit {
			return predicted
		}
		return reported
	}
	return memory.Terms{Weights: term(p.Weights, r.Weights), KV: term(p.KV, r.KV), State: term(p.State, r.State), Compute: term(p.Compute, r.Compute)}
}

// loadJSON is one load in `models measured --json`; docs/json.md says what the
// fields are.
type loadJSON struct {
	Name      string          `json:"name,omitempty"`
	Model     string          `json:"model"`
	Settings  string          `json:"settings"`
	Engine    string          `json:"engine"`
	Card      string          `json:"card"`
	Predicted json.RawMessage `json:"predicted"`
	Measured  json.RawMessage `json:"measured"`
	Cards     sumsJSON        `json:"cards"`
	Host      sumsJSON        `json:"host"`
	Driver    *int64          `json:"driver"`
	Overhead  *int64          `json:"overhead"`
	At        time.Time       `json:"at"`
	Times     int             `json:"times"`
}

type sumsJSON struct {
	Predicted  int64 `json:"predicted"`
	Measured   int64 `json:"measured"`
	Difference int64 `json:"difference"`
}

func describeLoad(l store.Load, name string) loadJSON {
	j := loadJSON{Name: name, Model: l.Model, Settings: l.Settings, Engine: l.Engine, Card: l.Card, Predicted: l.Predicted, Measured: l.Reported,
		Cards:  sumsJSON{l.OnCards.Predicted, l.OnCards.Reported, l.OnCards.Difference()},
		Host:   sumsJSON{l.OnHost.Predicted, l.OnHost.Reported, l.OnHost.Difference()},
		Driver: l.Driver, At: l.At, Times: l.Times}
	if l.Driver != nil {
		j.Overhead = new(*l.Driver - l.OnCards.Reported)
	}
	return j
}

func (p modelCommands) modelsMeasured(ctx context.Context, asJSON bool) error {
	if err := p.readSettings(); err != nil {
		return err
	}
	if err := p.openStore(ctx, false); err != nil {
		return err
	}
	all, err := p.store.Loads().All(ctx)
	if err != nil {
		return err
	}
	names := map[string]string{}
	here, err := p.library().List()
	if err != nil {
		return err
	}
	for _, in := range here {
		for _, f := range in.Files {
			names[f.SHA256] = in.Name
		}
	}
	list := make([]loadJSON, 0, len(all))
	for _, l := range all {
		list = append(list, describeLoad(l, names[l.Model]))
	}
	if asJSON {
		return p.json(map[string]any{"version": 1, "loads": list})
	}
	if len(list) == 0 {
		p.printf("Nothing was measured yet: an analysis remembers what its engine took.\n")
		return nil
	}
	w := tabwriter.NewWriter(p.Stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "MODEL\tON\tPREDICTED\tMEASURED\tDIFFERENCE\tSETTINGS\tENGINE")
	for _, l := range list {
		sums, on := l.Cards, l.Card
		if l.Card == cpuOnly {
			sums = l.Host
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%+d bytes\t%s\t%s\n", cmp.Or(l.Name, l.Model[:min(12, len(l.Model))]), on, fetch.Bytes(sums.Predicted), fetch.Bytes(sums.Measured), sums.Difference, l.Settings, l.Engine)
	}
	return w.Flush()
}
