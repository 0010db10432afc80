package db

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Tx is what a door hands to its function: enough for the generated queries.
// It is dead once the function returns, and for one goroutine at a time.
type Tx interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
	SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults
}

// finishing bounds what must still be done after the caller is gone.
const finishing = 5 * time.Second

// WithTenant runs fn in a transaction that sees only tenant's rows, and commits
// if fn returns nil. Any error of fn, and a panic, rolls back. An error with
// Unavailable from the commit leaves open whether it happened.
func (d *DB) WithTenant(ctx context.Context, tenant uuid.UUID, fn func(ctx context.Context, tx Tx) error) error {
	s, err := one(tenant)
	if err != nil {
		return err
	}
	return d.transact(ctx, s, fn)
}

// WithTenants is WithTenant for work that spans tenants: tables protected by
// list show the rows of all of them, tables protected singly refuse.
func (d *DB) WithTenants(ctx context.Context, tenants []uuid.UUID, fn func(ctx context.Context, tx Tx) error) error {
	s, err := many(tenants)
	if err != nil {
		return err
	}
	return d.transact(ctx, s, fn)
}

// Global runs fn in a transaction without a tenant: it reaches tables that have
// none and SECURITY DEFINER functions; tenant tables raise FT001.
func (d *DB) Global(ctx context.Context, fn func(ctx context.Context, tx Tx) error) error {
	return d.transact(ctx, scope{}, fn)
}

// scope is what a transaction sets before its first statement.
type scope struct {
	set   string
	value string
}

const (
	setOne  = `select set_config('fulcrum.current_tenant', $1, true)`
	setMany = `select set_config('fulcrum.current_tenants', $1, true)`
	setOnce = `select set_config('fulcrum.current_tenants', $1, true), set_config('plan_cache_mode', 'force_generic_plan', true)`
)

func one(tenant uuid.UUID) (scope, error) {
	if tenant == uuid.Nil {
		return scope{}, &Refusal{Reason: "database door: the tenant is the nil UUID"}
	}
	return scope{setOne, tenant.String()}, nil
}

func many(tenants []uuid.UUID) (scope, error) {
	if len(tenants) == 0 {
		return scope{}, &Refusal{Reason: "database door: no tenants given"}
	}
	var b strings.Builder
	for i, tenant := range tenants {
		if tenant == uuid.Nil {
			return scope{}, &Refusal{Reason: "database door: one of the tenants is the nil UUID"}
		}
		b.WriteByte("{,"[min(i, 1)])
		b.WriteString(tenant.String())
	}
	b.WriteByte('}')
	return scope{setMany, b.String()}, nil
}

func (s scope) queue(b *pgx.Batch) {
	if s.set != "" {
		b.Queue(s.set, s.value)
	}
}

func (d *DB) transact(ctx context.Context, s scope, fn func(ctx context.Context, tx Tx) error) (err error) {
	conn, err := d.checkout(ctx)
	if err != nil {
		return err
	}
	// Release destroys a connection that is broken or still in a transaction,
	// so a tenant, set locally as it is, cannot survive on one.
	defer conn.Release()

	if err := begin(ctx, conn, s); err != nil {
		return classify(ctx, "begin", err)
	}
	t := &tx{conn: conn}
	committed := false
	defer func() {
		if !committed {
			t.close()
			rollback(ctx, conn)
		}
	}()

	if err := fn(ctx, t); err != nil {
		return classify(ctx, "transaction", err)
	}
	t.close()
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	committed = true
	return commit(ctx, conn)
}

// begin opens the transaction and sets the tenant in one round trip.
func begin(ctx context.Context, conn *pgxpool.Conn, s scope) error {
	b := &pgx.Batch{}
	b.Queue("begin")
	s.queue(b)
	return conn.SendBatch(ctx, b).Close()
}

// commit ignores the caller's cancellation: once started, its outcome should be
// known.
func commit(ctx context.Context, conn *pgxpool.Conn) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishing)
	defer cancel()
	tag, err := conn.Exec(ctx, "commit")
	if err != nil {
		return classify(ctx, "commit", err)
	}
	if tag.String() != "COMMIT" {
		// A statement failed and fn hid it; Postgres then rolls back politely.
		return fmt.Errorf("commit: %w", pgx.ErrTxCommitRollback)
	}
	return nil
}

func rollback(ctx context.Context, conn *pgxpool.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishing)
	defer cancel()
	if conn.Conn().IsClosed() {
		return
	}
	if _, err := conn.Exec(ctx, "rollback"); err != nil {
		_ = conn.Conn().Close(ctx)
	}
}

var errDone = errors.New("db: transaction used after its function returned")

// tx refuses use after its door has closed: the connection is then another
// caller's.
type tx struct {
	conn *pgxpool.Conn // nil once closed
}

func (t *tx) close() { t.conn = nil }

func (t *tx) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	if t.conn == nil {
		return pgconn.CommandTag{}, errDone
	}
	return t.conn.Exec(ctx, sql, args...)
}

func (t *tx) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	if t.conn == nil {
		return failed{errDone}, errDone
	}
	return t.conn.Query(ctx, sql, args...)
}

func (t *tx) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	if t.conn == nil {
		return failed{errDone}
	}
	return t.conn.QueryRow(ctx, sql, args...)
}

func (t *tx) SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults {
	if t.conn == nil {
		return failedBatch{errDone}
	}
	return t.conn.SendBatch(ctx, b)
}
