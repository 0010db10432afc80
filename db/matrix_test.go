package db_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/dbtest"
)

// No tenant can see or touch another's rows, in any table, by any statement,
// and without a tenant nothing is seen at all. The tables come from the
// catalog: a new one is covered the day it is migrated.
func TestNoTenantReachesAnothersRows(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	m := &matrix{d: d, mine: dbtest.Tenant(t, d), other: dbtest.Tenant(t, d), seeded: map[string][]row{}}
	m.admin = connect(t, d.AdminURL)
	m.app = connect(t, d.AppURL)

	tables := tenantTables(t, m.admin, "fulcrum")
	if len(tables) < 3 {
		t.Fatalf("found %d tenant tables: the catalog query is wrong", len(tables))
	}
	for _, x := range append(tables, tenantTables(t, m.admin, "metrics")...) {
		m.seed(t, x, 1)
		if x.single() {
			m.check(t, x, m.seeded[x.Name+" "+m.mine.String()][0], m.seeded[x.Name+" "+m.other.String()][0])
			continue
		}
		m.check(t, x, m.row(t, x, m.mine, 2), m.row(t, x, m.other, 2))
		m.seed(t, x, 2)
	}
	m.views(t)
}

type matrix struct {
	d           *dbtest.Database
	admin       *pgx.Conn // superuser
	app         *pgx.Conn // the app, past the doors
	mine, other uuid.UUID
	seeded      map[string][]row // by table and tenant
}

func (m *matrix) row(t *testing.T, x *table, tenant uuid.UUID, n int) row {
	t.Helper()
	r, err := synth(t.Context(), m.admin, x, tenant, n, m.seeded)
	if err != nil {
		t.Fatalf("no row could be made up for %s: %v\nadd values for it to seeds in matrix_seeds_test.go", x.Name, err)
	}
	return r
}

func (m *matrix) seed(t *testing.T, x *table, n int) {
	t.Helper()
	for _, tenant := range []uuid.UUID{m.mine, m.other} {
		r := m.row(t, x, tenant, n)
		insert := r.insert(x.Name)
		if slices.ContainsFunc(x.Parents, func(p parent) bool { return p.Later }) {
			// One row cannot satisfy what a transaction of several would.
			insert = "set local session_replication_role = replica; " + insert
		}
		if _, err := m.admin.Exec(t.Context(), insert); err != nil {
			t.Fatalf("seed %s: %v", x.Name, err)
		}
		key := x.Name + " " + tenant.String()
		m.seeded[key] = append(m.seeded[key], r)
	}
}

// statement is one cell's question; sql may name no value of the session.
type statement struct {
	name  string
	needs []string // privileges
	sql   string
	// affects is how many rows it must return or touch in the tenant's own
	// transaction; refused means 42501 instead.
	affects int64
	refused bool
	atLeast bool // or more
}

