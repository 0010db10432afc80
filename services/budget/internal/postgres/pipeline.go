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
	batch, err := queued(ctx, steps, last)
	if err != nil || batch.Len() == 0 {
		return err
	}
	results := tx.SendBatch(ctx, batch)
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

// ahead runs first and then what rest returns as pipelined would, and commits. If
// early, the database works on first while rest is called. No step may want rows.
func ahead(ctx context.Context, s *db.Stream, first []step, early bool, rest func() []step, last func(ctx context.Context, tx db.Tx) error, meanwhile func()) error {
	batch, err := queued(ctx, first, nil)
	if err != nil {
		return err
	}
	if err := s.Queue(batch); err != nil {
		return err
	}
	if early {
		if err := s.Send(); err != nil {
			return err
		}
	}
	more := rest()
	if batch, err = queued(ctx, more, last); err != nil {
		return err
	}
	if err := s.Queue(batch); err != nil {
		return err
	}
	tags, err := s.Commit(meanwhile)
	if err != nil {
		return err
	}
	answers := &tagged{tags}
	for _, of := range [][]step{first, more} {
		for _, s := range of {
			if err := s(ctx, budgetdb.New(answers)); err != nil {
				return err
			}
		}
	}
	return nil
}

// queued are the statements of steps, and of last, which may be nil.
func queued(ctx context.Context, steps []step, last func(ctx context.Context, tx db.Tx) error) (*pgx.Batch, error) {
	queue := &queue{}
	for _, s := range steps {
		if err := s(ctx, budgetdb.New(queue)); err != nil && !errors.Is(err, errQueued) {
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

// tagged is a DBTX that returns in order what statements said they did.
type tagged struct{ tags []pgconn.CommandTag }

var errNoRows = errors.New("postgres: rows of a statement that was sent ahead are not read")

func (t *tagged) Exec(context.Context, string, ...any) (pgconn.CommandTag, error) {
	tag := t.tags[0]
	t.tags = t.tags[1:]
	return tag, nil
}

func (*tagged) Query(context.Context, string, ...any) (pgx.Rows, error) { return nil, errNoRows }

func (*tagged) QueryRow(context.Context, string, ...any) pgx.Row { return noRow{} }

type noRow struct{}

func (noRow) Scan(...any) error { return errNoRows }
