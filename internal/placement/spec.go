package placement

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

var specForm = regexp.MustCompile(`^(.+):([0-9]+)@([0-9]+)([kK]?)(?::([A-Za-z0-9_]+))?$`)

// ParseSeat reads a wish as it is written on the command line,
//
//	MODEL[@QUANT]:SLOTS@CONTEXT[:KV]     qwen2.5-coder-7b@Q8_0:4@8k:q8_0
//
// CONTEXT is tokens per worker, with k for 1,024; KV is f16 unless given. resolve
// turns a model's name or alias into its name. The wish is exact: nothing of it is
// given up unless a profile says so.
func ParseSeat(spec string, resolve func(string) (string, error)) (Seat, error) {
	wrong := func(what string) error {
		return fmt.Errorf("%q is not a wish: %s; write it as MODEL:SLOTS@CONTEXT, as in qwen2.5-coder-7b:4@8k or mistral-7b@Q8_0:3@8192:q8_0", spec, what)
	}
	m := specForm.FindStringSubmatch(strings.TrimSpace(spec))
	if m == nil {
		return Seat{}, wrong("slots or the window are missing")
	}
	s := Seat{Tier: "swarm", KV: ladder[0]}
	name := m[1]
	if i := strings.LastIndexByte(name, '@'); i > 0 && i < len(name)-1 {
		s.Quants, name = []string{name[i+1:]}, name[:i]
	}
	var err error
	if s.Slots, err = strconv.Atoi(m[2]); err != nil || s.Slots < 1 || s.Slots > maxSlots {
		return Seat{}, wrong(fmt.Sprintf("%s is not a number of workers from 1 to %d", m[2], maxSlots))
	}
	if s.Context, err = strconv.Atoi(m[3]); err == nil && m[4] != "" && s.Context <= maxContext {
		s.Context *= 1024
	}
	if err != nil || s.Context < minContext || s.Context > maxContext {
		return Seat{}, wrong(fmt.Sprintf("%s%s is not a window from %d to %d tokens", m[3], m[4], minContext, maxContext))
	}
	if m[5] != "" {
		s.KV = strings.ToLower(m[5])
	}
	if kvSteps(s.KV) < 0 {
		return Seat{}, wrong(fmt.Sprintf("%s is none of the caches %s", m[5], strings.Join(ladder, ", ")))
	}
	full, err := resolve(name)
	if err != nil {
		return Seat{}, err
	}
	s.Models, s.Role = []string{full}, full
	s.fillLeast()
	return s, nil
}
