package db_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/dbtest"
)

// Each rule finds the fault it is for, and finds it in the place where it is.
func TestTheLintFindsEachPlantedFault(t *testing.T) {
	t.Parallel()
	conn := connect(t, dbtest.Bare(t).AdminURL)
	const made = `create table fulcrum.planted (tenant_id uuid not null, id uuid not null, parent uuid, at timestamptz not null default now(), primary key (tenant_id, id, at))`
	const safe = made + `; select fulcrum.protect('fulcrum.planted'); grant select, insert on fulcrum.planted to fulcrum_app`
	for name, tt := range map[string]struct {
		plant  string
		rule   string
		object string
	}{
		"no row level security": {made, "rls", "fulcrum.planted"},
		"without force":         {safe + `; alter table fulcrum.planted no force row level security`, "force", "fulcrum.planted"},
		"disabled":              {safe + `; alter table fulcrum.planted disable row level security`, "rls", "fulcrum.planted"},
		"nullable tenant":       {`create table fulcrum.planted (tenant_id uuid, id int)`, "nullable", "fulcrum.planted"},
		"tenant as text":        {`create table fulcrum.planted (tenant_id text not null, id int)`, "nullable", "fulcrum.planted"},
		"no policy":             {safe + `; drop policy tenant_insert on fulcrum.planted`, "policy", "fulcrum.planted"},
		"policy lets all":       {safe + `; create policy p on fulcrum.planted using (true)`, "policy-form", "fulcrum.planted p"},
		"policy lets all write": {safe + `; drop policy tenant_insert on fulcrum.planted; create policy p on fulcrum.planted for insert with check (true)`, "policy-form", "fulcrum.planted p"},
		"policy per row":        {safe + `; create policy p on fulcrum.planted for select using (tenant_id = fulcrum.current_tenant())`, "policy-form", "fulcrum.planted p"},
		"policy silent when unset": {safe + `; create policy p on fulcrum.planted for select
			using (tenant_id = nullif(current_setting('fulcrum.current_tenant', true), '')::uuid)`, "policy-form", "fulcrum.planted p"},
		"scout that writes":    {safe + `; create policy p on fulcrum.planted for update to fulcrum_scout using (true)`, "policy-form", "fulcrum.planted p"},
		"scout that is public": {safe + `; create policy p on fulcrum.planted for select using (true)`, "policy-form", "fulcrum.planted p"},
		"scout and the app":    {safe + `; create policy p on fulcrum.planted for select to fulcrum_scout, fulcrum_app using (true)`, "policy-form", "fulcrum.planted p"},
		"partition granted": {strings.Replace(made, "at))", "at)) partition by range (at)", 1) +
			`; alter table fulcrum.planted owner to fulcrum_owner; select fulcrum.protect('fulcrum.planted'); select fulcrum.ensure_partitions('fulcrum.planted'); grant select on fulcrum.planted_default to fulcrum_app`, "partition", "fulcrum.planted_default"},
		"blanket grant": {`grant select on all tables in schema fulcrum to fulcrum_app`, "tenants", "fulcrum.tenants"},
		"owner's view":  {safe + `; create view fulcrum.seen as select * from fulcrum.planted; grant select on fulcrum.seen to fulcrum_app`, "view", "fulcrum.seen"},
		"barrier of a superuser": {safe + `; create view fulcrum.seen with (security_barrier) as select * from fulcrum.planted where tenant_id = (select fulcrum.current_tenant());
			grant select on fulcrum.seen to fulcrum_app; alter view fulcrum.seen owner to current_user`, "view", "fulcrum.seen"},
		"materialized view":    {safe + `; create materialized view fulcrum.kept as select * from fulcrum.planted; grant select on fulcrum.kept to fulcrum_app`, "matview", "fulcrum.kept"},
		"foreign key":          {safe + `; alter table fulcrum.planted add unique (id); alter table fulcrum.planted add constraint f foreign key (parent) references fulcrum.planted (id)`, "foreign-key", "f on fulcrum.planted"},
		"global unique":        {safe + `; create unique index u on fulcrum.planted (id)`, "unique", "u on fulcrum.planted"},
		"definer":              {`create function fulcrum.f() returns int language sql security definer as 'select 1'`, "definer", "fulcrum.f()"},
		"definer by superuser": {`create function fulcrum.f() returns int language sql security definer set search_path = pg_catalog as 'select 1'; grant execute on function fulcrum.f() to fulcrum_app`, "definer-owner", "fulcrum.f()"},
		"truncate":             {safe + `; grant truncate on fulcrum.planted to fulcrum_app`, "privilege", "fulcrum.planted"},
		"trigger":              {safe + `; grant trigger on fulcrum.planted to fulcrum_app`, "privilege", "fulcrum.planted"},
		"references":           {safe + `; grant references on fulcrum.planted to fulcrum_app`, "privilege", "fulcrum.planted"},
		"public":               {safe + `; grant select on fulcrum.planted to public`, "public", "fulcrum.planted"},
		"tenants by column":    {`grant select (name) on fulcrum.tenants to fulcrum_app`, "tenants", "fulcrum.tenants"},
		"metrics readable":     {`create table metrics.planted (tenant_id uuid not null, id int); grant select on metrics.planted to fulcrum_app`, "rls", "metrics.planted"},
		"tenant's own schema":  {`create schema tenant_x; create table tenant_x.planted (tenant_id uuid not null)`, "rls", "tenant_x.planted"},
	} {
		t.Run(name, func(t *testing.T) {
			tx, err := conn.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = tx.Rollback(t.Context()) }()
			if _, err := tx.Exec(t.Context(), tt.plant); err != nil {
				t.Fatal(err)
			}
			found, err := db.LintConn(t.Context(), conn, "fulcrum_app")
			if err != nil {
				t.Fatal(err)
			}
			if !slices.ContainsFunc(found, func(f db.Finding) bool { return f.Rule == tt.rule && f.Object == tt.object }) {
				t.Errorf("found %v, want %s on %s", found, tt.rule, tt.object)
			}
			for _, f := range found {
				if strings.Contains(f.String(), "%!") || f.Hint == "" {
					t.Errorf("finding %+v does not help", f)
				}
			}
		})
	}
}

