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
	return pipelinedWhile(ctx, tx, steps, last, func() {})
}

// pipelinedWhile does something of its own while the database works.
func pipelinedWhile(ctx context.Context, tx db.Tx, steps []step, last func(ctx context.Context, tx db.Tx) error, meanwhile func()) error {
	queue := &queue{}
	for _, s := range steps {
		if err := s(ctx, budgetdb.New(queue)); err != nil && !errors.Is(err, errQueued) {
			return err
		}
	}
	if last != nil {
		if err := last(ctx, queue); err != nil && !errors.Is(err, errQueued) {
			return err
		}
	}
	if queue.batch.Len() == 0 {
		return nil
	}
	results := tx.SendBatch(ctx, &queue.batch)
	meanwhile()
	answers := &answers{results}
	for _, s := range steps {
		if err := s(ctx, budgetdb.New(answers)); err != nil {
			_ = results.Close() // says the same again
			return err
		}
	}
	return results.Close()
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

// answers is a DBTX that returns the results of a batch in order.
type answers struct{ results pgx.BatchResults }

func (a *answers) Exec(context.Context, string, ...any) (pgconn.CommandTag, error) {
	return a.results.Exec()
}

func (a *answers) Query(context.Context, string, ...any) (pgx.Rows, error) { return a.results.Query() }

func (a *answers) QueryRow(context.Context, string, ...any) pgx.Row { return a.results.QueryRow() }
