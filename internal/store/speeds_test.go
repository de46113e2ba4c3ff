package store

import (
	"encoding/json"
	"math"
	"path/filepath"
	"testing"
	"time"

	"monitor/internal/needs"
)

// everyStore runs a test on a new SQLite file, on one that was migrated and on Postgres.
func everyStore(t *testing.T, test func(t *testing.T, s *Store)) {
	t.Parallel()
	for name, config := range map[string]func(t *testing.T) Config{
		"sqlite":   func(t *testing.T) Config { return Config{Path: filepath.Join(t.TempDir(), "m.db")} },
		"migrated": func(t *testing.T) Config { return Config{Path: kept(t, "v2")} },
		"postgres": func(t *testing.T) Config { return Config{URL: needs.Postgres(t)} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := Open(t.Context(), config(t))
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			test(t, s)
		})
	}
}

func TestSpeedsAreRemembered(t *testing.T) {
	everyStore(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		if all, err := s.Measured().Speeds(ctx); err != nil || len(all) != 0 {
			t.Fatalf("%d before there was one (%v)", len(all), err)
		}
		at := time.UnixMilli(1_795_000_000_000)
		key := SpeedKey{Model: "f00d", Engine: "b11549", Card: "RTX 4090", Settings: "-c 8192 -np 8"}
		put := func(k SpeedKey, curve string, at time.Time) {
			t.Helper()
			if err := s.Measured().PutSpeed(ctx, Speed{SpeedKey: k, Curve: json.RawMessage(curve), At: at}); err != nil {
				t.Fatal(err)
			}
		}
		put(key, `{"best":4}`, at)
		put(key, `{"best":8}`, at.Add(time.Hour)) // measured again: the last counts
		for i, other := range []SpeedKey{{"beef", key.Engine, key.Card, key.Settings}, {key.Model, "b9000", key.Card, key.Settings}, {key.Model, key.Engine, "cpu", key.Settings}, {key.Model, key.Engine, key.Card, "a\x00b\xff'; DROP TABLE speeds; --"}} {
			put(other, `{}`, at.Add(-time.Duration(i)*time.Hour))
		}
		all, err := s.Measured().Speeds(ctx)
		if err != nil || len(all) != 5 || all[0].SpeedKey != key || string(all[0].Curve) != `{"best":8}` || !all[0].At.Equal(at.Add(time.Hour)) || all[1].Model != "beef" {
			t.Errorf("%+v (%v)", all, err)
		}
		for _, bad := range []Speed{{SpeedKey: key, Curve: json.RawMessage(`[1]`)}, {SpeedKey: key, Curve: json.RawMessage(`nonsense`)}, {Curve: json.RawMessage(`{}`)}} {
			if s.Measured().PutSpeed(ctx, bad) == nil {
				t.Errorf("%+v was stored", bad)
			}
		}
	})
}

func TestEnergyOfJobsAddsUp(t *testing.T) {
	everyStore(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		if e, err := s.Measured().EnergyOf(ctx, "j"); e != nil || err != nil {
			t.Fatalf("%+v (%v)", e, err)
		}
		add := func(e Energy, want Energy) {
			t.Helper()
			if err := s.Measured().AddEnergy(ctx, "j", e); err != nil {
				t.Fatal(err)
			}
			if got, err := s.Measured().EnergyOf(ctx, "j"); err != nil || got == nil || *got != want {
				t.Errorf("%+v (%v), want %+v", got, err, want)
			}
		}
		add(Energy{Joules: 1000.5, Source: "NVML", Known: true, Unseen: time.Second}, Energy{Joules: 1000.5, Source: "NVML", Known: true, Unseen: time.Second})
		add(Energy{Joules: 2000, Source: "power of nvidia-smi", Known: true, Estimated: true, Unseen: time.Second}, Energy{Joules: 3000.5, Source: "power of nvidia-smi", Known: true, Estimated: true, Unseen: 2 * time.Second})
		add(Energy{Why: "no card"}, Energy{Joules: 3000.5, Source: "power of nvidia-smi", Why: "no card", Estimated: true, Unseen: 2 * time.Second})
		add(Energy{Joules: 1, Source: "NVML", Known: true}, Energy{Joules: 3001.5, Source: "NVML", Why: "no card", Estimated: true, Unseen: 2 * time.Second})
		if e, err := s.Measured().EnergyOf(ctx, "another"); e != nil || err != nil {
			t.Errorf("%+v (%v)", e, err)
		}
		for _, bad := range []Energy{{}, {Joules: -1, Known: true}, {Joules: math.NaN(), Known: true}, {Joules: math.Inf(1), Known: true}, {Known: true, Unseen: -1}} {
			if s.Measured().AddEnergy(ctx, "j", bad) == nil {
				t.Errorf("%+v was stored", bad)
			}
		}
	})
}
