package placement

import (
	_ "embed"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"monitor/internal/rows"
)

//go:embed profiles.yaml
var embedded []byte

// EmbeddedName is how errors call the profiles inside the binary.
const EmbeddedName = "profiles.yaml (built in)"

const (
	profileVersion = 1
	// maxProfileBytes and maxSeats bound a user's file; a hundred profiles are far
	// below.
	maxProfileBytes = 1 << 20
	maxSeats        = 64
	maxSlots        = 256
	minContext      = 256
	maxContext      = 10_000_000
)

// Kind is something that a plan may give up. The zero value is none.
type Kind string

// The kinds, and the unit in which each is counted.
const (
	// Split: cards beyond the first that a model's layers are spread over.
	Split Kind = "split"
	// KV: steps on the ladder f16, q8_0, q4_0 below the wished type of cache.
	KV Kind = "kv"
	// Context: steps of ContextStep tokens below the wished window per worker.
	Context Kind = "context"
	// Slots: workers fewer than wished.
	Slots Kind = "slots"
	// Quant: places down the list of quantisations.
	Quant Kind = "quant"
	// AnotherModel: places down the seat's list of models.
	AnotherModel Kind = "model"
	// Auxiliary: 1 where an optional seat stays empty.
	Auxiliary Kind = "auxiliary"
	// Offload: layers in the host's memory.
	Offload Kind = "offload"
)

// ContextStep is the step in which a window is shortened, in tokens.
const ContextStep = 1024

// kinds in the order in which a profile without give_up gives them up.
var kinds = []Kind{Split, KV, Context, Slots, Quant, AnotherModel, Auxiliary, Offload}

// Profile is what an owner wants of the machine. The schema of its YAML form is
// at the head of profiles.yaml.
type Profile struct {
	Name    string `yaml:"name" json:"name"`
	Title   string `yaml:"title" json:"title,omitempty"`
	Reserve Size   `yaml:"reserve" json:"reserve_bytes"`
	Claude  int    `yaml:"claude" json:"claude_workers,omitempty"`
	Crew    []Seat `yaml:"crew" json:"crew,omitempty"`
	Wishes  []Wish `yaml:"wishes" json:"wishes,omitempty"`
	Then    string `yaml:"then" json:"then,omitempty"`
	GiveUp  []Kind `yaml:"give_up" json:"give_up,omitempty"`
	Never   []Kind `yaml:"never" json:"never,omitempty"`
}

// Seat is one model of the crew with its workers.
type Seat struct {
	Role   string   `yaml:"role" json:"role"`
	Tier   string   `yaml:"tier" json:"tier,omitempty"`
	Models []string `yaml:"models" json:"models"`
	Quants []string `yaml:"quants" json:"quants,omitempty"`
	Slots  int      `yaml:"slots" json:"slots"`
	// Instances is a wish for so many copies of the model. It is planned as so many
	// slots of one engine, and the layout says what that saves.
	Instances int    `yaml:"instances" json:"instances,omitempty"`
	Context   int    `yaml:"context" json:"context"`
	KV        string `yaml:"kv" json:"kv,omitempty"`
	Least     Least  `yaml:"least" json:"least"`
	Optional  bool   `yaml:"optional" json:"optional,omitempty"`
	Fill      bool   `yaml:"fill" json:"fill,omitempty"`
	EachCard  bool   `yaml:"each_card" json:"each_card,omitempty"`
}

// Least is what a seat must keep when it gives up.
type Least struct {
	Slots   int    `yaml:"slots" json:"slots"`
	Context int    `yaml:"context" json:"context"`
	KV      string `yaml:"kv" json:"kv,omitempty"`
}

// Wish is one crew among several that are each answered by themselves, exactly as wished.
type Wish struct {
	Title string `yaml:"title" json:"title"`
	Crew  []Seat `yaml:"crew" json:"crew"`
}

// Size is a number of bytes, written as in 2GiB, 512MiB or 24GB.
type Size int64

var sizeForm = regexp.MustCompile(`^([0-9]+(?:\.[0-9]+)?)\s*([kKMGT]i?)?B?$`)

// ParseSize reads a number of bytes: 1GiB is 2^30, 1GB is 10^9, a bare number is
// bytes. At most 1 PB.
func ParseSize(s string) (int64, error) {
	m := sizeForm.FindStringSubmatch(strings.TrimSpace(s))
	if m == nil {
		return 0, fmt.Errorf("%q is not a size; write it as in 2GiB, 512MiB or 24GB", s)
	}
	n, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		return 0, fmt.Errorf("%q is not a size: %w", s, err)
	}
	base, power := 1000.0, 0
	if strings.HasSuffix(m[2], "i") {
		base = 1024
	}
	if m[2] != "" {
		power = 1 + strings.IndexByte("KMGT", strings.ToUpper(m[2])[0])
	}
	n *= math.Pow(base, float64(power))
	if n > 1e15 {
		return 0, fmt.Errorf("%q is more than a petabyte", s)
	}
	return int64(n), nil
}

