package job

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sort"
	"strings"
	"time"
)

// idAlphabet is Crockford's base 32 in lower case: no i, l, o or u to misread,
// and in the order of ASCII, so that IDs sort by time.
const idAlphabet = "0123456789abcdefghjkmnpqrstvwxyz"

// idEpoch is the zero of the time part, 2020-01-01 in Unix milliseconds; nine
// digits of 32 last past the year 3000.
const idEpoch = 1_577_836_800_000

// newID returns 11 characters: milliseconds since 2020 in nine, two at random.
func newID(now time.Time, random [2]byte) string {
	var out [11]byte
	ms := uint64(max(0, now.UnixMilli()-idEpoch))
	for i := 8; i >= 0; i-- {
		out[i] = idAlphabet[ms&31]
		ms >>= 5
	}
	out[9], out[10] = idAlphabet[random[0]&31], idAlphabet[random[1]&31]
	return string(out[:])
}

func randomPair() (b [2]byte) {
	_, _ = rand.Read(b[:]) // never fails: the runtime ends the process if it would
	return b
}

// find returns the job that a person means by id: the full ID, or a beginning
// or an end of it that fits only one. The end is allowed because jobs of one
// day share their beginnings.
func (j *Jobs) find(ctx context.Context, id string) (Record, error) {
	id = strings.ToLower(strings.TrimSpace(id))
	if id == "" {
		return Record{}, fmt.Errorf("%w: the ID is empty; `monitor jobs` lists them", ErrUnknown)
	}
	r, err := j.store.Load(ctx, id)
	if err == nil || !errors.Is(err, ErrUnknown) {
		return r, j.store.Explain(err)
	}
	all, err := j.store.All(ctx)
	if err != nil {
		return Record{}, j.store.Explain(err)
	}
	var hits []Record
	ids := make([]string, 0, len(all))
	for _, r := range all {
		ids = append(ids, r.ID)
		if strings.HasPrefix(r.ID, id) || strings.HasSuffix(r.ID, id) {
			hits = append(hits, r)
		}
	}
	switch {
	case len(hits) == 1:
		return hits[0], nil
	case len(hits) > 1:
		names := make([]string, 0, 5)
		for _, h := range hits[:min(5, len(hits))] {
			names = append(names, h.ID)
		}
		return Record{}, fmt.Errorf("%w: %d jobs fit %q (%s, …); type more of the ID", ErrUnknown, len(hits), id, strings.Join(names, ", "))
	case len(ids) == 0:
		return Record{}, fmt.Errorf("%w %q: there are no jobs yet; `monitor analyze .` starts one", ErrUnknown, id)
	}
	return Record{}, fmt.Errorf("%w %q; the nearest are %s (`monitor jobs` lists all)", ErrUnknown, id, strings.Join(nearest(id, ids, 3), ", "))
}

// nearest returns the n of ids with the least edit distance to id; of equals,
// the one that comes first.
func nearest(id string, ids []string, n int) []string {
	type scored struct {
		id string
		d  int
	}
	all := make([]scored, 0, len(ids))
	for _, x := range ids {
		all = append(all, scored{x, distance(id, x)})
	}
	sort.SliceStable(all, func(a, b int) bool { return all[a].d < all[b].d })
	out := make([]string, 0, n)
	for _, s := range all[:min(n, len(all))] {
		out = append(out, s.id)
	}
	return out
}

// distance is Levenshtein's, over bytes: IDs are ASCII.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for i := range row {
		row[i] = i
	}
	for i := 1; i <= len(a); i++ {
		prev := row[0]
		row[0] = i
		for k := 1; k <= len(b); k++ {
			cost := prev
			if a[i-1] != b[k-1] {
				cost++
			}
			prev = row[k]
			row[k] = min(cost, row[k]+1, row[k-1]+1)
		}
	}
	return row[len(b)]
}
