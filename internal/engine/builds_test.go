package engine

import "testing"

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
		0:     {true, true, true},
		-3:    {true, true, true},
		3600:  {AllLogits: true, WideMasks: true},
		9409:  {AllLogits: true, WideMasks: true},
		9410:  {AllLogits: true},
		9459:  {AllLogits: true},
		9460:  {},
		11399: {},
		11400: {MixedInput: true},
		20000: {MixedInput: true},
	} {
		if got := RulesOf(build); got != want {
			t.Errorf("build %d: %+v, not %+v", build, got, want)
		}
	}
	caps := Capabilities{Version: "xllamacpp 2026.10.11549 (build 0, commit unknown)"}
	if got := caps.Rules(); got != (Rules{MixedInput: true}) {
		t.Errorf("the wheel: %+v", got)
	}
}

func TestTheLogCorrectsTheRules(t *testing.T) {
	unknown := RulesOf(0)
	for _, c := range []struct {
		outputs, slots, batch int
		want                  Rules
	}{
		{0, 4, 2048, unknown},
		{4, 4, 2048, Rules{MixedInput: true}},
		{2048, 4, 2048, unknown},
		{16, 4, 2048, unknown}, // drafting: more than one output a slot
		{4, 0, 2048, unknown},
	} {
		if got := unknown.With(c.outputs, c.slots, c.batch); got != c.want {
			t.Errorf("%+v: %+v", c, got)
		}
	}
	if got := RulesOf(11549).With(2048, 4, 2048); !got.AllLogits {
		t.Error("a server that reserves a whole batch was not believed")
	}
}