// UnmarshalYAML implements yaml.BytesUnmarshaler. What is no size becomes -1, for
// the checker, which knows the place.
func (s *Size) UnmarshalYAML(b []byte) error {
	n, err := ParseSize(strings.Trim(strings.TrimSpace(string(b)), `"'`))
	if err != nil {
		n = -1
	}
	*s = Size(n)
	return nil
}

// Profiles are the built-in profiles and the user's. They are not changed after
// LoadProfiles.
type Profiles struct{ list []Profile }

// LoadProfiles reads the built-in profiles and, where user is not empty, the user's
// on top of them: a user's profile replaces the one of its name. The error is one
// or several joined *rows.Mistake: all broken places.
func LoadProfiles(user []byte, fileName string) (*Profiles, error) {
	list, err := parseProfiles(embedded, EmbeddedName)
	if err != nil {
		return nil, err
	}
	p := &Profiles{list: list}
	mine, err := parseProfiles(user, fileName)
	if err != nil {
		return nil, err
	}
	for _, m := range mine {
		p.list = slices.DeleteFunc(p.list, func(o Profile) bool { return o.Name == m.Name })
		p.list = append(p.list, m)
	}
	for _, o := range p.list {
		if o.Then == "" {
			continue
		}
		then, err := p.Find(o.Then)
		switch {
		case err != nil:
			return nil, &rows.Mistake{File: fileName, Field: o.Name + ".then", Problem: err.Error()}
		case len(then.Wishes) > 0:
			return nil, &rows.Mistake{File: fileName, Field: o.Name + ".then", Problem: o.Then + " has wishes of its own; name a profile with one crew"}
		}
	}
	return p, nil
}

// List is all profiles, the user's last.
func (p *Profiles) List() []Profile { return slices.Clone(p.list) }

// Find finds a profile by name. The error lists those there are.
func (p *Profiles) Find(name string) (Profile, error) {
	var have []string
	for _, o := range p.list {
		if o.Name == name {
			return o, nil
		}
		have = append(have, o.Name)
	}
	return Profile{}, fmt.Errorf("there is no profile %q; there are %s, and you may add your own in profiles.yaml in the config folder", name, strings.Join(have, ", "))
}

// Models are the names of all models that the profile's seats may take.
func (p Profile) Models() []string {
	var out []string
	add := func(crew []Seat) {
		for _, s := range crew {
			for _, m := range s.Models {
				if !slices.Contains(out, m) {
					out = append(out, m)
				}
			}
		}
	}
	add(p.Crew)
	for _, w := range p.Wishes {
		add(w.Crew)
	}
	return out
}

type profileFile struct {
	Version  int       `yaml:"version"`
	Profiles []Profile `yaml:"profiles"`
}

func parseProfiles(src []byte, name string) ([]Profile, error) {
	c, doc := checker{rows.New(src, name)}, profileFile{}
	if some, err := c.Decode(&doc, maxProfileBytes); err != nil || !some {
		return nil, err
	}
	if doc.Version != profileVersion {
		c.bad("version", "is %d; this program reads version %d", doc.Version, profileVersion)
		return nil, c.Err()
	}
	first := map[string]int{}
	for i := range doc.Profiles {
		p := &doc.Profiles[i]
		at := fmt.Sprintf("profiles[%d]", i)
		if j, twice := first[p.Name]; twice {
			c.bad(at+".name", "%q is the name of profiles[%d] already", p.Name, j)
		}
		first[p.Name] = i
		c.profile(at, p)
	}
	return doc.Profiles, c.Err()
}

// checker holds profiles against the form.
type checker struct{ *rows.File }

func (c checker) bad(field, problem string, a ...any) { c.Add(field, fmt.Sprintf(problem, a...)) }

