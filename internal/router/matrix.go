package router

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"monitor/internal/cost"
)

// Matrix is what became of arms at tasks: for every trial (a task with a seed) and every
// arm whether it passed, what that cost and how long it took. Policies are replayed on it.
// Tries of an arm at the same trial are one cell: it passed if one of them did, and cost
// what they cost together, as a repair does. It does not change after it was made.
type Matrix struct {
	arms   []Arm
	trials []trial
	cells  []cell // of trial i and arm a: cells[i*len(arms)+a]
	more   map[int][]cost.Tokens
}

type trial struct {
	task     string
	seed     int
	kind     string
	language string
	prompt   int
}

type cell struct {
	state   state
	unknown bool // what it cost is not known
	cost    cost.Money
	took    time.Duration
	tokens  cost.Tokens
}

type state uint8

// The states of a cell. What was not tried could not be had.
const (
	missing state = iota
	failed
	passed
)

// mostArms is how many arms a matrix may have: cells are kept for all of them.
const mostArms = 64

// lineMost is the longest line of a matrix in a file, in bytes.
const lineMost = 1 << 20

// ReadMatrix reads outcomes, one line of JSON each, as WriteOutcomes writes them. Empty
// lines are none. name is the file's, for messages; the error tells every wrong line, the first
// twenty of them.
func ReadMatrix(r io.Reader, name string) (*Matrix, error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, lineMost)
	var all []Outcome
	var wrong []error
	n := 0
	for lines.Scan() {
		n++
		b := bytes.TrimSpace(lines.Bytes())
		if len(b) == 0 {
			continue
		}
		var o Outcome
		err := json.Unmarshal(b, &o)
		if err == nil {
			err = o.valid()
		}
		if err == nil {
			all = append(all, o)
			continue
		}
		wrong = append(wrong, fmt.Errorf("%s:%d: %w", name, n, err))
		if len(wrong) == 20 {
			wrong = append(wrong, fmt.Errorf("%s: the lines after %d were not looked at", name, n))
			break
		}
	}
	switch err := lines.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		wrong = append(wrong, fmt.Errorf("%s:%d: a line has at most %d bytes", name, n+1, lineMost))
	case err != nil:
		wrong = append(wrong, fmt.Errorf("%s: %w", name, err))
	}
	if len(wrong) > 0 {
		return nil, errors.Join(wrong...)
	}
	return NewMatrix(all)
}

// What one try, and one cell, can come to: sums over a matrix then stay within what Money
// and Duration hold.
const (
	mostCost   = 1000 * cost.Dollar
	mostTook   = 30 * 24 * time.Hour
	mostTokens = 1_000_000_000
)

// valid says what keeps an outcome from being one.
func (o Outcome) valid() error {
	t := o.Tokens
	switch {
	case o.Task == "":
		return errors.New("task: is missing")
	case o.Kind == "":
		return errors.New("kind: is missing")
	case o.Arm.Lane == "" || o.Arm.Model == "":
		return errors.New("arm: has a lane and a model")
	case o.Cost < 0 || o.Took < 0 || o.Prompt < 0:
		return errors.New("cost, took and prompt are not below 0")
	case o.Cost > mostCost || o.Took > mostTook:
		return fmt.Errorf("a try costs at most %s and takes at most %s", mostCost, mostTook)
	case max(t.Fresh, t.Write5m, t.Write1h, t.Read, t.Output) > mostTokens:
		return fmt.Errorf("a try uses at most %d tokens of a kind", int64(mostTokens))
	case min(t.Fresh, t.Write5m, t.Write1h, t.Read, t.Output) < 0:
		return errors.New("tokens: are not below 0")
	}
	return nil
}

// WriteOutcomes writes outcomes, one line of JSON each. The error is w's.
func WriteOutcomes(w io.Writer, all []Outcome) error {
	b := bufio.NewWriter(w)
	enc := json.NewEncoder(b)
	enc.SetEscapeHTML(false)
	for _, o := range all {
		if err := enc.Encode(o); err != nil {
			return err
		}
	}
	return b.Flush()
}

// NewMatrix makes a matrix of outcomes; trials are in the order in which their seeds first
// came, and within a seed in that of their tasks. What says nothing about a model (no
// budget, no connection, in doubt) is left out. The error says that an outcome is none,
// or that there are more than 64 arms.
func NewMatrix(all []Outcome) (*Matrix, error) {
	type id struct {
		task string
		seed int
	}
	m := &Matrix{more: map[int][]cost.Tokens{}}
	arms, trials, seeds := map[Arm]bool{}, map[id]int{}, map[int]int{}
	for _, o := range all {
		if err := o.valid(); err != nil {
			return nil, fmt.Errorf("task %q: %w", o.Task, err)
		}
		if o.Class.Silent() {
			continue
		}
		if !arms[o.Arm] {
			arms[o.Arm] = true
			m.arms = append(m.arms, o.Arm)
		}
		if k := (id{o.Task, o.Seed}); trials[k] == 0 {
			trials[k] = len(trials) + 1
			m.trials = append(m.trials, trial{o.Task, o.Seed, o.Kind, o.Language, o.Prompt})
			if seeds[o.Seed] == 0 {
				seeds[o.Seed] = len(seeds) + 1
			}
		}
	}
	if len(m.arms) > mostArms {
		return nil, fmt.Errorf("the matrix has %d arms; it may have %d", len(m.arms), mostArms)
	}
	slices.SortFunc(m.arms, compare)
	slices.SortStableFunc(m.trials, func(x, y trial) int { return seeds[x.seed] - seeds[y.seed] })
	for i, t := range m.trials {
		trials[id{t.task, t.seed}] = i
	}
	m.cells = make([]cell, len(m.trials)*len(m.arms))
	for _, o := range all {
		if !o.Class.Silent() {
			m.put(trials[id{o.Task, o.Seed}]*len(m.arms)+slices.Index(m.arms, o.Arm), o)
		}
	}
	return m, nil
}

