package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dbos-inc/dbos-transact-golang/dbos"
)

// Cached returns the answer stored for a key (a Unit's Key, or any other hash of
// everything that the answer depends on); false if there is none.
func (s *Store) Cached(ctx context.Context, key string) ([]byte, bool, error) {
	var hash string
	var body []byte
	err := s.db.QueryRow(ctx, `SELECT a.hash, b.body FROM answers a JOIN bodies b ON b.hash = a.hash WHERE a.key = $1`, key).Scan(&hash, &body)
	if errors.Is(err, dbos.ErrNoRows) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, s.Explain(err)
	}
	if err := verify(hash, body); err != nil {
		return nil, false, err
	}
	return body, true, nil
}

// Put stores an answer for a key. An answer that is there is replaced.
func (s *Store) Put(ctx context.Context, key string, body []byte) error {
	return s.Explain(s.tx(ctx, func(q dbos.Querier) error {
		hash, err := putBody(ctx, q, body)
		if err != nil {
			return err
		}
		return putAnswer(ctx, q, key, hash, time.Now().UnixMilli())
	}))
}

func putAnswer(ctx context.Context, q dbos.Querier, key, hash string, at int64) error {
	_, err := q.Exec(ctx, `INSERT INTO answers (key, hash, at_ms) VALUES ($1, $2, $3)
		ON CONFLICT (key) DO UPDATE SET hash = excluded.hash, at_ms = excluded.at_ms`, plain(key), hash, at)
	return err
}

// Count returns how many tokens a tokenizer makes of a content, both named by
// hash; false if nobody has counted yet.
func (s *Store) Count(ctx context.Context, tokenizer, content string) (int, bool, error) {
	var n int
	err := s.db.QueryRow(ctx, `SELECT tokens FROM counts WHERE tokenizer = $1 AND content = $2`, tokenizer, content).Scan(&n)
	if errors.Is(err, dbos.ErrNoRows) {
		return 0, false, nil
	}
	return n, err == nil, s.Explain(err)
}

// Counts returns all counts of one tokenizer, by content: one query instead of
// one for each file of a repository.
func (s *Store) Counts(ctx context.Context, tokenizer string) (map[string]int, error) {
	rows, err := s.db.Query(ctx, `SELECT content, tokens FROM counts WHERE tokenizer = $1`, tokenizer)
	if err != nil {
		return nil, s.Explain(err)
	}
	defer rows.Close()
	out := map[string]int{}
	for rows.Next() {
		var content string
		var n int
		if err := rows.Scan(&content, &n); err != nil {
			return nil, s.Explain(err)
		}
		out[content] = n
	}
	return out, s.Explain(rows.Err())
}

// PutCount stores one count of tokens, ≥ 0.
func (s *Store) PutCount(ctx context.Context, tokenizer, content string, tokens int) error {
	return s.PutCounts(ctx, tokenizer, map[string]int{content: tokens})
}

// PutCounts stores counts by content in one transaction.
func (s *Store) PutCounts(ctx context.Context, tokenizer string, counts map[string]int) error {
	args := make([]any, 0, 3*len(counts))
	for content, n := range counts {
		if n < 0 {
			return fmt.Errorf("a count of %d tokens", n)
		}
		args = append(args, tokenizer, content, n)
	}
	return s.Explain(s.tx(ctx, func(q dbos.Querier) error {
		return insert(ctx, q, `INSERT INTO counts (tokenizer, content, tokens)`,
			`ON CONFLICT (tokenizer, content) DO UPDATE SET tokens = excluded.tokens`, 3, args)
	}))
}
