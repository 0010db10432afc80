package db

import (
	"context"
	"errors"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Read runs fn with a Tx whose every statement (or SendBatch) is a transaction
// of its own, read only, and one round trip including the tenant. Two
// statements in fn see two snapshots; where that matters, use WithTenant.
func (d *DB) Read(ctx context.Context, tenant uuid.UUID, fn func(ctx context.Context, tx Tx) error) error {
	s, err := one(tenant)
	if err != nil {
		return err
	}
	return d.shots(ctx, s, true, fn)
}

// ReadTenants is Read over the rows of several tenants, for tables protected by list.
func (d *DB) ReadTenants(ctx context.Context, tenants []uuid.UUID, fn func(ctx context.Context, tx Tx) error) error {
	s, err := many(tenants)
	if err != nil {
		return err
	}
	return d.shots(ctx, s, true, fn)
}

// One is Read that may also write: each statement commits by itself before its
// call returns, and a SendBatch is all or nothing. An error of fn takes nothing back.
func (d *DB) One(ctx context.Context, tenant uuid.UUID, fn func(ctx context.Context, tx Tx) error) error {
	s, err := one(tenant)
	if err != nil {
		return err
	}
	return d.shots(ctx, s, false, fn)
}

// OneTenants is One over the rows of several tenants, for tables protected by list.
func (d *DB) OneTenants(ctx context.Context, tenants []uuid.UUID, fn func(ctx context.Context, tx Tx) error) error {
	s, err := many(tenants)
	if err != nil {
		return err
	}
	return d.shots(ctx, s, false, fn)
}

// OncePlanned is OneTenants for statements that take whole arrays of rows: each is
// planned once for a connection, whatever the arrays. Planned anew for each batch,
// a sixth of what a batch costs is planning.
func (d *DB) OncePlanned(ctx context.Context, tenants []uuid.UUID, fn func(ctx context.Context, tx Tx) error) error {
	s, err := many(tenants)
	if err != nil {
		return err
	}
	s.set = setOnce
	return d.shots(ctx, s, false, fn)
}

// GlobalOne is One without a tenant; see Global.
func (d *DB) GlobalOne(ctx context.Context, fn func(ctx context.Context, tx Tx) error) error {
	return d.shots(ctx, scope{}, false, fn)
}

func (d *DB) shots(ctx context.Context, s scope, readOnly bool, fn func(ctx context.Context, tx Tx) error) error {
	conn, err := d.checkout(ctx)
	if err != nil {
		return err
	}
	t := &oneShot{scope: s, readOnly: readOnly, conn: conn}
	defer func() {
		t.conn = nil
		if conn.Conn().PgConn().IsBusy() { // fn left rows unread
			_ = conn.Conn().Close(context.WithoutCancel(ctx))
		}
		conn.Release()
	}()
	return classify(ctx, "statement", fn(ctx, t))
}

// oneShot sends each statement with its settings as one pipelined batch, which
// Postgres runs as one implicit transaction: the settings end with it.
type oneShot struct {
	scope    scope
	readOnly bool
	conn     *pgxpool.Conn // nil once the door has closed
}

const setReadOnly = `select set_config('transaction_read_only', 'on', true)`

// send sends the settings and the queries, whose results are left to be read: what
// is done before that is done while the server works.
func (t *oneShot) send(ctx context.Context, queries ...*pgx.QueuedQuery) pgx.BatchResults {
	if t.conn == nil {
		return failedBatch{errDone}
	}
	b := &pgx.Batch{}
	t.scope.queue(b)
	if t.readOnly {
		b.Queue(setReadOnly)
	}
	settings := b.Len()
	b.QueuedQueries = append(b.QueuedQueries, queries...)

	return &after{BatchResults: t.conn.SendBatch(ctx, b), unread: settings}
}

func (t *oneShot) SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults {
	return t.send(ctx, b.QueuedQueries...)
}

func (t *oneShot) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	results := t.send(ctx, &pgx.QueuedQuery{SQL: sql, Arguments: args})
	tag, err := results.Exec()
	if end := results.Close(); err == nil { // the commit's own failure
		err = end
	}
	return tag, err
}

func (t *oneShot) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	return rowsFrom(t.send(ctx, &pgx.QueuedQuery{SQL: sql, Arguments: args}))
}

func (t *oneShot) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	results := t.send(ctx, &pgx.QueuedQuery{SQL: sql, Arguments: args})
	return rowOf{results}
}

// rowsFrom are the rows of the next result. With an error there are none, and
// nothing is left to be closed.
func rowsFrom(results pgx.BatchResults) (pgx.Rows, error) {
	rows, err := results.Query()
	r := &rowsOf{Rows: rows, results: results}
	if err != nil {
		r.Close()
	}
	return r, err
}

// rowsOf closes the batch with its rows, and reports a failed commit as their error.
type rowsOf struct {
	pgx.Rows
	results pgx.BatchResults
	closed  bool
	end     error
}

func (r *rowsOf) Next() bool {
	if r.Rows.Next() {
		return true
	}
	r.Close()
	return false
}

func (r *rowsOf) Close() {
	r.Rows.Close()
	if !r.closed {
		r.closed = true
		r.end = r.results.Close()
	}
}

func (r *rowsOf) Err() error {
	if err := r.Rows.Err(); err != nil {
		return err
	}
	return r.end
}

type rowOf struct{ results pgx.BatchResults }

func (r rowOf) Scan(dest ...any) error {
	err := r.results.QueryRow().Scan(dest...)
	if end := r.results.Close(); end != nil && (err == nil || errors.Is(err, pgx.ErrNoRows)) {
		return end
	}
	return err
}
