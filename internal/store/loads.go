package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"
)

// LoadKey names a load: a model under certain settings, by a build of an engine,
// on certain cards. What one load took, the next with the same key takes.
type LoadKey struct {
	// Model is the file's SHA-256 in hex; Settings, Engine (the build) and Card
	// ("cpu", or the cards' names) are the caller's words.
	Model, Settings, Engine, Card string
}

// Load is what a model took when an engine had loaded it, beside what had been
// predicted.
type Load struct {
	LoadKey
	// Predicted and Reported are the terms, JSON objects of the caller's: what was
	// worked out before the start, and what the engine's log said after it.
	Predicted, Reported json.RawMessage
	// OnCards and OnHost are the sums, in bytes.
	OnCards, OnHost Sums
	// Driver is what the driver said that the process held on all cards, its context
	// and libraries included, in bytes; nil where it does not tell.
	Driver *int64
	// At is the time of the last such load, Times how often there was one.
	At    time.Time
	Times int
}

// Sums are the bytes predicted and reported in one place.
type Sums struct{ Predicted, Reported int64 }

// Difference is how much more was reported than predicted, in bytes.
func (s Sums) Difference() int64 { return s.Reported - s.Predicted }

// Loads are the loads that were measured.
type Loads struct{ s *Store }

// Loads returns the measured loads of this store.
func (s *Store) Loads() Loads { return Loads{s} }

const loadColumns = `model, settings, engine, card, predicted, reported, predicted_cards, reported_cards, predicted_host, reported_host, driver, at_ms, times`

// Put stores a load. One with the same key is replaced, but for the driver's
// figure where the new one has none. Times is counted here.
func (t Loads) Put(ctx context.Context, l Load) error {
	for _, n := range []int64{l.OnCards.Predicted, l.OnCards.Reported, l.OnHost.Predicted, l.OnHost.Reported} {
		if n < 0 {
			return fmt.Errorf("a load of %d bytes", n)
		}
	}
	if l.Driver != nil && *l.Driver < 0 {
		return fmt.Errorf("a driver's figure of %d bytes", *l.Driver)
	}
	_, err := t.s.db.Exec(ctx, `INSERT INTO loads (`+loadColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, 1)
		ON CONFLICT (model, settings, engine, card) DO UPDATE SET predicted = excluded.predicted, reported = excluded.reported,
			predicted_cards = excluded.predicted_cards, reported_cards = excluded.reported_cards,
			predicted_host = excluded.predicted_host, reported_host = excluded.reported_host,
			driver = COALESCE(excluded.driver, loads.driver), at_ms = excluded.at_ms, times = loads.times + 1`,
		plain(l.Model), plain(l.Settings), plain(l.Engine), plain(l.Card), plain(string(l.Predicted)), plain(string(l.Reported)),
		l.OnCards.Predicted, l.OnCards.Reported, l.OnHost.Predicted, l.OnHost.Reported, l.Driver, millis(l.At))
	return t.s.Explain(err)
}

// All returns every load, the last one first.
func (t Loads) All(ctx context.Context) ([]Load, error) {
	rows, err := t.s.db.Query(ctx, `SELECT `+loadColumns+` FROM loads ORDER BY at_ms DESC, model, settings, engine, card`)
	if err != nil {
		return nil, t.s.Explain(err)
	}
	defer rows.Close()
	var all []Load
	for rows.Next() {
		l, err := scanLoad(rows)
		if err != nil {
			return nil, t.s.Explain(err)
		}
		all = append(all, l)
	}
	return all, t.s.Explain(rows.Err())
}

// Overhead is what the driver holds for a process of this engine on these cards
// beyond what the engine reports, in bytes: the most that was seen, and in how
// many loads; 0 and 0 where no driver told.
func (t Loads) Overhead(ctx context.Context, engine, card string) (bytes int64, loads int, err error) {
	err = t.s.db.QueryRow(ctx, `SELECT COALESCE(MAX(driver - reported_cards), 0), COUNT(*) FROM loads
		WHERE engine = $1 AND card = $2 AND driver >= reported_cards`, plain(engine), plain(card)).Scan(&bytes, &loads)
	return bytes, loads, t.s.Explain(err)
}

func scanLoad(row interface{ Scan(...any) error }) (Load, error) {
	var l Load
	var predicted, reported string
	var at int64
	err := row.Scan(&l.Model, &l.Settings, &l.Engine, &l.Card, &predicted, &reported, &l.OnCards.Predicted, &l.OnCards.Reported,
		&l.OnHost.Predicted, &l.OnHost.Reported, &l.Driver, &at, &l.Times)
	l.Predicted, l.Reported, l.At = json.RawMessage(predicted), json.RawMessage(reported), time.UnixMilli(at)
	return l, err
}
