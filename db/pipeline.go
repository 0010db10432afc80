package db

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Pipelined is WithTenants for the hot path: what needs no answer is not waited
// for. Exec only queues and returns an empty tag; the queue goes out, in order,
// with the next statement that has an answer, or with the commit. The begin
// goes out with the first. So "claim, then write three tables" is two round
// trips instead of six, and what needs no answer at all is one, without begin and
// commit.
//
// The price: an error of a queued statement is reported by a later call or by
// the commit, and row counts are not to be had. Use it where any failure fails
// the whole transaction.
func (d *DB) Pipelined(ctx context.Context, tenants []uuid.UUID, fn func(ctx context.Context, tx Tx) error) error {
	s, err := many(tenants)
	if err != nil {
		return err
	}
	conn, err := d.checkout(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()

	t := &pipe{conn: conn, scope: s}
	committed := false
	defer func() {
		begun := t.begun
		t.conn = nil
		if conn.Conn().PgConn().IsBusy() { // fn left rows unread
			_ = conn.Conn().Close(context.WithoutCancel(ctx))
		}
		if !committed && begun {
			rollback(ctx, conn)
		}
	}()
	if err := fn(ctx, t); err != nil {
		return classify(ctx, "transaction", err)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	err = t.commit(ctx)
	committed = err == nil
	return err
}

// pipe is a transaction that queues.
type pipe struct {
	conn   *pgxpool.Conn // nil once the door has closed
	scope  scope
	begun  bool
	queued []*pgx.QueuedQuery
}

// send sends what is queued and then the queries, whose results are left to
// be read. The results must be closed.
func (t *pipe) send(ctx context.Context, queries ...*pgx.QueuedQuery) pgx.BatchResults {
	if t.conn == nil {
		return failedBatch{errDone}
	}
	b := &pgx.Batch{}
	if !t.begun {
		b.Queue("begin")
		t.scope.queue(b)
	}
	b.QueuedQueries = append(b.QueuedQueries, t.queued...)
	ahead := b.Len()
	b.QueuedQueries = append(b.QueuedQueries, queries...)
	t.begun, t.queued = true, nil

	return &after{BatchResults: t.conn.SendBatch(ctx, b), unread: ahead}
}

func (t *pipe) commit(ctx context.Context) error {
	if !t.begun && len(t.queued) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishing)
	defer cancel()
	if !t.begun {
		return t.atOnce(ctx)
	}
	results := t.send(ctx, &pgx.QueuedQuery{SQL: "commit"})
	tag, err := results.Exec()
	if end := results.Close(); err == nil {
		err = end
	}
	if err != nil {
		return classify(ctx, "commit", err)
	}
	if tag.String() != "COMMIT" {
		return fmt.Errorf("commit: %w", pgx.ErrTxCommitRollback)
	}
	return nil
}

// atOnce commits what is queued when nothing was sent before: as one pipelined
// batch, which Postgres runs as one implicit transaction, like a oneShot's. So
// there is no begin and no commit to parse, send and answer.
func (t *pipe) atOnce(ctx context.Context) error {
	queued := t.queued
	t.queued = nil
	one := &oneShot{scope: t.scope, conn: t.conn}
	results := one.send(ctx, queued...)
	var err error
	for i := 0; i < len(queued) && err == nil; i++ {
		_, err = results.Exec()
	}
	if end := results.Close(); err == nil {
		err = end
	}
	return classify(ctx, "commit", err)
}

func (t *pipe) Exec(_ context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	if t.conn == nil {
		return pgconn.CommandTag{}, errDone
	}
	t.queued = append(t.queued, &pgx.QueuedQuery{SQL: sql, Arguments: args})
	return pgconn.CommandTag{}, nil
}

func (t *pipe) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	return rowsFrom(t.send(ctx, &pgx.QueuedQuery{SQL: sql, Arguments: args}))
}

func (t *pipe) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	return rowOf{t.send(ctx, &pgx.QueuedQuery{SQL: sql, Arguments: args})}
}

func (t *pipe) SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults {
	return t.send(ctx, b.QueuedQueries...)
}
