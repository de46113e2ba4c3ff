package placement

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"monitor/internal/rows"
)

const goodProfile = `version: 1
profiles:
  - name: mine
    reserve: 512MiB
    crew:
      - {role: one, models: [m], slots: 2, context: 4096}
    give_up: [kv, slots]
`

func TestUserProfiles(t *testing.T) {
	all, err := LoadProfiles([]byte(goodProfile), "profiles.yaml")
	if err != nil {
		t.Fatal(err)
	}
	p, err := all.Find("mine")
	if err != nil {
		t.Fatal(err)
	}
	s := p.Crew[0]
	if p.Reserve != 512<<20 || s.Tier != "swarm" || s.KV != "f16" || s.Least != (Least{Slots: 1, Context: 2048, KV: "q8_0"}) {
		t.Errorf("what was left out is filled in as %+v, reserve %d", s, p.Reserve)
	}
	for _, name := range []string{"balanced", "primary", "swarm", "claude-first", "founding"} {
		if _, err := all.Find(name); err != nil {
			t.Error(err)
		}
	}
	if _, err := all.Find("nope"); err == nil || !strings.Contains(err.Error(), "balanced") {
		t.Errorf("an unknown profile: %v", err)
	}
	again, err := LoadProfiles([]byte(strings.Replace(goodProfile, "name: mine", "name: swarm", 1)), "profiles.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if p, _ := again.Find("swarm"); p.Reserve != 512<<20 || len(again.List()) != 5 {
		t.Errorf("a profile of the user's does not replace the built-in one of its name: %+v", p)
	}
	for _, empty := range []string{"", "  \n", "# nothing\n"} {
		if _, err := LoadProfiles([]byte(empty), "profiles.yaml"); err != nil {
			t.Errorf("%q: %v", empty, err)
		}
	}
}

// Every mistake is named by file, line and field.
func TestWrongProfiles(t *testing.T) {
	for _, c := range []struct{ from, to, want string }{
		{"version: 1", "version: 2", "p.yaml:1: version"},
		{"name: mine", "name: My Crew", "p.yaml:3: profiles[0].name"},
		{"reserve: 512MiB", "reserve: much", "p.yaml:4: "},
		{"reserve:", "reserv:", "p.yaml:4: "},
		{"role: one, ", "", "p.yaml:6: profiles[0].crew[0].role"},
		{"role: one", "role: one, tier: big", "p.yaml:6: profiles[0].crew[0].tier"},
		{"models: [m], ", "", "p.yaml:6: profiles[0].crew[0].models"},
		{"slots: 2", "slots: 0", "p.yaml:6: profiles[0].crew[0].slots"},
		{"slots: 2", "slots: 257", "p.yaml:6: profiles[0].crew[0].slots"},
		{"slots: 2", "slots: two", "p.yaml:6: "},
		{"slots: 2", "slots: 2, instances: 3", "p.yaml:6: profiles[0].crew[0].instances"},
		{"context: 4096", "context: 10", "p.yaml:6: profiles[0].crew[0].context"},
		{"context: 4096", "context: 4096, kv: q5", "p.yaml:6: profiles[0].crew[0].kv"},
		{"context: 4096", "context: 4096, least: {slots: 3}", "p.yaml:6: profiles[0].crew[0].least.slots"},
		{"context: 4096", "context: 4096, least: {context: 8192}", "p.yaml:6: profiles[0].crew[0].least.context"},
		{"context: 4096", "context: 4096, kv: q8_0, least: {kv: f16}", "p.yaml:6: profiles[0].crew[0].least.kv"},
		{"context: 4096", "context: 4096, optional: true", "p.yaml:6: profiles[0].crew[0].optional"},
		{"[kv, slots]", "[kv, sleep]", "p.yaml:7: profiles[0].give_up[1]"},
		{"[kv, slots]", "[kv, kv]", "p.yaml:7: profiles[0].give_up[1]"},
		{"[kv, slots]", "[kv]\n    never: [kv]", "p.yaml:7: profiles[0].give_up[0]"},
		{"[kv, slots]", "[kv]\n    never: [x]", "p.yaml:8: profiles[0].never[0]"},
		{"[kv, slots]", "[kv]\n    claude: 65", "p.yaml:8: profiles[0].claude"},
		{"[kv, slots]", "[kv]\n    then: swarm", "p.yaml:8: profiles[0].then"},
		{"[kv, slots]", "[kv]\n    wishes: [{title: t, crew: [{role: r, models: [m], slots: 1, context: 4096}]}]", "p.yaml:3: profiles[0]: a profile has either"},
		{"    crew:\n      - {role: one, models: [m], slots: 2, context: 4096}\n", "    wishes: [{crew: []}]\n", "profiles[0].wishes[0].title"},
		{"    crew:\n      - {role: one, models: [m], slots: 2, context: 4096}\n", "    then: nope\n    wishes: [{title: t, crew: [{role: r, models: [m], slots: 1, context: 4096}]}]\n", "mine.then"},
		{"[kv, slots]", "&x [kv]", "p.yaml:7: anchors"},
		{"[kv, slots]", "!!float", ""},
	} {
		src := strings.Replace(goodProfile, c.from, c.to, 1)
		if src == goodProfile {
			t.Fatalf("%q is not in the profile", c.from)
		}
		_, err := LoadProfiles([]byte(src), "p.yaml")
		var f *rows.Mistake
		if !errors.As(err, &f) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %q", c.to, err, c.want)
		}
	}
}

