package claudemock

import (
	"crypto/sha256"
	"time"
)

// lookBack is how many blocks before a breakpoint, itself included, are looked
// for in the cache.
const lookBack = 20

// entry is a prefix that is held.
type entry struct {
	ttl     time.Duration
	expires time.Time
}

// cache holds prefixes by the digest of model, speed and blocks.
type cache struct {
	entries map[[32]byte]entry
}

func newCache() *cache { return &cache{entries: map[[32]byte]entry{}} }

// plan is what the cache does to a call: its prompt's tokens by how they are
// charged, and what will be held once its answer begins.
type plan struct {
	usage  Usage
	writes []write
}

type write struct {
	key [32]byte
	ttl time.Duration
}

// plan finds the longest prefix that is held and refreshes it. Writes are held
// only after commit, which is called when the first event was sent: until then
// others that ask for the same prefix write it, too, and pay for it.
func (c *cache) plan(p *prompt, now time.Time) plan {
	chain := make([][32]byte, len(p.blocks))
	sums := make([]int64, len(p.blocks))
	last := sha256.Sum256([]byte(p.model.id))
	if p.terms.Fast {
		last = sha256.Sum256([]byte(p.model.id + " fast"))
	}
	var total int64
	type point struct {
		at  int
		ttl time.Duration
	}
	var points []point
	for i, b := range p.blocks {
		last = sha256.Sum256(append(last[:], b.canon...))
		total += b.tokens
		chain[i], sums[i] = last, total
		ttl := b.ttl
		if i == len(p.blocks)-1 && ttl == 0 {
			ttl = p.auto
		}
		if ttl > 0 {
			points = append(points, point{i, ttl})
		}
	}
	held := -1
	for k := len(points) - 1; k >= 0 && held < 0; k-- {
		for i := points[k].at; i >= 0 && i > points[k].at-lookBack && held < 0; i-- {
			if e, ok := c.entries[chain[i]]; ok && now.Before(e.expires) {
				held = i
				e.expires = now.Add(e.ttl)
				c.entries[chain[i]] = e
			}
		}
	}
	var out plan
	done := int64(0)
	if held >= 0 {
		done = sums[held]
		out.usage.Read = done
	}
	for _, pt := range points {
		if pt.at <= held || sums[pt.at] < p.model.minCache {
			continue
		}
		if pt.ttl == time.Hour {
			out.usage.Write1h += sums[pt.at] - done
		} else {
			out.usage.Write5m += sums[pt.at] - done
		}
		done = sums[pt.at]
		out.writes = append(out.writes, write{chain[pt.at], pt.ttl})
	}
	out.usage.Input = total - done
	return out
}

// commit holds what a plan writes.
func (c *cache) commit(p plan, now time.Time) {
	for _, w := range p.writes {
		c.entries[w.key] = entry{w.ttl, now.Add(w.ttl)}
	}
	if len(c.entries) > 10_000 {
		for k, e := range c.entries {
			if !now.Before(e.expires) {
				delete(c.entries, k)
			}
		}
	}
}