var (
	profileName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,39}$`)
	tierNames   = []string{"swarm", "primary"}
)

func (c checker) profile(at string, p *Profile) {
	if !profileName.MatchString(p.Name) {
		c.bad(at+".name", "%q is not a name: lower case letters, digits and . _ - are allowed", p.Name)
	}
	if p.Reserve < 0 {
		c.bad(at+".reserve", "is not a size; write it as in 2GiB, 512MiB or 24GB")
	}
	if p.Claude < 0 || p.Claude > 64 {
		c.bad(at+".claude", "%d is not a number of workers from 0 to 64", p.Claude)
	}
	if (len(p.Crew) == 0) == (len(p.Wishes) == 0) {
		c.bad(at, "a profile has either a crew or wishes")
	}
	if p.Then != "" && len(p.Wishes) == 0 {
		c.bad(at+".then", "goes with wishes only")
	}
	for i, k := range p.GiveUp {
		field := fmt.Sprintf("%s.give_up[%d]", at, i)
		switch {
		case !slices.Contains(kinds, k):
			c.bad(field, "%q is none of %s", k, kindList())
		case slices.Contains(p.GiveUp[:i], k):
			c.bad(field, "%q stands there twice", k)
		case slices.Contains(p.Never, k):
			c.bad(field, "%q stands under never, too", k)
		}
	}
	for i, k := range p.Never {
		if !slices.Contains(kinds, k) {
			c.bad(fmt.Sprintf("%s.never[%d]", at, i), "%q is none of %s", k, kindList())
		}
	}
	c.crew(at+".crew", p.Crew)
	for i, w := range p.Wishes {
		where := fmt.Sprintf("%s.wishes[%d]", at, i)
		if w.Title == "" {
			c.bad(where+".title", "is missing")
		}
		if len(w.Crew) == 0 {
			c.bad(where+".crew", "is missing")
		}
		c.crew(where+".crew", w.Crew)
	}
}

func kindList() string {
	var s []string
	for _, k := range kinds {
		s = append(s, string(k))
	}
	return strings.Join(s, ", ")
}

func (c checker) crew(at string, crew []Seat) {
	if len(crew) > maxSeats {
		c.bad(at, "has %d seats; %d are allowed", len(crew), maxSeats)
	}
	for i := range crew {
		c.seat(fmt.Sprintf("%s[%d]", at, i), &crew[i])
		if i == 0 && crew[i].Optional {
			c.bad(at+"[0].optional", "the first seat of a crew is what the crew is for; it cannot be optional")
		}
	}
}

// seat checks a seat and fills in what was left out.
func (c checker) seat(at string, s *Seat) {
	if s.Role == "" {
		c.bad(at+".role", "is missing; one word for people: primary, helper, …")
	}
	if s.Tier == "" {
		s.Tier = "swarm"
	}
	if !slices.Contains(tierNames, s.Tier) {
		c.bad(at+".tier", "%q is none of %s", s.Tier, strings.Join(tierNames, ", "))
	}
	if len(s.Models) == 0 {
		c.bad(at+".models", "is missing; at least one model of the catalogue")
	}
	if s.Instances < 0 || s.Instances > 0 && s.Slots > 0 {
		c.bad(at+".instances", "goes instead of slots, and is 1 or more")
	}
	if s.Instances > 0 {
		s.Slots = s.Instances
	}
	if s.Slots < 1 || s.Slots > maxSlots {
		c.bad(at+".slots", "%d is not a number of workers from 1 to %d", s.Slots, maxSlots)
	}
	if s.Context < minContext || s.Context > maxContext {
		c.bad(at+".context", "%d is not a window from %d to %d tokens", s.Context, minContext, maxContext)
	}
	if s.KV == "" {
		s.KV = ladder[0]
	}
	if kvSteps(s.KV) < 0 {
		c.bad(at+".kv", "%q is none of %s", s.KV, strings.Join(ladder, ", "))
	}
	s.fillLeast()
	if s.Least.Slots < 1 || s.Least.Slots > s.Slots {
		c.bad(at+".least.slots", "%d is not from 1 to the %d that are wished", s.Least.Slots, s.Slots)
	}
	if s.Least.Context < minContext || s.Least.Context > s.Context {
		c.bad(at+".least.context", "%d is not from %d to the %d that are wished", s.Least.Context, minContext, s.Context)
	}
	if kvSteps(s.Least.KV) < kvSteps(s.KV) {
		c.bad(at+".least.kv", "%q is not one of %s that is at most as large as the wished %s", s.Least.KV, strings.Join(ladder, ", "), s.KV)
	}
}

// leastContext is the shortest window that is proposed unasked: below it a
// prompt with one file of code hardly fits.
const leastContext = 2048

func (s *Seat) fillLeast() {
	if s.Least.Slots == 0 {
		s.Least.Slots = 1
	}
	if s.Least.Context == 0 {
		s.Least.Context = min(s.Context, leastContext)
	}
	if s.Least.KV == "" {
		s.Least.KV = ladder[max(1, kvSteps(s.KV))]
	}
}