func TestParseSize(t *testing.T) {
	for s, want := range map[string]int64{"2GiB": 2 << 30, "2GB": 2e9, "512MiB": 512 << 20, "1.5GiB": 3 << 29, "100": 100, "1k": 1000, "1KiB": 1024, "24 GB": 24e9, "2g": 2e9} {
		got, err := ParseSize(s)
		if s == "2g" {
			if err == nil {
				t.Errorf("%q is read as %d", s, got)
			}
			continue
		}
		if err != nil || got != want {
			t.Errorf("%q is %d (%v), want %d", s, got, err, want)
		}
	}
	for _, s := range []string{"", "GB", "-1GB", "1e9", "2 000", "9999999999999999TB", "1PB"} {
		if n, err := ParseSize(s); err == nil {
			t.Errorf("%q is read as %d", s, n)
		}
	}
}

func TestParseSeat(t *testing.T) {
	same := func(s string) (string, error) { return s, nil }
	for spec, want := range map[string]Seat{
		"m:4@8k":                   {Models: []string{"m"}, Slots: 4, Context: 8192, KV: "f16"},
		"m:1@4096:q8_0":            {Models: []string{"m"}, Slots: 1, Context: 4096, KV: "q8_0"},
		"m@Q8_0:256@300:Q4_0":      {Models: []string{"m"}, Quants: []string{"Q8_0"}, Slots: 256, Context: 300, KV: "q4_0"},
		"qwen2.5-coder:7b:4@8k":    {Models: []string{"qwen2.5-coder:7b"}, Slots: 4, Context: 8192, KV: "f16"},
		"a:7b@Q4_K_M:4@10000:f16":  {Models: []string{"a:7b"}, Quants: []string{"Q4_K_M"}, Slots: 4, Context: 10000, KV: "f16"},
		" deepseek-coder-33b:1@1k": {Models: []string{"deepseek-coder-33b"}, Slots: 1, Context: 1024, KV: "f16"},
	} {
		got, err := ParseSeat(spec, same)
		if err != nil || !slices.Equal(got.Models, want.Models) || !slices.Equal(got.Quants, want.Quants) || got.Slots != want.Slots || got.Context != want.Context || got.KV != want.KV {
			t.Errorf("%q is %+v (%v), want %+v", spec, got, err, want)
		}
	}
	for _, spec := range []string{"", "m", "m:4", "m@4k", "m:0@4k", "m:257@4k", "m:4@100", "m:4@99999999", "m:4@9999999999999999999k", "m:4@8k:q9", "m:4x8k", "m:-1@4k"} {
		if got, err := ParseSeat(spec, same); err == nil {
			t.Errorf("%q is read as %+v", spec, got)
		}
	}
	if _, err := ParseSeat("m:4@8k", func(string) (string, error) { return "", errors.New("no such model") }); err == nil {
		t.Error("an unknown model is taken")
	}
}

func FuzzProfiles(f *testing.F) {
	f.Add([]byte(goodProfile))
	f.Add([]byte("version: 1\nprofiles: !!float"))
	f.Add([]byte("version: 1\nprofiles:\n  - {name: w, reserve: 2GiB, wishes: [{title: t, crew: [{role: r, models: [m], instances: 3, context: 4096}]}], never: [split]}\n"))
	f.Fuzz(func(t *testing.T, src []byte) {
		if len(src) > 2048 {
			return // the YAML library takes long for long nonsense
		}
		list, err := parseProfiles(src, "p.yaml")
		if err != nil {
			var e *rows.Mistake
			if !errors.As(err, &e) {
				t.Fatalf("%T: %v", err, err)
			}
			return
		}
		// What is accepted is a seat that a problem can be made of.
		for _, p := range list {
			for _, w := range append([]Wish{{Crew: p.Crew}}, p.Wishes...) {
				for _, s := range w.Crew {
					if s.Slots < 1 || s.Slots > maxSlots || s.Context < minContext || len(s.Models) == 0 || kvSteps(s.KV) < 0 ||
						s.Least.Slots > s.Slots || s.Least.Slots < 1 || s.Least.Context > s.Context || kvSteps(s.Least.KV) < kvSteps(s.KV) || p.Reserve < 0 {
						t.Fatalf("accepted: %+v", s)
					}
				}
			}
		}
	})
}

func FuzzParseSeat(f *testing.F) {
	f.Add("qwen2.5-coder:7b@Q8_0:4@8k:q8_0")
	f.Fuzz(func(t *testing.T, spec string) {
		s, err := ParseSeat(spec, func(n string) (string, error) { return n, nil })
		if err == nil && (s.Slots < 1 || s.Slots > maxSlots || s.Context < minContext || s.Context > maxContext || kvSteps(s.KV) < 0) {
			t.Errorf("%q is read as %+v", spec, s)
		}
	})
}
