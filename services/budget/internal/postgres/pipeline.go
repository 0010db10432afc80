package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/budgetdb"
)

// step is exactly one generated query and what to do with its result. It is
// called twice: first to queue the query, when its result is an error, and
// then to read the result.
type step func(ctx context.Context, q *budgetdb.Queries) error

// pipelined runs steps in order in one round trip, each seeing what the ones
// before it did. The statements of last, which may be nil, come after them;
// their results are only checked.
func pipelined(ctx context.Context, tx db.Tx, steps []step, last func(ctx context.Context, tx db.Tx) error) error {
	queue, err := queued(ctx, steps, last)
	if err != nil || queue.Len() == 0 {
		return err
	}
	results := tx.SendBatch(ctx, queue)
	if err := read(ctx, steps, results); err != nil {
		_ = results.Close() // says the same again
		return err
	}
	return results.Close()
}

// queued are the statements of pipelined.
func queued(ctx context.Context, steps []step, last func(ctx context.Context, tx db.Tx) error) (*pgx.Batch, error) {
	queue := &queue{}
	to := budgetdb.New(queue)
	for _, s := range steps {
		if err := s(ctx, to); err != nil && !errors.Is(err, errQueued) {
			return nil, err
		}
	}
	if last != nil {
		if err := last(ctx, queue); err != nil && !errors.Is(err, errQueued) {
			return nil, err
		}
	}
	return &queue.batch, nil
}

// read gives each step its result.
func read(ctx context.Context, steps []step, from results) error {
	answers := budgetdb.New(&answers{from})
	for _, s := range steps {
		if err := s(ctx, answers); err != nil {
			return err
		}
	}
	return nil
}

var errQueued = errors.New("postgres: queued")

// queue is a db.Tx that only takes note.
type queue struct{ batch pgx.Batch }

func (q *queue) Exec(_ context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	q.batch.Queue(sql, args...)
	return pgconn.CommandTag{}, errQueued
}

func (q *queue) Query(_ context.Context, sql string, args ...any) (pgx.Rows, error) {
	q.batch.Queue(sql, args...)
	return nil, errQueued
}

func (q *queue) QueryRow(_ context.Context, sql string, args ...any) pgx.Row {
	q.batch.Queue(sql, args...)
	return queuedRow{}
}

func (q *queue) SendBatch(_ context.Context, b *pgx.Batch) pgx.BatchResults {
	q.batch.QueuedQueries = append(q.batch.QueuedQueries, b.QueuedQueries...)
	return nil
}

type queuedRow struct{}

func (queuedRow) Scan(...any) error { return errQueued }

// results of a batch, in order.
type results interface {
	Exec() (pgconn.CommandTag, error)
	Query() (pgx.Rows, error)
	QueryRow() pgx.Row
}

// answers is a DBTX that returns results.
type answers struct{ results }

func (a *answers) Exec(context.Context, string, ...any) (pgconn.CommandTag, error) {
	return a.results.Exec()
}

func (a *answers) Query(context.Context, string, ...any) (pgx.Rows, error) { return a.results.Query() }

func (a *answers) QueryRow(context.Context, string, ...any) pgx.Row { return a.results.QueryRow() }
