package db_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/dbtest"
)

// statements are some of one text, or of several with the same arguments.
func statements(args []any, texts ...string) *pgx.Batch {
	b := &pgx.Batch{}
	for _, sql := range texts {
		b.Queue(sql, args...)
	}
	return b
}

// streamed sends first ahead and then commits rest, unless it is nil.
func streamed(ctx context.Context, d *db.DB, tenant uuid.UUID, first, rest *pgx.Batch, between func()) (tags []pgconn.CommandTag, err error) {
	err = d.Streamed(ctx, []uuid.UUID{tenant}, func(_ context.Context, s *db.Stream) error {
		if err := s.Queue(first); err != nil {
			return err
		}
		if err := s.Send(); err != nil {
			return err
		}
		between()
		if rest == nil {
			return nil
		}
		if err := s.Queue(rest); err != nil {
			return err
		}
		tags, err = s.Commit(func() {})
		return err
	})
	return tags, err
}

func nothing() {}

func TestAStreamIsOneTransactionInOrder(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	tenant := uuid.New()
	of := []any{tenant}
	for range 2 { // prepares its statements, and has them
		before := inboxRows(t, d)
		tags, err := streamed(t.Context(), d.DB, tenant, statements(of, note, note), statements(of, note, `select from fulcrum.inbox where tenant_id = $1 and consumer = 'test'`), func() {
			if n := inboxRows(t, d); n != before {
				t.Errorf("%d rows are there before the commit", n-before)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		want := []string{"INSERT 0 1", "INSERT 0 1", "INSERT 0 1", fmt.Sprint("SELECT ", before+3)}
		if len(tags) != len(want) {
			t.Fatalf("answers %v, want %v", tags, want)
		}
		for i, tag := range tags {
			if tag.String() != want[i] {
				t.Errorf("answer %d is %s, want %s", i, tag, want[i])
			}
		}
		if n := inboxRows(t, d); n != before+3 {
			t.Errorf("%d rows, want 3", n-before)
		}
	}
}

func TestTheServerWorksOnWhatWasSentBeforeTheRestIsMade(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	tenant := uuid.New()
	lock := statements(nil, `select pg_advisory_xact_lock(4711)`)
	_, err := streamed(t.Context(), d.DB, tenant, lock, statements([]any{tenant}, note), func() {
		held := func() int64 {
			return dbtest.Count(t, d, `select count(*) from pg_locks where locktype = 'advisory' and objid = 4711 and granted and database = (select oid from pg_database where datname = current_database())`)
		}
		for until := time.Now().Add(10 * time.Second); held() == 0; {
			if time.Now().After(until) {
				t.Fatal("what was sent is not done before the commit is sent")
			}
		}
	})
	if err != nil {
		t.Error(err)
	}
}

func TestAStreamWithoutACommitDoesNothing(t *testing.T) {
	t.Parallel()
	d := dbtest.NewWith(t, db.Options{MaxConns: 1})
	tenant := uuid.New()
	of := []any{tenant}
	boom := errors.New("boom")
	for name, call := range map[string]func() error{
		"the function returns": func() error {
			_, err := streamed(t.Context(), d.DB, tenant, statements(of, note), nil, nothing)
			return err
		},
		"the function fails": func() error {
			err := d.DB.Streamed(t.Context(), []uuid.UUID{tenant}, func(_ context.Context, s *db.Stream) error {
				return errors.Join(s.Queue(statements(of, note)), s.Send(), boom)
			})
			if errors.Is(err, boom) {
				err = nil
			}
			return err
		},
		"the function panics": func() error {
			defer func() { _ = recover() }()
			_, err := streamed(t.Context(), d.DB, tenant, statements(of, note), nil, func() { panic("boom") })
			return err
		},
		"the caller has gone": func() error {
			ctx, cancel := context.WithCancel(t.Context())
			_, err := streamed(ctx, d.DB, tenant, statements(of, note), statements(of, note), cancel)
			if errors.Is(err, context.Canceled) {
				err = nil
			}
			return err
		},
		"a parameter cannot be encoded": func() error {
			_, err := streamed(t.Context(), d.DB, tenant, statements(of, note), statements([]any{struct{}{}}, note), nothing)
			if err != nil && strings.Contains(err.Error(), "encode the parameters") {
				err = nil
			}
			return err
		},
		"a statement that is new in the middle is none": func() error {
			_, err := streamed(t.Context(), d.DB, tenant, statements(of, note), statements(nil, `select nonsense`), nothing)
			if db.Is(err, "42703") {
				err = nil
			}
			return err
		},
	} {
		if err := call(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if n := inboxRows(t, d); n != 0 {
			t.Errorf("%s: %d rows, want none", name, n)
		}
	}
	if _, err := streamed(t.Context(), d.DB, tenant, statements(of, note), statements(of, note), nothing); err != nil || inboxRows(t, d) != 2 {
		t.Errorf("afterwards: %v, %d rows, want 2", err, inboxRows(t, d))
	}
}

func TestAStatementThatFailsInAStreamTakesAllAlongAndLeavesTheConnection(t *testing.T) {
	t.Parallel()
	d := dbtest.NewWith(t, db.Options{MaxConns: 1, MinConns: 1})
	tenant := uuid.New()
	of := []any{tenant}
	backend := func() (pid int) {
		t.Helper()
		if err := d.DB.GlobalOne(t.Context(), func(ctx context.Context, tx db.Tx) error {
			return tx.QueryRow(ctx, `select pg_backend_pid()`).Scan(&pid)
		}); err != nil {
			t.Fatal(err)
		}
		return pid
	}
	dbtest.Admin(t, d, `
		create function fulcrum.never() returns trigger language plpgsql as 'begin raise exception ''never'' using errcode = ''23000''; end';
		grant execute on function fulcrum.never() to fulcrum_app;
		create constraint trigger never after insert on fulcrum.inbox deferrable initially deferred for each row when (new.consumer = 'never') execute function fulcrum.never()`)
	const zero, never = `select 1 / (1 - 1)`, `insert into fulcrum.inbox (tenant_id, consumer, event_id) values ($1, 'never', gen_random_uuid())`
	for _, sql := range []*pgx.Batch{statements(nil, zero), statements(of, never), statements(of, note)} { // prepares them
		_ = d.DB.Streamed(t.Context(), []uuid.UUID{tenant}, func(_ context.Context, s *db.Stream) error {
			err := s.Queue(sql)
			if err == nil {
				_, err = s.Commit(nothing)
			}
			return err
		})
	}
	dbtest.Admin(t, d, `delete from fulcrum.inbox`)
	before := backend()
	for _, tt := range []struct {
		name        string
		first, rest *pgx.Batch
		want        string
	}{
		{"ahead", statements(nil, zero), statements(of, note), "22012"},
		{"behind", statements(of, note), statements(nil, zero), "22012"},
		{"in the commit", statements(of, note), statements(of, never), "23000"},
	} {
		if _, err := streamed(t.Context(), d.DB, tenant, tt.first, tt.rest, nothing); !db.Is(err, tt.want) {
			t.Errorf("%s: %v, want %s", tt.name, err, tt.want)
		}
		if n := inboxRows(t, d); n != 0 {
			t.Errorf("%s: %d rows, want none", tt.name, n)
		}
	}
	if now := backend(); now != before {
		t.Error("a failed statement cost the connection")
	}
}

func TestAStreamSeesItsTenantsOnly(t *testing.T) {
	t.Parallel()
	d := dbtest.NewWith(t, db.Options{MaxConns: 1})
	dbtest.Admin(t, d, `create table fulcrum.seen (tenant_id uuid, rows bigint); grant select, insert on fulcrum.seen to fulcrum_app`)
	mine, other := uuid.New(), uuid.New()
	for _, tenant := range []uuid.UUID{mine, other} {
		if _, err := streamed(t.Context(), d.DB, tenant, statements([]any{tenant}, note), statements([]any{tenant}, `insert into fulcrum.seen select $1, count(*) from fulcrum.inbox`), nothing); err != nil {
			t.Fatal(err)
		}
	}
	if n := dbtest.Count(t, d, `select max(rows) from fulcrum.seen`); n != 1 {
		t.Errorf("%d rows were seen, want each its own", n)
	}
	if _, err := streamed(t.Context(), d.DB, mine, statements([]any{other}, note), statements(nil), nothing); !db.Is(err, "42501") {
		t.Errorf("a row of another tenant: %v", err)
	}
	for name, tenants := range map[string][]uuid.UUID{"none": nil, "the nil UUID": {mine, uuid.Nil}} {
		err := d.DB.Streamed(t.Context(), tenants, func(context.Context, *db.Stream) error { t.Error("the function ran"); return nil })
		var refusal *db.Refusal
		if !errors.As(err, &refusal) {
			t.Errorf("%s: got %v, want a refusal", name, err)
		}
	}
}

func TestAStreamIsDeadAfterItsFunctionAndAfterItsCommit(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	var kept *db.Stream
	err := d.DB.Streamed(t.Context(), []uuid.UUID{uuid.New()}, func(_ context.Context, s *db.Stream) error {
		kept = s
		if _, err := s.Commit(nothing); err != nil {
			return err
		}
		if _, err := s.Commit(nothing); err == nil {
			t.Error("it was committed twice")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	_, commit := kept.Commit(nothing)
	for what, err := range map[string]error{"queue": kept.Queue(statements(nil, `select 1`)), "send": kept.Send(), "commit": commit} {
		if err == nil || !strings.Contains(err.Error(), "after its function") {
			t.Errorf("%s: got %v, want a refusal", what, err)
		}
	}
}

// A pooler may hand out another server's connection, which knows no statements.
func TestAStreamWhoseStatementsWereLostWorksTheNextTime(t *testing.T) {
	t.Parallel()
	d := dbtest.NewWith(t, db.Options{MaxConns: 1})
	tenant := uuid.New()
	of := []any{tenant}
	call := func() error {
		_, err := streamed(t.Context(), d.DB, tenant, statements(of, note), statements(of, note), nothing)
		return err
	}
	if err := call(); err != nil {
		t.Fatal(err)
	}
	if err := d.DB.GlobalOne(t.Context(), func(ctx context.Context, tx db.Tx) error { _, err := tx.Exec(ctx, `deallocate all`); return err }); err != nil {
		t.Fatal(err)
	}
	if err := call(); !db.Is(err, "26000") {
		t.Errorf("%v, want the server's refusal", err)
	}
	if err := call(); err != nil {
		t.Errorf("the next time: %v", err)
	}
	if n := inboxRows(t, d); n != 4 {
		t.Errorf("%d rows, want 4", n)
	}
}

func TestAStreamTakesOneRoundTripAndALostServerIsUnavailable(t *testing.T) {
	t.Parallel()
	d := dbtest.Bare(t)
	m := proxy(t, d.AppURL)
	pool, err := db.Open(t.Context(), m.url, db.Options{MaxConns: 1, MinConns: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	tenant := uuid.New()
	call := func(between func()) error {
		_, err := streamed(t.Context(), pool, tenant, statements([]any{tenant}, note), statements([]any{tenant}, note), between)
		return err
	}
	if err := call(nothing); err != nil { // prepares the statements
		t.Fatal(err)
	}
	before := m.turns.Load()
	if err := call(nothing); err != nil {
		t.Fatal(err)
	}
	if got := m.turns.Load() - before; got != 1 {
		t.Errorf("%d round trips, want 1", got)
	}
	if err := call(m.stop); !db.Unavailable(err) {
		t.Errorf("the server went away in the middle: %v", err)
	}
}

// Its host is lost, or its process stands still: what it locked is free for others.
func TestAStreamThatStopsHalfWayIsEnded(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	tenant := uuid.New()
	stalled := func(after string) (n int) {
		t.Helper()
		err := d.DB.GlobalOne(t.Context(), func(ctx context.Context, tx db.Tx) error {
			return tx.QueryRow(ctx, `select fulcrum.end_stalled($1::text::interval)`, after).Scan(&n)
		})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	other, err := db.Open(t.Context(), d.AppURL, db.Options{Service: "other", MaxConns: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	half := func(pool *db.DB, between func()) error {
		_, err := streamed(t.Context(), pool, tenant, statements([]any{tenant}, note), statements(nil), func() {
			sent := func() int64 {
				return dbtest.Count(t, d, `select count(*) from pg_stat_activity where datname = current_database() and state = 'active' and wait_event = 'ClientRead' and query = $1`, note)
			}
			for until := time.Now().Add(10 * time.Second); sent() == 0; {
				if time.Now().After(until) {
					t.Fatal("it does not wait for the rest")
				}
			}
			between()
		})
		return err
	}
	err = half(d.DB, func() {
		if n := stalled("1 hour"); n != 0 {
			t.Errorf("%d were ended that had just begun", n)
		}
		if n := stalled("0"); n != 1 {
			t.Errorf("%d were ended, want 1", n)
		}
	})
	if !db.Unavailable(err) {
		t.Errorf("the rest of it: %v, want that nobody knows", err)
	}
	if err := half(other, func() {
		if n := stalled("0"); n != 0 {
			t.Errorf("%d of another service were ended", n)
		}
	}); err != nil {
		t.Error(err)
	}
	if err := d.DB.WithTenant(t.Context(), tenant, func(context.Context, db.Tx) error { // idle, with limits of its own
		if n := stalled("0"); n != 0 {
			t.Errorf("%d transactions were ended that have no part", n)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	if n := inboxRows(t, d); n != 1 {
		t.Errorf("%d rows, want that of the other service", n)
	}
}

func TestAStreamTakesNothingAfterAnError(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	tenant := uuid.New()
	err := d.DB.Streamed(t.Context(), []uuid.UUID{tenant}, func(_ context.Context, s *db.Stream) error {
		if err := s.Queue(statements([]any{tenant}, note)); err != nil {
			return err
		}
		first := s.Queue(statements([]any{struct{}{}}, note))
		_, commit := s.Commit(nothing)
		for what, err := range map[string]error{"queue": s.Queue(statements(nil, `select 1`)), "send": s.Send(), "commit": commit} {
			if first == nil || !errors.Is(err, first) {
				t.Errorf("%s: %v, want the first error again: %v", what, err, first)
			}
		}
		return nil
	})
	if n := inboxRows(t, d); err != nil || n != 0 {
		t.Errorf("%v, %d rows, want none", err, n)
	}
}

// What a connection keeps of one statement's parameters is not in the next one's,
// whatever their sizes.
func TestEveryParameterArrivesAsItIs(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	of := []any{uuid.New()}
	const check = `select 1 where $2::text = any (array['', repeat('x', 300000), 'short']) and coalesce(length($2) = $3, $2 is null)
		and coalesce($4::bytea = convert_to($2, 'UTF8'), $2 is null) and cardinality($5::int8[]) is not distinct from $6::int4 and $1::uuid is not null`
	large := strings.Repeat("x", 300_000) // more than is kept
	none := `select 1 where $2::text is null and $3::int4 is null and $4::bytea is null and $5::int8[] is null and $6::int4 is null and $1::uuid is not null`
	queue := func(b *pgx.Batch, sql string, args ...any) { b.Queue(sql, append(of[:1:1], args...)...) }
	for range 3 { // prepares its statements, has them, and what the large one left
		first, rest := &pgx.Batch{}, &pgx.Batch{}
		queue(first, check, "", int32(0), []byte{}, []int64{}, int32(0))
		queue(first, check, "short", int32(5), []byte("short"), []int64{7}, int32(1))
		queue(first, none, nil, nil, nil, nil, nil)
		queue(rest, check, large, int32(len(large)), []byte(large), make([]int64, 90_000), int32(90_000))
		queue(rest, check, "", int32(0), []byte{}, []int64(nil), nil)
		queue(rest, none, nil, nil, []byte(nil), []int64(nil), nil)
		queue(rest, check, "short", int32(5), []byte("short"), []int64{7, 8}, int32(2))
		tags, err := streamed(t.Context(), d.DB, of[0].(uuid.UUID), first, rest, nothing)
		if err != nil {
			t.Fatal(err)
		}
		for i, tag := range tags {
			if tag.String() != "SELECT 1" {
				t.Errorf("statement %d: %s", i, tag)
			}
		}
	}
}
