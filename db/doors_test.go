package db_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/dbtest"
)

const note = `insert into fulcrum.inbox (tenant_id, consumer, event_id) values ($1, 'test', gen_random_uuid())`

func inboxRows(t *testing.T, d *dbtest.Database) int64 {
	return dbtest.Count(t, d, `select count(*) from fulcrum.inbox`)
}

func TestATransactionCommitsWhatItsFunctionDidOrNothing(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	tenant := uuid.New()
	boom := errors.New("boom")
	write := func(end error) func(context.Context, db.Tx) error {
		return func(ctx context.Context, tx db.Tx) error {
			if _, err := tx.Exec(ctx, note, tenant); err != nil {
				return err
			}
			return end
		}
	}
	if err := d.DB.WithTenant(t.Context(), tenant, write(boom)); !errors.Is(err, boom) {
		t.Errorf("got %v, want the function's own error", err)
	}
	func() {
		defer func() {
			if recover() != "panic" {
				t.Error("the panic did not come through")
			}
		}()
		_ = d.DB.WithTenant(t.Context(), tenant, func(ctx context.Context, tx db.Tx) error {
			_ = write(nil)(ctx, tx)
			panic("panic")
		})
	}()
	ctx, cancel := context.WithCancel(t.Context())
	err := d.DB.WithTenant(ctx, tenant, func(ctx context.Context, tx db.Tx) error {
		defer cancel()
		return write(nil)(ctx, tx)
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the caller's cancellation", err)
	}
	err = d.DB.WithTenant(t.Context(), tenant, func(ctx context.Context, tx db.Tx) error {
		_, _ = tx.Exec(ctx, `select 1/0`) // hides the failure
		return nil
	})
	if !errors.Is(err, pgx.ErrTxCommitRollback) {
		t.Errorf("got %v, want to hear that the commit was a rollback", err)
	}
	if n := inboxRows(t, d); n != 0 {
		t.Fatalf("%d rows committed, want none", n)
	}
	if err := d.DB.WithTenant(t.Context(), tenant, write(nil)); err != nil {
		t.Error(err)
	}
	if n := inboxRows(t, d); n != 1 {
		t.Errorf("%d rows committed, want 1", n)
	}
}

// Each statement behind One stands by itself; behind Read it may not write.
func TestOneCommitsEachStatementAndReadNone(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	tenant := uuid.New()
	boom := errors.New("boom")
	err := d.DB.One(t.Context(), tenant, func(ctx context.Context, tx db.Tx) error {
		if _, err := tx.Exec(ctx, note, tenant); err != nil {
			return err
		}
		var id uuid.UUID
		if err := tx.QueryRow(ctx, note+` returning event_id`, tenant).Scan(&id); err != nil {
			return err
		}
		return boom
	})
	if !errors.Is(err, boom) || inboxRows(t, d) != 2 {
		t.Errorf("got %v and %d rows, want the error and 2", err, inboxRows(t, d))
	}
	for name, door := range map[string]func(context.Context, func(context.Context, db.Tx) error) error{
		"one": func(ctx context.Context, fn func(context.Context, db.Tx) error) error {
			return d.DB.Read(ctx, tenant, fn)
		},
		"list": func(ctx context.Context, fn func(context.Context, db.Tx) error) error {
			return d.DB.ReadTenants(ctx, []uuid.UUID{tenant}, fn)
		},
	} {
		err := door(t.Context(), func(ctx context.Context, tx db.Tx) error {
			_, err := tx.Exec(ctx, note, tenant)
			return err
		})
		if !db.Is(err, "25006") {
			t.Errorf("%s: got %v, want a refusal to write", name, err)
		}
		err = door(t.Context(), func(ctx context.Context, tx db.Tx) error {
			rows, err := tx.Query(ctx, `select event_id from fulcrum.inbox where tenant_id = $1`, tenant)
			if err != nil {
				return err
			}
			ids, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
			if len(ids) != 2 {
				t.Errorf("%s: read %d rows, want 2", name, len(ids))
			}
			return err
		})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A batch behind One is one transaction: its last statement failing takes the
// first back.
func TestABatchBehindOneIsAllOrNothing(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	tenant := uuid.New()
	send := func(statements ...string) error {
		return d.DB.One(t.Context(), tenant, func(ctx context.Context, tx db.Tx) error {
			b := &pgx.Batch{}
			for _, sql := range statements {
				b.Queue(sql, tenant)
			}
			return tx.SendBatch(ctx, b).Close()
		})
	}
	if err := send(note, note, `select 1/0 where $1::uuid is not null`); !db.Is(err, "22012") {
		t.Errorf("got %v, want the division's error", err)
	}
	if n := inboxRows(t, d); n != 0 {
		t.Errorf("%d rows, want none", n)
	}
	if err := send(note, note); err != nil || inboxRows(t, d) != 2 {
		t.Errorf("got %v and %d rows, want 2", err, inboxRows(t, d))
	}
}

// A constraint checked at commit must not be lost because the statement went well.
func TestAFailedCommitIsReportedByEveryDoor(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	tenant := uuid.New()
	dbtest.Admin(t, d, `
		create function fulcrum.never() returns trigger language plpgsql as 'begin raise exception ''never'' using errcode = ''23000''; end';
		grant execute on function fulcrum.never() to fulcrum_app;
		create constraint trigger never after insert on fulcrum.inbox deferrable initially deferred for each row execute function fulcrum.never()`)
	exec := func(ctx context.Context, tx db.Tx) error { _, err := tx.Exec(ctx, note, tenant); return err }
	row := func(ctx context.Context, tx db.Tx) error {
		return tx.QueryRow(ctx, note+` returning event_id`, tenant).Scan(new(uuid.UUID))
	}
	rows := func(ctx context.Context, tx db.Tx) error {
		r, err := tx.Query(ctx, note+` returning event_id`, tenant)
		if err != nil {
			return err
		}
		_, err = pgx.CollectRows(r, pgx.RowTo[uuid.UUID])
		return err
	}
	for name, err := range map[string]error{
		"transaction": d.DB.WithTenant(t.Context(), tenant, exec),
		"pipelined":   d.DB.Pipelined(t.Context(), []uuid.UUID{tenant}, exec),
		"exec":        d.DB.One(t.Context(), tenant, exec),
		"row":         d.DB.One(t.Context(), tenant, row),
		"rows":        d.DB.One(t.Context(), tenant, rows),
	} {
		if !db.Is(err, "23000") {
			t.Errorf("%s: got %v, want the commit's failure", name, err)
		}
	}
	if n := inboxRows(t, d); n != 0 {
		t.Errorf("%d rows, want none", n)
	}
}

func TestTheDoorsRefuseNoTenant(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	never := func(context.Context, db.Tx) error { t.Error("the function ran"); return nil }
	for name, err := range map[string]error{
		"with":         d.DB.WithTenant(t.Context(), uuid.Nil, never),
		"read":         d.DB.Read(t.Context(), uuid.Nil, never),
		"one":          d.DB.One(t.Context(), uuid.Nil, never),
		"list":         d.DB.WithTenants(t.Context(), nil, never),
		"pipelined":    d.DB.Pipelined(t.Context(), nil, never),
		"list of none": d.DB.OneTenants(t.Context(), []uuid.UUID{uuid.New(), uuid.Nil}, never),
		"read list":    d.DB.ReadTenants(t.Context(), []uuid.UUID{}, never),
	} {
		var refusal *db.Refusal
		if !errors.As(err, &refusal) {
			t.Errorf("%s: got %v, want a refusal", name, err)
		}
	}
}

// A Tx that was kept beyond its function would run on another caller's
// connection.
func TestATxIsDeadAfterItsFunction(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	for name, door := range map[string]func(context.Context, uuid.UUID, func(context.Context, db.Tx) error) error{
		"with": d.DB.WithTenant, "one": d.DB.One, "read": d.DB.Read, "pipelined": pipelined(d.DB),
	} {
		var kept db.Tx
		if err := door(t.Context(), uuid.New(), func(_ context.Context, tx db.Tx) error { kept = tx; return nil }); err != nil {
			t.Fatal(err)
		}
		_, execErr := kept.Exec(t.Context(), `select 1`)
		_, queryErr := kept.Query(t.Context(), `select 1`)
		rowErr := kept.QueryRow(t.Context(), `select 1`).Scan(new(int))
		batchErr := kept.SendBatch(t.Context(), &pgx.Batch{}).Close()
		for what, err := range map[string]error{"exec": execErr, "query": queryErr, "row": rowErr, "batch": batchErr} {
			if err == nil || !strings.Contains(err.Error(), "after its function") {
				t.Errorf("%s %s: got %v, want a refusal", name, what, err)
			}
		}
	}
}

// Rows that a function leaves unread cost its connection, not the next caller.
func TestUnreadRowsDoNotPoisonTheConnection(t *testing.T) {
	t.Parallel()
	d := dbtest.NewWith(t, db.Options{MaxConns: 1})
	for name, door := range map[string]func(context.Context, uuid.UUID, func(context.Context, db.Tx) error) error{
		"with": d.DB.WithTenant, "one": d.DB.One, "pipelined": pipelined(d.DB),
	} {
		_ = door(t.Context(), uuid.New(), func(ctx context.Context, tx db.Tx) error {
			_, err := tx.Query(ctx, `select generate_series(1, 100000)`)
			return err
		})
		var n int
		err := door(t.Context(), uuid.New(), func(ctx context.Context, tx db.Tx) error {
			return tx.QueryRow(ctx, `select 42`).Scan(&n)
		})
		if err != nil || n != 42 {
			t.Errorf("%s: got %d, %v; want 42", name, n, err)
		}
	}
}

// pipelined gives the door the shape of the others.
func pipelined(d *db.DB) func(context.Context, uuid.UUID, func(context.Context, db.Tx) error) error {
	return func(ctx context.Context, tenant uuid.UUID, fn func(context.Context, db.Tx) error) error {
		return d.Pipelined(ctx, []uuid.UUID{tenant}, fn)
	}
}

// What is queued runs in order with what is not, commits with it, and takes it
// along when it fails.
func TestAPipelineIsOneTransactionInOrder(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	tenant, boom := uuid.New(), errors.New("boom")
	seen := func(ctx context.Context, tx db.Tx) (n int, err error) {
		err = tx.QueryRow(ctx, `select count(*) from fulcrum.inbox where tenant_id = $1`, tenant).Scan(&n)
		return n, err
	}
	write := func(ctx context.Context, tx db.Tx) { _, _ = tx.Exec(ctx, note, tenant) }
	for name, tt := range map[string]struct {
		fn   func(context.Context, db.Tx) error
		want func(error) bool
	}{
		"the function fails": {func(ctx context.Context, tx db.Tx) error { write(ctx, tx); return boom },
			func(err error) bool { return errors.Is(err, boom) }},
		"a queued statement fails at the commit": {func(ctx context.Context, tx db.Tx) error {
			write(ctx, tx)
			_, err := tx.Exec(ctx, `select 1/0`)
			return err
		}, func(err error) bool { return db.Is(err, "22012") }},
		"a queued statement fails before a query": {func(ctx context.Context, tx db.Tx) error {
			_, _ = tx.Exec(ctx, `select 1/0`)
			_, err := seen(ctx, tx)
			return err
		}, func(err error) bool { return db.Is(err, "22012") }},
		"another tenant's row is refused": {func(ctx context.Context, tx db.Tx) error {
			_, err := tx.Exec(ctx, note, uuid.New())
			return err
		}, func(err error) bool { return db.Is(err, "42501") }},
	} {
		if err := d.DB.Pipelined(t.Context(), []uuid.UUID{tenant}, tt.fn); !tt.want(err) {
			t.Errorf("%s: got %v", name, err)
		}
		if n := inboxRows(t, d); n != 0 {
			t.Fatalf("%s: %d rows were committed", name, n)
		}
	}
	err := d.DB.Pipelined(t.Context(), []uuid.UUID{tenant}, func(ctx context.Context, tx db.Tx) error {
		write(ctx, tx)
		write(ctx, tx)
		n, err := seen(ctx, tx)
		if n != 2 {
			t.Errorf("a query after two writes sees %d rows", n)
		}
		write(ctx, tx)
		return err
	})
	if n := inboxRows(t, d); err != nil || n != 3 {
		t.Errorf("%d rows committed, %v; want 3", n, err)
	}
}

// A statement that fails costs the transaction, and not the connection: also when
// it was queued ahead of a query whose rows nobody gets to close.
func TestAFailedStatementLeavesTheConnection(t *testing.T) {
	t.Parallel()
	d := dbtest.Bare(t)
	pool, err := db.Open(t.Context(), d.AppURL, db.Options{MaxConns: 1, MinConns: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	backend := func() (pid int) {
		t.Helper()
		err := pool.GlobalOne(t.Context(), func(ctx context.Context, tx db.Tx) error {
			return tx.QueryRow(ctx, `select pg_backend_pid()`).Scan(&pid)
		})
		if err != nil {
			t.Fatal(err)
		}
		return pid
	}
	before, tenant := backend(), uuid.New()
	for name, call := range map[string]func() error{
		"queued before a query": func() error {
			return pool.Pipelined(t.Context(), []uuid.UUID{tenant}, func(ctx context.Context, tx db.Tx) error {
				_, _ = tx.Exec(ctx, `select 1/0`)
				_, err := tx.Query(ctx, `select 1`)
				return err
			})
		},
		"queued before one row": func() error {
			return pool.Pipelined(t.Context(), []uuid.UUID{tenant}, func(ctx context.Context, tx db.Tx) error {
				_, _ = tx.Exec(ctx, `select 1/0`)
				return tx.QueryRow(ctx, `select 1`).Scan(new(int))
			})
		},
		"in a statement of its own": func() error {
			return pool.One(t.Context(), tenant, func(ctx context.Context, tx db.Tx) error {
				_, err := tx.Exec(ctx, `select 1/0`)
				return err
			})
		},
		"in a batch whose results nobody reads": func() error {
			return pool.One(t.Context(), tenant, func(ctx context.Context, tx db.Tx) error {
				b := &pgx.Batch{}
				b.Queue(`select 1/0`)
				return tx.SendBatch(ctx, b).Close()
			})
		},
	} {
		if err := call(); !db.Is(err, "22012") {
			t.Errorf("%s: %v", name, err)
		}
		if now := backend(); now != before {
			t.Errorf("%s: another connection than before", name)
			before = now
		}
	}
}

// The round trips are the price of a door at any real distance.
func TestTheDoorsTakeTheRoundTripsTheyPromise(t *testing.T) {
	t.Parallel()
	d := dbtest.Bare(t)
	m := proxy(t, d.AppURL)
	pool, err := db.Open(t.Context(), m.url, db.Options{MaxConns: 1, MinConns: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	tenant := uuid.New()
	count := func(ctx context.Context, tx db.Tx) error {
		return tx.QueryRow(ctx, `select count(*) from fulcrum.inbox where tenant_id = $1`, tenant).Scan(new(int))
	}
	for _, tt := range []struct {
		name string
		call func() error
		want int64
	}{
		{"read", func() error { return pool.Read(t.Context(), tenant, count) }, 1},
		{"one", func() error { return pool.One(t.Context(), tenant, count) }, 1},
		{"list", func() error { return pool.ReadTenants(t.Context(), []uuid.UUID{tenant}, count) }, 1},
		{"global", func() error {
			return pool.GlobalOne(t.Context(), func(ctx context.Context, tx db.Tx) error { return tx.QueryRow(ctx, `select 1`).Scan(new(int)) })
		}, 1},
		{"transaction", func() error { return pool.WithTenant(t.Context(), tenant, count) }, 3},
		{"pipelined", func() error {
			return pool.Pipelined(t.Context(), []uuid.UUID{tenant}, func(ctx context.Context, tx db.Tx) error {
				if err := count(ctx, tx); err != nil {
					return err
				}
				for range 3 {
					if _, err := tx.Exec(ctx, note, tenant); err != nil {
						return err
					}
				}
				return nil
			})
		}, 2},
	} {
		if err := tt.call(); err != nil { // prepares the statements
			t.Fatal(err)
		}
		before := m.turns.Load()
		if err := tt.call(); err != nil {
			t.Fatal(err)
		}
		if got := m.turns.Load() - before; got != tt.want {
			t.Errorf("%s: %d round trips, want %d", tt.name, got, tt.want)
		}
	}
}

// Exhaustion and loss say "later", in a way that callers can tell.
func TestADatabaseThatIsAwayOrFullIsUnavailable(t *testing.T) {
	t.Parallel()
	d := dbtest.Bare(t)
	m := proxy(t, d.AppURL)
	pool, err := db.Open(t.Context(), m.url, db.Options{MaxConns: 1, Acquire: 2 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	nothing := func(context.Context, db.Tx) error { return nil }

	err = pool.WithTenant(t.Context(), uuid.New(), func(ctx context.Context, _ db.Tx) error {
		if err := pool.Read(ctx, uuid.New(), nothing); !db.Unavailable(err) || !strings.Contains(err.Error(), "1 of 1 in use") {
			t.Errorf("full: got %v, want Unavailable", err)
		}
		short, cancel := context.WithTimeout(ctx, time.Millisecond)
		defer cancel()
		if err := pool.Read(short, uuid.New(), nothing); db.Unavailable(err) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("caller's deadline: got %v, want it to be told apart", err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}

	for name, sql := range map[string]string{
		"statement timeout": `select pg_sleep(60)`,
		"serialization":     `do $$ begin raise exception 'x' using errcode = '40001'; end $$`,
	} {
		err := pool.WithTenant(t.Context(), uuid.New(), func(ctx context.Context, tx db.Tx) error {
			if _, err := tx.Exec(ctx, `set local statement_timeout = '50ms'`); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, sql)
			return fmt.Errorf("store: %w", err)
		})
		if !db.Unavailable(err) {
			t.Errorf("%s: got %v, want Unavailable", name, err)
		}
	}

	cut := pool.WithTenant(t.Context(), uuid.New(), func(ctx context.Context, tx db.Tx) error {
		m.stop()
		_, err := tx.Exec(ctx, `select 1`)
		return err
	})
	if !db.Unavailable(cut) {
		t.Errorf("cut: got %v, want Unavailable", cut)
	}
	if err := pool.Read(t.Context(), uuid.New(), nothing); !db.Unavailable(err) {
		t.Errorf("away: got %v, want Unavailable", err)
	}
	if err := pool.Ping(t.Context()); !db.Unavailable(err) {
		t.Errorf("ping: got %v, want Unavailable", err)
	}
}

// A connection that died while idle is found out on checkout, not by a caller.
func TestAConnectionThatDiedIdleIsReplaced(t *testing.T) {
	t.Parallel()
	d := dbtest.NewWith(t, db.Options{MaxConns: 1})
	if err := d.DB.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	dbtest.Admin(t, d, `select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and usename = 'fulcrum_app'`)
	idle := time.NewTimer(1100 * time.Millisecond) // what is tested is the time
	<-idle.C
	if err := d.DB.Ping(t.Context()); err != nil {
		t.Errorf("got %v, want a new connection", err)
	}
}

// The limits come with the role, whoever forgets to set them.
func TestTheRoleHasItsLimits(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	for setting, want := range map[string]string{
		"statement_timeout": "5s", "lock_timeout": "1s", "idle_in_transaction_session_timeout": "10s", "search_path": "pg_catalog",
	} {
		var got string
		err := d.DB.GlobalOne(t.Context(), func(ctx context.Context, tx db.Tx) error {
			return tx.QueryRow(ctx, `select current_setting($1)`, setting).Scan(&got)
		})
		if err != nil || got != want {
			t.Errorf("%s is %q, %v; want %s", setting, got, err, want)
		}
	}
}

// Many tests' worth of callers share few connections.
func TestCallersQueueForConnections(t *testing.T) {
	t.Parallel()
	d := dbtest.NewWith(t, db.Options{MaxConns: 2, Acquire: 10 * time.Second})
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			err := d.DB.Read(t.Context(), uuid.New(), func(ctx context.Context, tx db.Tx) error {
				return tx.QueryRow(ctx, `select 1`).Scan(new(int))
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}
