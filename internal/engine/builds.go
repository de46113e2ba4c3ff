package engine

import (
	"math"
	"regexp"
	"strconv"
)

// Rules is what depends on the build in how much memory llama.cpp's server
// reserves. internal/memory, which works the bytes out, has a field of the same
// name for each.
type Rules struct {
	// AllLogits: the compute buffer has room for logits of every token of a
	// micro-batch, not of the slots only.
	AllLogits bool
	// PaddedLogits: for as many as there are after the micro-batch was rounded up to a
	// multiple of the slots, where that was needed.
	PaddedLogits bool
	// WideMasks: masks are kept in single precision also where flash attention
	// reads half of it.
	WideMasks bool
	// MixedInput: every graph has a place for batches of both tokens and
	// embeddings.
	MixedInput bool
}

// Builds at which a rule changed. Each was found in the project's own history and
// then seen on wheels of the pip package from before and after it (builds 9294, 9538 and
// 11549), whose logs agree with internal/memory to the last digit they print.
const (
	// Masks in half precision: pull request 23764, commit 031ddb2e0 of 29 May 2026,
	// tagged b9410 (Homebrew's formula of llama.cpp names tag and commit together).
	narrowMasksSince = 9410
	// Logits for the slots only: pull request 23861, commit de6f727aa of 1 June 2026;
	// issue 24066 names it b9460, "server_n_outputs_max() returned 4 instead of n_batch". The
	// rounding (PaddedLogits) was seen on build 9294 and went with it, since a limit of
	// logits and a rounding up of them exclude each other.
	slotLogitsSince = 9460
	// Mixed batches: pull request 29622, commit 0bb496dbd; release b11400 of 5 October
	// 2026.
	mixedInputSince = 11400
)

// RulesOf returns the rules that a build may follow: one set where its number is
// known; where it is not (0), all that there have been, oldest first. None of
// those takes the most in every case, since an allocator fills gaps by chance: plan
// with the largest of what they give.
func RulesOf(build int) []Rules {
	all := []Rules{{AllLogits: true, PaddedLogits: true, WideMasks: true}, {AllLogits: true, PaddedLogits: true}, {}, {MixedInput: true}}
	switch {
	case build <= 0:
		return all
	case build < narrowMasksSince:
		return all[:1]
	case build < slotLogitsSince:
		return all[1:2]
	case build < mixedInputSince:
		return all[2:3]
	}
	return all[3:]
}

// Narrow leaves of the rules those that agree with what the server's own log says:
// outputs is the figure of its line n_outputs_max, which came with the rule of
// slots (0: there is no such line), slots what it was started with. Where none agrees, what the
// log says is believed.
func Narrow(rules []Rules, outputs, slots int) []Rules {
	if outputs <= 0 || slots <= 0 {
		return rules
	}
	all := outputs > slots
	var left []Rules
	for _, r := range rules {
		if r.AllLogits == all {
			left = append(left, r)
		}
	}
	if len(left) > 0 {
		return left
	}
	for _, r := range rules {
		r.AllLogits, r.PaddedLogits = all, false
		left = append(left, r)
	}
	return left
}

// How builds tell their number: "9776 (ac4105d68)", "b9776-ac4105d68",
// "0.14.2 (build 10488, commit 1a2b3c4)"; the wheel has "build 0" there, and the
// number as the last part of its version, "xllamacpp 2026.10.11549".
var (
	namedBuild = regexp.MustCompile(`\bbuild:? ([0-9]+)`)
	taggedName = regexp.MustCompile(`^b?([0-9]+)(?:$|[ -])`)
	wheelName  = regexp.MustCompile(`^(?:wheel-|` + wheelPackage + ` )[0-9]{4}\.[0-9]{1,2}\.([0-9]+)\b`)
)

// BuildNumber reads llama.cpp's build number from the words by which an engine
// calls itself (Capabilities.Version, an engine's ID, build_info of /props); 0 where they tell
// none.
func BuildNumber(words string) int {
	for _, form := range []*regexp.Regexp{namedBuild, taggedName, wheelName} {
		m := form.FindStringSubmatch(words)
		if m == nil {
			continue
		}
		if n, err := strconv.Atoi(m[1]); err == nil && n > 0 && n <= math.MaxInt32 {
			return n
		}
	}
	return 0
}

// Rules that this build may follow, by the number that its --version tells.
func (c Capabilities) Rules() []Rules { return RulesOf(BuildNumber(c.Version)) }
