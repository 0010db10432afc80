package db_test

import (
	"context"
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/dbtest"
)

// queries are statements of one argument each.
func queries(sqlAndArgument ...any) (out []*pgx.QueuedQuery) {
	for i := 0; i < len(sqlAndArgument); i += 2 {
		out = append(out, &pgx.QueuedQuery{SQL: sqlAndArgument[i].(string), Arguments: []any{sqlAndArgument[i+1]}})
	}
	return out
}

// What was written directly is read as it was, by the server and by us.
func TestDirectSendsValuesAsTheyAre(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	id := uuid.MustParse("0192f0c5-0001-7000-8000-00000000000a")
	at := time.Date(1999, 12, 31, 23, 59, 59, 123456000, time.UTC)
	for _, tt := range []struct {
		typ, text string
		value     any
	}{
		{"text", `it's "ü"`, `it's "ü"`},
		{"text", "", ""},
		{"int8", "-9223372036854775808", int64(-9223372036854775808)},
		{"bool", "true", true},
		{"uuid", id.String(), id},
		{"timestamptz", "1999-12-31 23:59:59.123456+00", at},
		{"bytea", `\x0001ff`, []byte{0, 1, 255}},
		{"text[]", `{"",a}`, []string{"", "a"}},
		{"uuid[]", "{" + id.String() + "}", []uuid.UUID{id}},
		{"text[]", "none", []string(nil)},
	} {
		t.Run(tt.typ+" "+tt.text, func(t *testing.T) {
			back, text := reflect.New(reflect.TypeOf(tt.value)), ""
			q := queries("select $1::"+tt.typ, tt.value, "select coalesce($1::"+tt.typ+"::text, 'none') where set_config('timezone', 'UTC', true) <> ''", tt.value)
			err := d.DB.Direct(t.Context(), []uuid.UUID{uuid.New()}, q, func(a *db.Answers) error {
				if err := a.QueryRow().Scan(back.Interface()); err != nil {
					return err
				}
				return a.QueryRow().Scan(&text)
			})
			got := back.Elem().Interface()
			if at, ok := got.(time.Time); ok {
				got = at.UTC()
			}
			if err != nil || text != tt.text || !reflect.DeepEqual(got, tt.value) {
				t.Errorf("got %v, by the server %q, %v; want %v, %q", got, text, err, tt.value, tt.text)
			}
		})
	}
}

// A statement that fails undoes those before it, and costs nobody the connection.
func TestDirectIsAllOrNothing(t *testing.T) {
	t.Parallel()
	d := dbtest.NewWith(t, db.Options{MaxConns: 1})
	tenant := uuid.New()
	var backend int32
	who := func(a *db.Answers) error { return a.QueryRow().Scan(&backend) }
	const pid = `select pg_backend_pid() where $1 <> ''`
	if err := d.DB.Direct(t.Context(), []uuid.UUID{tenant}, queries(pid, "x"), who); err != nil {
		t.Fatal(err)
	}
	first := backend
	err := d.DB.Direct(t.Context(), []uuid.UUID{tenant}, queries(note, tenant, `select 1 / $1::int`, int32(0), note, tenant), func(*db.Answers) error {
		t.Error("there was nothing to read")
		return nil
	})
	if !db.Is(err, "22012") {
		t.Errorf("got %v, want the division by zero", err)
	}
	if n := inboxRows(t, d); n != 0 {
		t.Errorf("%d rows, want none", n)
	}
	if err := d.DB.Direct(t.Context(), []uuid.UUID{tenant}, queries(pid, "x"), who); err != nil || backend != first {
		t.Errorf("on connection %d, %v; want %d again", backend, err, first)
	}
	tag := ""
	err = d.DB.Direct(t.Context(), []uuid.UUID{tenant}, queries(note, tenant), func(a *db.Answers) error {
		r, err := a.Exec()
		tag = r.String()
		return err
	})
	if n := inboxRows(t, d); err != nil || n != 1 || tag != "INSERT 0 1" {
		t.Errorf("%d rows, tag %q, %v; want 1", n, tag, err)
	}
}

// The tenants are those of the call, and gone after it.
func TestDirectIsOfItsTenants(t *testing.T) {
	t.Parallel()
	d := dbtest.NewWith(t, db.Options{MaxConns: 1})
	mine, other := uuid.New(), uuid.New()
	nothing := func(*db.Answers) error { return nil }
	if err := d.DB.Direct(t.Context(), []uuid.UUID{mine}, queries(note, other), nothing); !db.Is(err, "42501") {
		t.Errorf("got %v, want a refusal by row level security", err)
	}
	if err := d.DB.Direct(t.Context(), []uuid.UUID{mine, other}, queries(note, mine, note, other), nothing); err != nil {
		t.Error(err)
	}
	err := d.DB.GlobalOne(t.Context(), func(ctx context.Context, tx db.Tx) error {
		return tx.QueryRow(ctx, look).Scan(new(uuid.UUID))
	})
	if !db.Is(err, "FT001") {
		t.Errorf("got %v, want no tenant to be left behind", err)
	}
}

// Where nobody knows what happened the error says so, and the next call has
// another connection.
func TestDirectOnALostConnectionIsUnavailable(t *testing.T) {
	t.Parallel()
	d := dbtest.NewWith(t, db.Options{MaxConns: 1})
	nothing := func(*db.Answers) error { return nil }
	tenants := []uuid.UUID{uuid.New()}
	const end = `select pg_terminate_backend(pg_backend_pid()) where $1 <> ''`
	if err := d.DB.Direct(t.Context(), tenants, queries(end, "x"), nothing); !db.Unavailable(err) {
		t.Errorf("ended: got %v, want Unavailable", err)
	}
	short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	err := d.DB.Direct(short, tenants, queries(`select pg_sleep(60) where $1 <> ''`, "x"), nothing)
	if !db.Unavailable(err) && !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("too slow: got %v, want the deadline", err)
	}
	if err := d.DB.Direct(t.Context(), tenants, queries(`select 1 where $1 <> ''`, "x"), nothing); err != nil {
		t.Errorf("after that: %v", err)
	}
}
