package store

import (
	"context"
	"database/sql"
	"errors"
	"strconv"
	"strings"

	"github.com/dbos-inc/dbos-transact-golang/dbos"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// liteQuerier and pgQuerier make the two drivers look alike to our queries, in
// the shape that DBOS gives to the transaction of a step.
type liteQuerier struct {
	q interface {
		ExecContext(context.Context, string, ...any) (sql.Result, error)
		QueryContext(context.Context, string, ...any) (*sql.Rows, error)
		QueryRowContext(context.Context, string, ...any) *sql.Row
	}
}

func (l liteQuerier) Exec(ctx context.Context, q string, args ...any) (dbos.Result, error) {
	return l.q.ExecContext(ctx, q, args...)
}

func (l liteQuerier) Query(ctx context.Context, q string, args ...any) (dbos.Rows, error) {
	rows, err := l.q.QueryContext(ctx, q, args...)
	if err != nil {
		return nil, err
	}
	return rows, nil
}

func (l liteQuerier) QueryRow(ctx context.Context, q string, args ...any) dbos.Row {
	return liteRow{l.q.QueryRowContext(ctx, q, args...)}
}

type liteRow struct{ *sql.Row }

func (r liteRow) Scan(dest ...any) error {
	err := r.Row.Scan(dest...)
	if errors.Is(err, sql.ErrNoRows) {
		return dbos.ErrNoRows
	}
	return err
}

type pgQuerier struct {
	q interface {
		Exec(context.Context, string, ...any) (pgconn.CommandTag, error)
		Query(context.Context, string, ...any) (pgx.Rows, error)
		QueryRow(context.Context, string, ...any) pgx.Row
	}
}

func (p pgQuerier) Exec(ctx context.Context, q string, args ...any) (dbos.Result, error) {
	tag, err := p.q.Exec(ctx, q, args...)
	return affected(tag.RowsAffected()), err
}

func (p pgQuerier) Query(ctx context.Context, q string, args ...any) (dbos.Rows, error) {
	rows, err := p.q.Query(ctx, q, args...)
	if err != nil {
		return nil, err
	}
	return pgRows{rows}, nil
}

func (p pgQuerier) QueryRow(ctx context.Context, q string, args ...any) dbos.Row {
	return p.q.QueryRow(ctx, q, args...)
}

type pgRows struct{ pgx.Rows }

func (r pgRows) Close() error { r.Rows.Close(); return nil }

type affected int64

func (a affected) RowsAffected() (int64, error) { return int64(a), nil }

// values writes "($1,$2),($3,$4)": n rows of k parameters.
func values(n, k int) string {
	var b strings.Builder
	for i := range n * k {
		switch {
		case i == 0:
			b.WriteString("(")
		case i%k == 0:
			b.WriteString("),(")
		default:
			b.WriteString(",")
		}
		b.WriteString("$" + strconv.Itoa(i+1))
	}
	b.WriteString(")")
	return b.String()
}

// insert writes rows of k values each, a few rows to a statement: one by one
// would cost a round trip each on Postgres, all at once too many parameters.
func insert(ctx context.Context, q dbos.Querier, into, onConflict string, k int, args []any) error {
	const rowsAtOnce = 24
	for len(args) > 0 {
		n := min(rowsAtOnce, len(args)/k)
		if _, err := q.Exec(ctx, into+" VALUES "+values(n, k)+" "+onConflict, args[:n*k]...); err != nil {
			return err
		}
		args = args[n*k:]
	}
	return nil
}