// What is done right is left alone.
func TestTheLintAllowsWhatIsRight(t *testing.T) {
	t.Parallel()
	d := dbtest.Bare(t)
	conn := connect(t, d.MigrateURL)
	for _, sql := range []string{
		`set role fulcrum_owner`,
		`create table fulcrum.one (tenant_id uuid not null references fulcrum.tenants (id), id uuid not null, at timestamptz not null, public_id text not null, primary key (tenant_id, id, at)) partition by range (at)`,
		`select fulcrum.protect('fulcrum.one')`,
		`select fulcrum.ensure_partitions('fulcrum.one')`,
		`grant select, insert, update, delete on fulcrum.one to fulcrum_app`,
		`create table fulcrum.two (tenant_id uuid not null, id uuid not null, one uuid, at timestamptz, public_id text not null, primary key (tenant_id, id), foreign key (tenant_id, one, at) references fulcrum.one (tenant_id, id, at))`,
		`select fulcrum.protect_list('fulcrum.two')`,
		`create unique index two_public on fulcrum.two (public_id)`,
		`comment on index fulcrum.two_public is 'global: random and looked up before the tenant is known'`,
		`create policy only_more on fulcrum.two as restrictive for select to fulcrum_app using (id is not null)`,
		`create view fulcrum.seen with (security_invoker = true) as select tenant_id, id from fulcrum.two`,
		`grant select on fulcrum.seen to fulcrum_app`,
		`create table metrics.hidden (tenant_id uuid not null, n int)`,
		`create view metrics.shown with (security_barrier) as select tenant_id, n from metrics.hidden where tenant_id = (select fulcrum.current_tenant())`,
		`grant select on metrics.shown to fulcrum_app`,
	} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	found, err := db.Lint(t.Context(), d.AppURL)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		t.Error(f)
	}
}

// Each table has one owning service, and says which.
func TestEveryTableNamesItsOwner(t *testing.T) {
	t.Parallel()
	d := dbtest.Bare(t)
	n := dbtest.Count(t, d, `
		select count(*) from pg_class c
		where c.relnamespace in ('fulcrum'::regnamespace, 'metrics'::regnamespace) and c.relkind in ('r', 'p') and not c.relispartition
		  and c.relname <> 'goose_db_version'
		  and coalesce(obj_description(c.oid, 'pg_class'), '') not like 'owner: %'`)
	if n != 0 {
		t.Errorf("%d tables have no comment that begins with 'owner: <service>.'", n)
	}
}