func (m *matrix) statements(x *table, mine, other row, have int64) []statement {
	q := func(format string, a ...any) string { return fmt.Sprintf(format, a...) }
	upsert := func(r row) string {
		if len(x.Keys) == 0 { // nothing to conflict with
			return r.insert(x.Name)
		}
		return q("%s on conflict (%s) do update set tenant_id = excluded.tenant_id", r.insert(x.Name), join(x.Keys[0]))
	}
	taken := m.seeded[x.Name+" "+m.other.String()][0] // the other tenant's existing row
	return []statement{
		{name: "select own", needs: []string{"select"}, sql: q("select 1 from %s where tenant_id = '%s'", x.Name, m.mine), affects: 1, atLeast: true},
		{name: "select other", needs: []string{"select"}, sql: q("select 1 from %s where tenant_id = '%s'", x.Name, m.other)},
		{name: "select any", needs: []string{"select"}, sql: q("select 1 from %s where tenant_id <> '%s'", x.Name, m.mine)},
		{name: "update own", needs: []string{"select", "update"}, sql: q("update %s set tenant_id = tenant_id where tenant_id = '%s'", x.Name, m.mine), affects: 1, atLeast: true},
		{name: "update other", needs: []string{"select", "update"}, sql: q("update %s set tenant_id = tenant_id where tenant_id = '%s'", x.Name, m.other)},
		{name: "give away", needs: []string{"select", "update"}, sql: q("update %s set tenant_id = '%s' where tenant_id = '%s'", x.Name, m.other, m.mine), refused: true},
		{name: "take over", needs: []string{"select", "update"}, sql: q("update %s set tenant_id = '%s' where tenant_id = '%s'", x.Name, m.mine, m.other)},
		// Without a condition no column is read, so the policy for select does not help.
		{name: "update all", needs: []string{"update"}, sql: q("update %s set tenant_id = '%s'", x.Name, m.mine), affects: have},
		{name: "give all away", needs: []string{"update"}, sql: q("update %s set tenant_id = '%s'", x.Name, m.other), refused: true},
		{name: "delete all", needs: []string{"delete"}, sql: "delete from " + x.Name, affects: have},
		{name: "delete own", needs: []string{"select", "delete"}, sql: q("delete from %s where tenant_id = '%s'", x.Name, m.mine), affects: 1, atLeast: true},
		{name: "delete other", needs: []string{"select", "delete"}, sql: q("delete from %s where tenant_id = '%s'", x.Name, m.other)},
		{name: "insert own", needs: []string{"insert"}, sql: mine.insert(x.Name), affects: 1},
		{name: "insert other", needs: []string{"insert"}, sql: other.insert(x.Name), refused: true},
		{name: "upsert own", needs: []string{"insert", "select", "update"}, sql: upsert(mine), affects: 1},
		{name: "upsert other", needs: []string{"insert", "select", "update"}, sql: upsert(other), refused: true},
		{name: "upsert taken", needs: []string{"insert", "select", "update"}, sql: upsert(taken), refused: true},
		{name: "insert taken", needs: []string{"insert"}, sql: taken.insert(x.Name) + " on conflict do nothing", refused: true},
		{name: "truncate", needs: []string{"truncate"}, sql: q("truncate %s", x.Name), refused: true},
	}
}

func (m *matrix) check(t *testing.T, x *table, mine, other row) {
	have := dbtest.Count(t, m.d, fmt.Sprintf("select count(*) from %s where tenant_id = '%s'", x.Name, m.mine))
	for _, s := range m.statements(x, mine, other, have) {
		granted := true
		for _, need := range s.needs {
			granted = granted && x.Grants[need]
		}
		t.Run(x.Name+"/"+s.name, func(t *testing.T) {
			n, err := m.as(t, m.mine, s.sql)
			switch {
			case !granted || s.refused:
				if !db.Is(err, "42501") {
					t.Errorf("own: %d rows, %v; want 42501", n, err)
				}
			case err != nil:
				// Allowed by the policies and refused by something of the table's own.
				if s.affects == 0 || !(x.Trigger || db.Constraint(err) != "" && (s.name != "insert own" || x.single())) {
					t.Errorf("own: %v", err)
				}
			case n != s.affects && !(s.atLeast && n > s.affects):
				t.Errorf("own: %d rows, want %d", n, s.affects)
			}
			if n, err := m.unset(t, s.sql); !granted && !db.Is(err, "42501") || granted && !db.Is(err, "FT001") {
				t.Errorf("unset: %d rows, %v; want FT001, or 42501 without the grant", n, err)
			}
			if n, err := m.malformed(t, s.sql); err == nil {
				t.Errorf("malformed: %d rows, want an error", n)
			}
			m.list(t, x, s, granted)
		})
	}
}

// list asks the same of a transaction for several tenants.
func (m *matrix) list(t *testing.T, x *table, s statement, granted bool) {
	n, err := run(t, func(fn func(context.Context, db.Tx) error) error {
		return m.d.DB.WithTenants(t.Context(), []uuid.UUID{m.mine}, fn)
	}, s.sql)
	switch {
	case !granted || x.List && s.refused:
		if !db.Is(err, "42501") {
			t.Errorf("list: %d rows, %v; want 42501", n, err)
		}
	case !x.List:
		if !db.Is(err, "FT001") {
			t.Errorf("list: %d rows, %v; want FT001, the table takes no list", n, err)
		}
	case err == nil && n != s.affects && !(s.atLeast && n > s.affects):
		t.Errorf("list: %d rows, want %d", n, s.affects)
	}
}

