package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// SpeedKey names a measurement of speed: a model by a build of an engine, on
// certain cards, under certain settings.
type SpeedKey struct {
	// Model is the file's SHA-256 in hex; Engine (the build), Card ("cpu", or the
	// cards' names) and Settings are the caller's words.
	Model, Engine, Card, Settings string
}

// Speed is what so many workers were measured to write.
type Speed struct {
	SpeedKey
	// Curve is a JSON object of the caller's.
	Curve json.RawMessage
	At    time.Time
}

// Measured is what was measured beside loads: speeds, and the energy of jobs.
type Measured struct{ s *Store }

// Measured returns the measurements of this store.
func (s *Store) Measured() Measured { return Measured{s} }

// PutSpeed stores a measurement; one with the same key is replaced. The error says that
// the curve is no JSON object, or is the database's.
func (t Measured) PutSpeed(ctx context.Context, v Speed) error {
	var object map[string]json.RawMessage
	if v.Model == "" || json.Unmarshal(v.Curve, &object) != nil {
		return errors.New("a measured speed needs its model's sum and a curve that is a JSON object")
	}
	_, err := t.s.db.Exec(ctx, `INSERT INTO speeds (model, engine, card, settings, curve, at_ms) VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (model, engine, card, settings) DO UPDATE SET curve = excluded.curve, at_ms = excluded.at_ms`,
		plain(v.Model), plain(v.Engine), plain(v.Card), plain(v.Settings), plain(string(v.Curve)), millis(v.At))
	return t.s.Explain(err)
}

// Speeds returns every measurement, the last one first.
func (t Measured) Speeds(ctx context.Context) ([]Speed, error) {
	rows, err := t.s.db.Query(ctx, `SELECT model, engine, card, settings, curve, at_ms FROM speeds ORDER BY at_ms DESC, model, engine, card, settings`)
	if err != nil {
		return nil, t.s.Explain(err)
	}
	defer rows.Close()
	var all []Speed
	for rows.Next() {
		var v Speed
		var curve string
		var at int64
		if err := rows.Scan(&v.Model, &v.Engine, &v.Card, &v.Settings, &curve, &at); err != nil {
			return nil, t.s.Explain(err)
		}
		v.Curve, v.At = json.RawMessage(curve), when(at)
		all = append(all, v)
	}
	return all, t.s.Explain(rows.Err())
}

// Energy is what a job drew, as far as it could be read.
type Energy struct {
	// Joules in all; Source names what was read.
	Joules float64
	Source string
	// Known is false where nothing could be read in some run of the job; Why says so,
	// or what is not counted.
	Known bool
	Why   string
	// Estimated: at least a part is power times time. Unseen is the time of which
	// nothing can be told.
	Estimated bool
	Unseen    time.Duration
	// Cost is what that came to by the tariff of the day, in units of 10⁻¹² dollar; nil
	// is unknown. Working is the arithmetic of the last run.
	Cost    *int64
	Working string
}

// AddEnergy adds what a run of a job drew to what its earlier runs did: it is known
// only if that of all runs is. An unknown run that follows known ones says why. A job that
// is removed leaves its energy on the books, as its calls.
func (t Measured) AddEnergy(ctx context.Context, job string, e Energy) error {
	if !(e.Joules >= 0) || e.Joules > 1e15 || e.Unseen < 0 || !e.Known && e.Why == "" {
		return fmt.Errorf("a job's energy of %v J (known: %v, because %q)", e.Joules, e.Known, e.Why)
	}
	_, err := t.s.db.Exec(ctx, `INSERT INTO energy (job, joules, source, known, why, estimated, unseen_us, cost_pico, working) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
		ON CONFLICT (job) DO UPDATE SET joules = energy.joules + excluded.joules, known = energy.known * excluded.known,
			source = CASE WHEN excluded.source <> '' THEN excluded.source ELSE energy.source END,
			why = CASE WHEN energy.known = 0 THEN energy.why ELSE excluded.why END,
			estimated = CASE WHEN excluded.estimated > energy.estimated THEN excluded.estimated ELSE energy.estimated END, unseen_us = energy.unseen_us + excluded.unseen_us,
			cost_pico = energy.cost_pico + excluded.cost_pico,
			working = CASE WHEN excluded.working <> '' THEN excluded.working ELSE energy.working END`,
		job, e.Joules, plain(e.Source), bit(e.Known), plain(e.Why), bit(e.Estimated), e.Unseen.Microseconds(), e.Cost, plain(e.Working))
	return t.s.Explain(err)
}

// EnergyOf returns what a job drew; nil where nobody measured it, as of jobs that an
// earlier version ran.
func (t Measured) EnergyOf(ctx context.Context, job string) (*Energy, error) {
	rows, err := t.s.db.Query(ctx, `SELECT joules, source, known, why, estimated, unseen_us, cost_pico, working FROM energy WHERE job = $1`, job)
	if err != nil {
		return nil, t.s.Explain(err)
	}
	defer rows.Close()
	var found *Energy
	for rows.Next() {
		var known, estimated, unseen int64
		found = new(Energy)
		if err := rows.Scan(&found.Joules, &found.Source, &known, &found.Why, &estimated, &unseen, &found.Cost, &found.Working); err != nil {
			return nil, t.s.Explain(err)
		}
		found.Known, found.Estimated, found.Unseen = known != 0, estimated != 0, time.Duration(unseen)*time.Microsecond
	}
	return found, t.s.Explain(rows.Err())
}