// Silent says that a class says nothing about the model that was asked: it could not be had,
// or not be let do.
func (c Class) Silent() bool {
	return c == Unavailable || c == OverBudget || c == Doubt || c == TakenOver
}

// put adds a try to a cell.
func (m *Matrix) put(at int, o Outcome) {
	c := &m.cells[at]
	if c.state != missing {
		m.more[at] = append(m.more[at], c.tokens)
	}
	c.state = max(c.state, failed)
	if o.Passed {
		c.state = passed
	}
	c.cost = min(c.cost+o.Cost, mostCost)
	c.took = min(c.took+o.Took, mostTook)
	c.tokens = o.Tokens
	c.unknown = c.unknown || !o.CostKnown
}

// Arms are the arms of the matrix.
func (m *Matrix) Arms() []Arm { return slices.Clone(m.arms) }

// Trials is how many trials it has.
func (m *Matrix) Trials() int { return len(m.trials) }

// Complete is the matrix of those trials at which every arm was tried. Work leaves others: who
// passed spared the next one, and a replay on these would take what was spared for what
// could not be had.
func (m *Matrix) Complete() *Matrix {
	out := &Matrix{arms: m.arms, more: map[int][]cost.Tokens{}}
	n := len(m.arms)
	for i, t := range m.trials {
		row := m.cells[i*n : (i+1)*n]
		if slices.ContainsFunc(row, func(c cell) bool { return c.state == missing }) {
			continue
		}
		for a := range n {
			if more, ok := m.more[i*n+a]; ok {
				out.more[len(out.cells)+a] = more
			}
		}
		out.trials = append(out.trials, t)
		out.cells = append(out.cells, row...)
	}
	return out
}

// Tries is how often an arm was tried, and passed.
type Tries struct {
	Arm    Arm `json:"arm"`
	Tried  int `json:"tried"`
	Passed int `json:"passed"`
}

// Tried counts the tries of each arm.
func (m *Matrix) Tried() []Tries {
	out := make([]Tries, len(m.arms))
	for i, c := range m.cells {
		t := &out[i%len(m.arms)]
		t.Arm = m.arms[i%len(m.arms)]
		if c.state != missing {
			t.Tried++
		}
		if c.state == passed {
			t.Passed++
		}
	}
	return out
}

// Arm finds an arm by its name as String has it, or by its model alone where only one arm
// has that.
func (m *Matrix) Arm(name string) (Arm, error) {
	var found []Arm
	var names []string
	for _, a := range m.arms {
		if a.String() == name {
			return a, nil
		}
		if a.Model == name {
			found = append(found, a)
		}
		names = append(names, a.String())
	}
	if len(found) != 1 {
		return Arm{}, fmt.Errorf("%q names %d arms of the matrix; there are %s", name, len(found), strings.Join(names, ", "))
	}
	return found[0], nil
}

// Pricing says what a try of an arm with such tokens costs; ok false is that it is not
// known.
type Pricing func(a Arm, t cost.Tokens) (m cost.Money, ok bool)

// PricesOf prices Claude's arms by a book, as of a day; other arms keep what was recorded.
func PricesOf(b *cost.Book, at time.Time) Pricing {
	return func(a Arm, t cost.Tokens) (cost.Money, bool) {
		if a.Lane != Claude {
			return 0, false
		}
		c, err := b.Cost(cost.Call{Model: a.Model, At: at, Batch: a.Batch, Tokens: t})
		return c.Money, err == nil
	}
}

// view is a matrix with prices and options applied.
type view struct {
	*Matrix
	o     Options
	bills []cell // as Matrix.cells, with today's prices
	mean  []cell // by arm: what a try costs and takes in the mean
	// clusters are the tasks, by number: what is drawn again and again for the bands.
	clusters []int
	tasks    int
	unknown  bool
}

// see applies the options. A price that is not known leaves what was recorded.
func (m *Matrix) see(o Options) *view {
	v := &view{Matrix: m, o: o, bills: slices.Clone(m.cells), mean: make([]cell, len(m.arms)), clusters: make([]int, len(m.trials))}
	n := len(m.arms)
	tried, costs, times := make([]float64, n), make([]float64, n), make([]float64, n)
	for at := range v.bills {
		c := &v.bills[at]
		if c.state == missing {
			continue
		}
		a := at % n
		if o.Price != nil {
			if sum, ok := o.Price(m.arms[a], c.tokens); ok {
				for _, t := range m.more[at] {
					more, _ := o.Price(m.arms[a], t)
					sum = min(sum+more, mostCost)
				}
				c.cost, c.unknown = min(sum, mostCost), false
			}
		}
		v.unknown = v.unknown || c.unknown
		tried[a]++
		costs[a] += float64(c.cost)
		times[a] += float64(c.took)
	}
	for a, k := range tried {
		if k > 0 {
			v.mean[a] = cell{cost: cost.Money(costs[a] / k), took: time.Duration(times[a] / k)}
		}
	}
	number := map[string]int{}
	for i, t := range m.trials {
		k, ok := number[t.task]
		if !ok {
			k = len(number)
			number[t.task] = k
		}
		v.clusters[i] = k
	}
	v.tasks = len(number)
	return v
}

func (v *view) cell(i, a int) *cell { return &v.bills[i*len(v.arms)+a] }
