package postgres_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/dbtest"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/lane"
)

// A batch that was decided by another time than the database's is undone as a
// whole: outside the windows it was decided in, and when the clock has jumped.
func TestTheGuardRefusesAnotherTime(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	tenant := dbtest.Tenant(t, d)
	publish(t, d, tenant, dollars("all", 1))
	for name, tt := range map[string]struct {
		notBefore, notAfter, believed time.Duration // from now
		version                       int64
		refused                       string
	}{
		"as believed":                      {-time.Hour, time.Hour, 0, 1, ""},
		"a window that is over":            {-time.Hour, -time.Minute, 0, 1, "FT021"},
		"a window that has not begun":      {time.Minute, time.Hour, 0, 1, "FT021"},
		"a clock that jumped ahead":        {-time.Hour, time.Hour, -10 * time.Minute, 1, "FT021"},
		"a clock that jumped back":         {-time.Hour, time.Hour, 10 * time.Minute, 1, "FT021"},
		"configuration that is newer":      {-time.Hour, time.Hour, 0, 0, "FT022"},
		"a clock that drifted by a little": {-time.Hour, time.Hour, 200 * time.Millisecond, 1, ""},
	} {
		var left int64
		err := d.DB.WithTenants(t.Context(), []uuid.UUID{tenant}, func(ctx context.Context, tx db.Tx) error {
			if _, err := tx.Exec(ctx, `insert into fulcrum.hold_sweeps (tenant_id, swept_until) values ($1, now()) on conflict (tenant_id) do update set swept_until = now()`, tenant); err != nil {
				return err
			}
			var now time.Time // the transaction's, however long it takes
			if err := tx.QueryRow(ctx, `select now()`).Scan(&now); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, `select fulcrum.ledger_guard($1, $2, $3, array[$4::uuid], array[$5::bigint])`,
				now.Add(tt.notBefore), now.Add(tt.notAfter), now.Add(tt.believed), tenant, tt.version)
			return err
		})
		if tt.refused == "" && err != nil || tt.refused != "" && !db.Is(err, tt.refused) {
			t.Errorf("%s: %v, want %q", name, err, tt.refused)
		}
		left = dbtest.Count(t, d, `select count(*) from fulcrum.hold_sweeps`)
		if wrote := left > 0; wrote != (err == nil) {
			t.Errorf("%s: %d rows written", name, left)
		}
		dbtest.Admin(t, d, `delete from fulcrum.hold_sweeps`)
	}
}

// With a clock that jumps under every batch nothing is decided from memory, and
// all is held and charged once all the same.
func TestAClockThatJumpsCostsOnlyTime(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	tenant := dbtest.Tenant(t, d)
	publish(t, d, tenant, dollars("all", 0.000_000_100))
	in := start(t, d, lane.Options{})
	first := hold(tenant, 10)
	must(t, in, first)
	dbtest.Admin(t, d, `create or replace function fulcrum.ledger_guard(not_before timestamptz, not_after timestamptz, believed timestamptz, tenants uuid[], versions bigint[])
		returns timestamptz language plpgsql stable set search_path = pg_catalog
		as $$ begin raise exception 'fulcrum: time moved on' using errcode = 'FT021'; end $$`)
	before := in.fast[1].Load()
	for range 5 {
		r := hold(tenant, 10)
		if a := must(t, in, r); !a.Granted {
			t.Fatalf("%+v", a)
		}
		must(t, in, settle(r.Ref, 7))
	}
	if a := must(t, in, hold(tenant, 56)); a.Granted || a.RefusedBy.Remaining != 55 {
		t.Errorf("%+v, want 55 left", a)
	}
	if n := in.fast[1].Load() - before; n != 0 {
		t.Errorf("%d batches were decided from memory", n)
	}
	if spent, held := counters(t, d, tenant, "all"); spent != 35 || held != 10 {
		t.Errorf("spent %d, held %d", spent, held)
	}
	balanced(t, d)
}
