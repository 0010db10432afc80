package db_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/dbtest"
)

// A policy evaluated once a row costs three to seven times the scan. All are
// evaluated once a statement: an InitPlan.
func TestEveryPolicyIsOneInitPlan(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	tables := tenantTables(t, connect(t, d.AdminURL), "fulcrum")
	for _, x := range tables {
		if !x.Grants["select"] {
			continue
		}
		plan := explain(t, d, uuid.New(), `select 1 from `+x.Name)
		want := "current_tenant()"
		if x.List {
			want = "current_tenants()"
		}
		if !strings.Contains(plan, "InitPlan") || strings.Count(plan, want) != 1 {
			t.Errorf("%s: the policy is not one InitPlan:\n%s", x.Name, plan)
		}
	}
}

// With the tenant said in the query as well, the planner takes the index and
// knows how many rows to expect, whatever the form of the policy.
func TestAnExplicitTenantUsesTheIndex(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	big := uuid.New()
	for _, protect := range []string{"protect", "protect_list"} {
		name := "fulcrum.many_" + protect
		dbtest.Admin(t, d,
			`create table `+name+` (tenant_id uuid not null, id uuid not null default gen_random_uuid(), at timestamptz not null, primary key (tenant_id, id))`,
			`create index on `+name+` (tenant_id, at)`,
			`select fulcrum.`+protect+`('`+name+`')`,
			`grant select on `+name+` to fulcrum_app`,
			fmt.Sprintf(`insert into %s (tenant_id, at) select case when i %% 10 = 0 then gen_random_uuid() else '%s' end, now() - i * interval '1 s' from generate_series(1, 20000) i`, name, big),
			`analyze `+name)
		plan := explain(t, d, big, fmt.Sprintf(`select id from %s where tenant_id = '%s' order by at desc limit 20`, name, big))
		if !strings.Contains(plan, "Index") || strings.Contains(plan, "Sort") {
			t.Errorf("%s: newest of a big tenant:\n%s", protect, plan)
		}
		plan = explain(t, d, uuid.New(), fmt.Sprintf(`select id from %s where tenant_id = '%s' and id = '%s'`, name, big, uuid.New()))
		if !strings.Contains(plan, "Index") {
			t.Errorf("%s: by key:\n%s", protect, plan)
		}
		// The condition that is compared with the index must not be the policy's
		// alone: a list of tenants still uses it.
		plan = explain(t, d, uuid.New(), `select id from `+name+` limit 1`)
		if strings.Count(plan, "InitPlan") != 1 {
			t.Errorf("%s: bare:\n%s", protect, plan)
		}
	}
}

func explain(t *testing.T, d *dbtest.Database, tenant uuid.UUID, sql string) string {
	t.Helper()
	var lines []string
	err := d.DB.WithTenant(t.Context(), tenant, func(ctx context.Context, tx db.Tx) error {
		rows, err := tx.Query(ctx, "explain (verbose) "+sql)
		if err != nil {
			return err
		}
		lines, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
	if err != nil {
		t.Fatalf("explain %s: %v", sql, err)
	}
	return strings.Join(lines, "\n")
}
