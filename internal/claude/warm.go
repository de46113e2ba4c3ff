package claude

import (
	"context"
	"sync"
	"time"
)

// warmer knows which prefixes are in Anthropic's cache, as far as this lane put them
// there. Of several calls with one prefix the first writes it; the others wait until
// its first event, since an entry can be read from then on, and then read what they
// would have paid to write. Its zero value knows none.
type warmer struct {
	mu   sync.Mutex
	keys map[string]*warmth
}

// warmth is one prefix.
type warmth struct {
	until time.Time     // warm until then
	busy  chan struct{} // closed when who warms it is done; nil when nobody does
}

// warmTries is for how many that failed to warm it one call waits before it goes anyway.
const warmTries = 2

// enter returns at once for a prefix that is warm; makes the caller the one who warms it
// when nobody does; else it waits. The caller must call done, with whether an answer
// began, and may do so more than once: the first counts.
func (w *warmer) enter(ctx context.Context, key string, ttl time.Duration) (warm bool, done func(began bool), err error) {
	for try := 0; ; try++ {
		w.mu.Lock()
		if w.keys == nil {
			w.keys = map[string]*warmth{}
		}
		now := time.Now()
		k := w.keys[key]
		if k == nil {
			w.forget(now)
			k = &warmth{}
			w.keys[key] = k
		}
		if now.Before(k.until) || k.busy != nil && try >= warmTries {
			warm = now.Before(k.until)
			w.mu.Unlock()
			return warm, w.done(k, nil, ttl), nil
		}
		if k.busy == nil {
			busy := make(chan struct{})
			k.busy = busy
			w.mu.Unlock()
			return false, w.done(k, busy, ttl), nil
		}
		busy := k.busy
		w.mu.Unlock()
		select {
		case <-busy:
		case <-ctx.Done():
			return false, nil, ended(ctx)
		}
	}
}

func (w *warmer) done(k *warmth, busy chan struct{}, ttl time.Duration) func(bool) {
	var once sync.Once
	return func(began bool) {
		once.Do(func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			if began {
				// A tenth early: theirs is counted from another moment.
				k.until = time.Now().Add(ttl - ttl/10)
			}
			if busy != nil {
				k.busy = nil
				close(busy)
			}
		})
	}
}

// forget drops what is cold when there is much.
func (w *warmer) forget(now time.Time) {
	if len(w.keys) < 256 {
		return
	}
	for key, k := range w.keys {
		if k.busy == nil && !now.Before(k.until) {
			delete(w.keys, key)
		}
	}
}