func (m *matrix) as(t *testing.T, tenant uuid.UUID, sql string) (int64, error) {
	return run(t, func(fn func(context.Context, db.Tx) error) error { return m.d.DB.WithTenant(t.Context(), tenant, fn) }, sql)
}

func (m *matrix) unset(t *testing.T, sql string) (int64, error) {
	return run(t, func(fn func(context.Context, db.Tx) error) error { return m.d.DB.Global(t.Context(), fn) }, sql)
}

// run executes sql in a door and takes it back.
func run(t *testing.T, door func(func(context.Context, db.Tx) error) error, sql string) (n int64, err error) {
	err = door(func(ctx context.Context, tx db.Tx) error {
		tag, err := tx.Exec(ctx, sql)
		if err != nil {
			return err
		}
		n = tag.RowsAffected()
		return errTakeBack
	})
	if errors.Is(err, errTakeBack) {
		err = nil
	}
	return n, err
}

// malformed is what no door would send.
func (m *matrix) malformed(t *testing.T, sql string) (n int64, err error) {
	err = pgx.BeginFunc(t.Context(), m.app, func(tx pgx.Tx) error {
		if _, err := tx.Exec(t.Context(), `select set_config('fulcrum.current_tenant', 'x'' or true --', true), set_config('fulcrum.current_tenants', '{x}', true)`); err != nil {
			t.Fatal(err)
		}
		tag, err := tx.Exec(t.Context(), sql)
		if err != nil {
			return err
		}
		n = tag.RowsAffected()
		return errTakeBack
	})
	if errors.Is(err, errTakeBack) {
		err = nil
	}
	return n, err
}

// views asks every view that the app may read; the rows are those of the tables.
func (m *matrix) views(t *testing.T) {
	rows, _ := m.admin.Query(t.Context(), `
		select c.oid::regclass::text from pg_class c
		join pg_attribute a on a.attrelid = c.oid and a.attname = 'tenant_id'
		where c.relnamespace in ('fulcrum'::regnamespace, 'metrics'::regnamespace) and c.relkind = 'v'
		  and has_table_privilege('fulcrum_app', c.oid, 'select')`)
	views, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	for _, view := range views {
		t.Run(view, func(t *testing.T) {
			n, err := m.as(t, m.mine, fmt.Sprintf("select 1 from %s where tenant_id <> '%s'", view, m.mine))
			if n != 0 || err != nil {
				t.Errorf("other: %d rows, %v; want none", n, err)
			}
			if n, err := m.unset(t, "select 1 from "+view); !db.Is(err, "FT001") {
				t.Errorf("unset: %d rows, %v; want FT001", n, err)
			}
			if n, err := m.malformed(t, "select 1 from "+view); err == nil {
				t.Errorf("malformed: %d rows, want an error", n)
			}
		})
	}
}

// Functions that see past the policies are few, and each is known: a scout that
// returns nothing but tenant ids, or one of the list.
func TestEveryFunctionPastThePoliciesIsKnown(t *testing.T) {
	t.Parallel()
	d := dbtest.Bare(t)
	rows, _ := connect(t, d.AdminURL).Query(t.Context(), `
		select distinct p.pronamespace::regnamespace::text || '.' || p.proname from pg_proc p
		where p.prosecdef and p.pronamespace in ('fulcrum'::regnamespace, 'metrics'::regnamespace)
		  and has_function_privilege('fulcrum_app', p.oid, 'execute')
		  and not (p.proowner = 'fulcrum_scout'::regrole and p.proretset and p.prorettype = 'uuid'::regtype)`)
	found, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range found {
		if definers[name] == "" {
			t.Errorf("%s is SECURITY DEFINER and the app may call it: say in definers (matrix_seeds_test.go) why no tenant learns of another by it", name)
		}
	}
}

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

func join(names []string) (list string) {
	for i, name := range names {
		if i > 0 {
			list += ", "
		}
		list += pgx.Identifier{name}.Sanitize()
	}
	return list
}
