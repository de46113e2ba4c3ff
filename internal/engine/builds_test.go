package engine

import (
	"slices"
	"testing"
)

func TestBuildNumber(t *testing.T) {
	for words, want := range map[string]int{
		"9776 (ac4105d68)":                     9776,
		"b9776-ac4105d68":                      9776,
		"b10488":                               10488,
		"0.14.2 (build 10488, commit 1a2b3c4)": 10488,
		"xllamacpp 2026.10.11549 (build 0, commit unknown)": 11549,
		"wheel-2026.10.11549":                               11549,
		"build: 5404 (abc)":                                 5404,
		"b0-unknown":                                        0,
		"0.14.2":                                            0,
		"":                                                  0,
		"release 2026":                                      0,
		"99999999999999999999 (x)":                          0,
		"xllamacpp 2026.10.99999999999999999999 (build 0)": 0,
		"-5":      0,
		"build 0": 0,
	} {
		if got := BuildNumber(words); got != want {
			t.Errorf("%q is build %d, not %d", words, got, want)
		}
	}
}

func FuzzBuildNumber(f *testing.F) {
	f.Add("xllamacpp 2026.10.11549 (build 0, commit unknown)")
	f.Add("0.14.2 (build 10488, commit 1a2b3c4)")
	f.Fuzz(func(t *testing.T, words string) {
		if n := BuildNumber(words); n < 0 {
			t.Errorf("%q is build %d", words, n)
		}
	})
}

func TestRulesChangeWhereTheyChanged(t *testing.T) {
	for build, want := range map[int]Rules{
		3600:  {AllLogits: true, PaddedLogits: true, WideMasks: true},
		9409:  {AllLogits: true, PaddedLogits: true, WideMasks: true},
		9410:  {AllLogits: true, PaddedLogits: true},
		9459:  {AllLogits: true, PaddedLogits: true},
		9460:  {},
		11399: {},
		11400: {MixedInput: true},
		20000: {MixedInput: true},
	} {
		if got := RulesOf(build); len(got) != 1 || got[0] != want {
			t.Errorf("build %d: %+v, not %+v", build, got, want)
		}
		for _, unknown := range []int{0, -3} {
			if !slices.Contains(RulesOf(unknown), want) {
				t.Errorf("an unknown build may be %d, whose rules are not among %+v", build, RulesOf(unknown))
			}
		}
	}
	caps := Capabilities{Version: "xllamacpp 2026.10.11549 (build 0, commit unknown)"}
	if got := caps.Rules(); len(got) != 1 || got[0] != (Rules{MixedInput: true}) {
		t.Errorf("the wheel: %+v", got)
	}
}

func TestTheLogNarrowsTheRules(t *testing.T) {
	all := func(r Rules) bool { return r.AllLogits }
	for _, c := range []struct {
		outputs, slots, with, without int
	}{{0, 4, 2, 2}, {4, 0, 2, 2}, {4, 4, 0, 2}, {2048, 4, 2, 0}} {
		got := Narrow(RulesOf(0), c.outputs, c.slots)
		with := 0
		for _, r := range got {
			if all(r) {
				with++
			}
		}
		if with != c.with || len(got)-with != c.without {
			t.Errorf("%+v: %+v", c, got)
		}
	}
	if got := Narrow(RulesOf(11549), 2048, 4); len(got) != 1 || !got[0].AllLogits || !got[0].MixedInput {
		t.Errorf("a server that reserves a whole batch was not believed: %+v", got)
	}
}
