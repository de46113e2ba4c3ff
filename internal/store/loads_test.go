package store

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"monitor/internal/needs"
)

func TestLoadsAreRemembered(t *testing.T) {
	t.Parallel()
	for name, config := range map[string]func(t *testing.T) Config{
		"sqlite":   func(t *testing.T) Config { return Config{Path: filepath.Join(t.TempDir(), "m.db")} },
		"migrated": func(t *testing.T) Config { return Config{Path: v1(t)} },
		"postgres": func(t *testing.T) Config { return Config{URL: needs.Postgres(t)} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := Open(t.Context(), config(t))
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			rememberLoads(t, s.Loads())
		})
	}
}

func find(t *testing.T, loads Loads, k LoadKey) (Load, bool, error) {
	all, err := loads.All(t.Context())
	i := slices.IndexFunc(all, func(l Load) bool {
		return l.LoadKey == LoadKey{plain(k.Model), plain(k.Settings), plain(k.Engine), plain(k.Card)} || l.LoadKey == k
	})
	if i < 0 {
		return Load{}, false, err
	}
	return all[i], true, err
}

func rememberLoads(t *testing.T, loads Loads) {
	ctx := t.Context()
	key := LoadKey{Model: "f00d", Settings: "-c 8192 -np 4", Engine: "b11549", Card: "RTX 4090"}
	if _, found, err := find(t, loads, key); found || err != nil {
		t.Fatalf("found before it was there (%v)", err)
	}
	if n, loads, err := loads.Overhead(ctx, key.Engine, key.Card); n != 0 || loads != 0 || err != nil {
		t.Errorf("an overhead of %d from %d loads (%v)", n, loads, err)
	}
	at := time.UnixMilli(1_795_000_000_000)
	first := Load{LoadKey: key, Predicted: json.RawMessage(`{"kv":1}`), Reported: json.RawMessage(`{"kv":2}`),
		OnCards: Sums{1000, 1010}, OnHost: Sums{50, 40}, Driver: new(int64(1500)), At: at}
	if err := loads.Put(ctx, first); err != nil {
		t.Fatal(err)
	}
	got, found, err := find(t, loads, key)
	if err != nil || !found || got.Times != 1 || !got.At.Equal(at) || string(got.Reported) != `{"kv":2}` || got.OnCards.Difference() != 10 || got.OnHost.Difference() != -10 || *got.Driver != 1500 {
		t.Fatalf("%+v (%v)", got, err)
	}

	// Once more, by a start whose driver told nothing: what it told before stays.
	again := first
	again.Driver, again.At, again.OnCards.Reported = nil, at.Add(time.Hour), 1020
	if err := loads.Put(ctx, again); err != nil {
		t.Fatal(err)
	}
	got, _, err = find(t, loads, key)
	if err != nil || got.Times != 2 || got.OnCards.Reported != 1020 || got.Driver == nil || *got.Driver != 1500 || !got.At.Equal(again.At) {
		t.Errorf("%+v (%v)", got, err)
	}

	// Another of each part of the key is another load.
	for i, other := range []LoadKey{
		{"beef", key.Settings, key.Engine, key.Card}, {key.Model, "-c 4096", key.Engine, key.Card},
		{key.Model, key.Settings, "b9000", key.Card}, {key.Model, key.Settings, key.Engine, "cpu"},
	} {
		if _, found, err := find(t, loads, other); found || err != nil {
			t.Errorf("%+v was found (%v)", other, err)
		}
		l := Load{LoadKey: other, Predicted: json.RawMessage(`{}`), Reported: json.RawMessage(`{}`), OnCards: Sums{100, 100}, At: at.Add(-time.Duration(i) * time.Hour)}
		if other.Engine == key.Engine && other.Card == key.Card {
			l.Driver = new(int64(100 + 700 - 400*int64(i)))
		}
		if err := loads.Put(ctx, l); err != nil {
			t.Fatal(err)
		}
	}
	all, err := loads.All(ctx)
	if err != nil || len(all) != 5 || all[0].LoadKey != key || all[4].Card != "cpu" || all[4].Driver != nil {
		t.Errorf("%d loads, %+v (%v)", len(all), all, err)
	}
	// 1500-1020, 800-100 and 400-100 on this card with this engine.
	if n, seen, err := loads.Overhead(ctx, key.Engine, key.Card); n != 700 || seen != 3 || err != nil {
		t.Errorf("an overhead of %d from %d loads (%v)", n, seen, err)
	}
	if n, seen, err := loads.Overhead(ctx, "b9000", key.Card); n != 0 || seen != 0 || err != nil {
		t.Errorf("an overhead of %d from %d loads without a driver's figure (%v)", n, seen, err)
	}

	hostile := first
	hostile.Settings = "a\x00b\xff'; DROP TABLE loads; --"
	if err := loads.Put(ctx, hostile); err != nil {
		t.Error(err)
	}
	if _, found, err := find(t, loads, hostile.LoadKey); !found || err != nil {
		t.Errorf("what was stored is not found again (%v)", err)
	}
	bad := first
	bad.OnHost.Reported = -1
	if loads.Put(ctx, bad) == nil {
		t.Error("negative bytes were stored")
	}
	bad = first
	bad.Driver = new(int64(-1))
	if loads.Put(ctx, bad) == nil {
		t.Error("a negative figure of the driver was stored")
	}
}
