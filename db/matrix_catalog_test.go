package db_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"
)

// table is what the catalog says about one tenant table: enough to make rows.
type table struct {
	Name    string
	OID     uint32
	List    bool // its policies take a list of tenants
	Columns []column
	Keys    [][]string // primary key first, then the other unique keys
	Parents []parent
	Checks  map[string]check
	Grants  map[string]bool // select, insert, update, delete, for fulcrum_app
	Trigger bool            // has triggers of its own, which may refuse what the policies allow
}

type column struct {
	Name     string
	Type     string
	Optional bool // nullable or with a default
	Made     bool // by the server only
}

type parent struct {
	Table   string
	Columns []string // ours
	Theirs  []string
	Later   bool // checked at commit: parent and child may be written in any order
}

type check struct {
	Columns    []string
	Definition string
}

// tenantTables reads every tenant table, parents before children.
func tenantTables(t *testing.T, admin *pgx.Conn, schema string) []*table {
	t.Helper()
	ctx := t.Context()
	rows, _ := admin.Query(ctx, `
		select c.oid::regclass::text, c.oid::int8,
		       exists (select from pg_policy p where p.polrelid = c.oid and pg_get_expr(p.polqual, c.oid) like '%current_tenants%'),
		       exists (select from pg_trigger g where g.tgrelid = c.oid and not g.tgisinternal),
		       array(select x from unnest(array['select','insert','update','delete']) x where has_table_privilege('fulcrum_app', c.oid, x))
		from pg_class c
		join pg_attribute a on a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped
		where c.relnamespace = $1::regnamespace and c.relkind in ('r', 'p') and not c.relispartition
		order by 1`, schema)
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (*table, error) {
		x := &table{Grants: map[string]bool{}, Checks: map[string]check{}}
		var oid int64
		var grants []string
		err := row.Scan(&x.Name, &oid, &x.List, &x.Trigger, &grants)
		x.OID = uint32(oid)
		for _, g := range grants {
			x.Grants[g] = true
		}
		return x, err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range all {
		if err := x.describe(ctx, admin); err != nil {
			t.Fatalf("%s: %v", x.Name, err)
		}
	}
	return parentsFirst(t, all)
}

func (x *table) describe(ctx context.Context, admin *pgx.Conn) error {
	rows, _ := admin.Query(ctx, `
		select attname, format_type(atttypid, null), not attnotnull or atthasdef or attidentity <> '', attgenerated <> '' or attidentity = 'a'
		from pg_attribute where attrelid = $1 and attnum > 0 and not attisdropped order by attnum`, x.OID)
	var err error
	if x.Columns, err = pgx.CollectRows(rows, pgx.RowToStructByPos[column]); err != nil {
		return err
	}
	rows, _ = admin.Query(ctx, `
		select array(select a.attname::text from unnest(i.indkey::int2[]) with ordinality k(n, o)
		             join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.n order by k.o)
		from pg_index i where i.indrelid = $1 and i.indisunique order by i.indisprimary desc, i.indexrelid`, x.OID)
	if x.Keys, err = pgx.CollectRows(rows, pgx.RowTo[[]string]); err != nil {
		return err
	}
	const names = `array(select a.attname::text from unnest(%s) with ordinality k(n, o)
		join pg_attribute a on a.attrelid = %s and a.attnum = k.n order by k.o)`
	rows, _ = admin.Query(ctx, `
		select confrelid::regclass::text, `+fmt.Sprintf(names, "conkey", "conrelid")+`, `+fmt.Sprintf(names, "confkey", "confrelid")+`, condeferred
		from pg_constraint where conrelid = $1 and contype = 'f' and conparentid = 0 order by conname`, x.OID)
	if x.Parents, err = pgx.CollectRows(rows, pgx.RowToStructByPos[parent]); err != nil {
		return err
	}
	rows, _ = admin.Query(ctx, `
		select conname::text, `+fmt.Sprintf(names, "conkey", "conrelid")+`, pg_get_constraintdef(oid)
		from pg_constraint where conrelid = $1 and contype = 'c'`, x.OID)
	var name string
	var c check
	_, err = pgx.ForEachRow(rows, []any{&name, &c.Columns, &c.Definition}, func() error {
		x.Checks[name] = c
		c = check{}
		return nil
	})
	return err
}

// single reports that a tenant has at most one row.
func (x *table) single() bool {
	return len(x.Keys) > 0 && slices.Equal(x.Keys[0], []string{"tenant_id"})
}

// mayLack reports that a row can do without this parent.
func (x *table) mayLack(p parent) bool {
	return slices.ContainsFunc(x.Columns, func(c column) bool { return c.Optional && slices.Contains(p.Columns, c.Name) })
}

func parentsFirst(t *testing.T, all []*table) (sorted []*table) {
	t.Helper()
	placed := map[string]bool{"fulcrum.tenants": true}
	for len(sorted) < len(all) {
		before := len(sorted)
		for _, x := range all {
			waits := slices.ContainsFunc(x.Parents, func(p parent) bool {
				ours := slices.ContainsFunc(all, func(y *table) bool { return y.Name == p.Table })
				return ours && !placed[p.Table] && p.Table != x.Name && !p.Later && !x.mayLack(p)
			})
			if !placed[x.Name] && !waits {
				placed[x.Name] = true
				sorted = append(sorted, x)
			}
		}
		if len(sorted) == before {
			all = slices.DeleteFunc(all, func(x *table) bool { return placed[x.Name] })
			t.Fatalf("foreign keys go round in a circle from %s: %+v", all[0].Name, all[0].Parents)
		}
	}
	return sorted
}
