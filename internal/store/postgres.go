package store

import (
	"context"
	"fmt"
	"hash/fnv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// pgSchema holds our tables, apart from DBOS's ("dbos") and the user's own.
const pgSchema = "monitor"

func openPostgres(ctx context.Context, url string, m []migration) (*Store, error) {
	pool, err := openPool(ctx, url)
	if err != nil {
		return nil, err
	}
	s := &Store{url: url, pg: pool, db: pgQuerier{pool}}
	fail := func(err error) (*Store, error) {
		pool.Close()
		return nil, err
	}
	if err := pool.Ping(ctx); err != nil {
		return fail(fmt.Errorf("the database %s does not answer: %w. Check store.url in the config, and that the server runs", s.Where(), scrub(err, url)))
	}
	// Two processes that start at the same time on an empty database can collide
	// in CREATE SCHEMA even with IF NOT EXISTS; whoever loses finds it there.
	for try := 0; ; try++ {
		if _, err = pool.Exec(ctx, `CREATE SCHEMA IF NOT EXISTS `+pgSchema); err == nil || try == 3 {
			break
		}
	}
	if err != nil {
		return fail(fmt.Errorf("the schema %q cannot be made in %s: %w. The user needs the right CREATE on the database", pgSchema, s.Where(), err))
	}
	v, err := version(ctx, s.db, true)
	if err != nil {
		return fail(s.Explain(err))
	}
	if v > len(m) {
		return fail(newer(s.Where(), v, len(m)))
	}
	if err := migrate(ctx, s, m, time.Now().UnixMilli()); err != nil {
		return fail(s.Explain(err))
	}
	return s, nil
}

func openPool(ctx context.Context, url string) (*pgxpool.Pool, error) {
	c, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("store.url is not a Postgres address such as postgres://user@host/name: %w", scrub(err, url))
	}
	c.ConnConfig.RuntimeParams["search_path"] = pgSchema
	c.ConnConfig.RuntimeParams["application_name"] = "monitor"
	c.MaxConns = 8
	pool, err := pgxpool.NewWithConfig(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("connecting to Postgres: %w", scrub(err, url))
	}
	return pool, nil
}

// scrub keeps an address, which may hold a password, out of an error.
func scrub(err error, url string) error {
	if strings.Contains(err.Error(), url) {
		return fmt.Errorf("%s", strings.ReplaceAll(err.Error(), url, "the address"))
	}
	return err
}

// lockKey makes the number of an advisory lock from a name.
func lockKey(name string) int64 {
	h := fnv.New64a()
	h.Write([]byte("monitor\x00" + name))
	return int64(h.Sum64())
}
