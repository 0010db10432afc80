package db_test

import (
	"context"
	"errors"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/dbtest"
)

// The app reaches tenants by functions only, and creates each once however
// often it asks.
func TestTenantsAreReachedByFunctionsOnly(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	create := func(name, key string) (id uuid.UUID, created bool) {
		t.Helper()
		err := d.DB.GlobalOne(t.Context(), func(ctx context.Context, tx db.Tx) error {
			return tx.QueryRow(ctx, `select t.tenant_id, t.created from fulcrum.create_tenant($1, $2, '{"time_zone": "Europe/Berlin"}', $3) t`,
				uuid.Must(uuid.NewV7()), name, key).Scan(&id, &created)
		})
		if err != nil {
			t.Fatal(err)
		}
		return id, created
	}
	first, created := create("acme", "key-1")
	again, createdAgain := create("acme", "key-1")
	if !created || createdAgain || first != again {
		t.Errorf("created %s (%v) and then %s (%v), want one tenant", first, created, again, createdAgain)
	}
	create("without a key", "")
	create("without a key", "")
	if n := dbtest.Count(t, d, `select count(*) from fulcrum.tenants`); n != 3 {
		t.Errorf("%d tenants, want 3", n)
	}

	err := d.DB.GlobalOne(t.Context(), func(ctx context.Context, tx db.Tx) error {
		var settings, status string
		if err := tx.QueryRow(ctx, `select t.tenant_settings ->> 'a' from fulcrum.update_tenant_settings($1, '{"a": "b"}') t`, first).Scan(&settings); err != nil || settings != "b" {
			t.Errorf("updated settings %q, %v", settings, err)
		}
		var changed bool
		if err := tx.QueryRow(ctx, `select fulcrum.set_tenant_status($1, 'suspended')`, first).Scan(&changed); err != nil || !changed {
			t.Errorf("suspended: %v, %v", changed, err)
		}
		if err := tx.QueryRow(ctx, `select t.status from fulcrum.tenant($1) t`, first).Scan(&status); err != nil || status != "suspended" {
			t.Errorf("status %q, %v", status, err)
		}
		if err := tx.QueryRow(ctx, `select t.status from fulcrum.tenant($1) t`, uuid.New()).Scan(&status); !errors.Is(err, pgx.ErrNoRows) {
			t.Errorf("a tenant that is not there: %v", err)
		}
		var n int
		if err := tx.QueryRow(ctx, `select count(*) from fulcrum.list_tenants($1, 2)`, uuid.Nil).Scan(&n); err != nil || n != 2 {
			t.Errorf("listed %d, %v", n, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{
		`select 1 from fulcrum.tenants`, `insert into fulcrum.tenants (id, name) values (gen_random_uuid(), 'x')`,
		`update fulcrum.tenants set name = 'x'`, `delete from fulcrum.tenants`,
	} {
		err := d.DB.GlobalOne(t.Context(), func(ctx context.Context, tx db.Tx) error { _, err := tx.Exec(ctx, sql); return err })
		if !db.Is(err, "42501") {
			t.Errorf("%s: got %v, want 42501", sql, err)
		}
	}
}
