package postgres_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/budgetdb"
	"github.com/fulcrum-io/fulcrum/db/dbtest"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/calendar"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/lane"
)

// A batch that was decided by another time than the database's, or by another
// configuration, is undone as a whole: by the statement that saves its windows,
// or by one of its own if it saves none.
func TestTheGuardRefusesAnotherTime(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	tenant, other := dbtest.Tenant(t, d), dbtest.Tenant(t, d)
	publish(t, d, tenant, dollars("all", 1))
	publish(t, d, other, dollars("all", 1))
	dbtest.Admin(t, d, `insert into fulcrum.budget_windows (tenant_id, budget_id, window_start, window_end, config_version, mode) values ('`+tenant.String()+`', 'all', 'epoch', 'infinity', 1, 1)`)
	guards := map[string]func(context.Context, *budgetdb.Queries, budgetdb.LedgerGuardParams) error{
		"alone": func(ctx context.Context, q *budgetdb.Queries, g budgetdb.LedgerGuardParams) error {
			_, err := q.LedgerGuard(ctx, g)
			return err
		},
		"with windows": func(ctx context.Context, q *budgetdb.Queries, g budgetdb.LedgerGuardParams) error {
			_, err := q.SaveWindows(ctx, budgetdb.SaveWindowsParams{
				NotBefore: g.NotBefore, NotAfter: g.NotAfter, Believed: g.Believed, Tenants: g.Tenants, BundleVersions: g.Versions,
				TenantIds: []uuid.UUID{tenant}, BudgetIds: []string{"all"}, WindowStarts: []time.Time{time.Unix(0, 0)}, WindowEnds: []time.Time{calendar.Never},
				ConfigVersions: []int64{1}, Modes: []int16{1}, Suspended: []bool{false}, Versions: []int64{0}, ReachedBps: []int32{0},
				ThrottledUntils: []time.Time{time.Unix(0, 0)}, Counters: make([]int64, 28),
			})
			return err
		},
		"with what is held": func(ctx context.Context, q *budgetdb.Queries, g budgetdb.LedgerGuardParams) error {
			_, err := q.SaveHeld(ctx, heldIn(g, tenant, "all", 0))
			return err
		},
	}
	for name, tt := range map[string]struct {
		notBefore, notAfter, believed time.Duration // from now
		version, others               int64         // of the configuration gone by; the other tenant saves no window
		refused                       string
	}{
		"as believed":                      {-time.Hour, time.Hour, 0, 1, 1, ""},
		"a window that is over":            {-time.Hour, -time.Minute, 0, 1, 1, "FT021"},
		"a window that ends at once":       {-time.Hour, 0, 0, 1, 1, "FT021"},
		"a window that has not begun":      {time.Minute, time.Hour, 0, 1, 1, "FT021"},
		"a clock that jumped ahead":        {-time.Hour, time.Hour, -10 * time.Minute, 1, 1, "FT021"},
		"a clock that jumped back":         {-time.Hour, time.Hour, 10 * time.Minute, 1, 1, "FT021"},
		"another's that is newer":          {-time.Hour, time.Hour, 0, 1, 0, "FT022"},
		"configuration that is newer":      {-time.Hour, time.Hour, 0, 0, 1, "FT022"},
		"a clock that drifted by a little": {-time.Hour, time.Hour, 200 * time.Millisecond, 1, 1, ""},
	} {
		for by, guarded := range guards {
			err := d.DB.WithTenants(t.Context(), []uuid.UUID{tenant, other}, func(ctx context.Context, tx db.Tx) error {
				if _, err := tx.Exec(ctx, `insert into fulcrum.hold_sweeps (tenant_id, swept_until) values ($1, now()) on conflict (tenant_id) do update set swept_until = now()`, tenant); err != nil {
					return err
				}
				var now time.Time // the transaction's, however long it takes
				if err := tx.QueryRow(ctx, `select now()`).Scan(&now); err != nil {
					return err
				}
				return guarded(ctx, budgetdb.New(tx), budgetdb.LedgerGuardParams{
					NotBefore: now.Add(tt.notBefore), NotAfter: now.Add(tt.notAfter), Believed: now.Add(tt.believed),
					Tenants: []uuid.UUID{tenant, other}, Versions: []int64{tt.version, tt.others},
				})
			})
			if tt.refused == "" && err != nil || tt.refused != "" && !db.Is(err, tt.refused) {
				t.Errorf("%s, %s: %v, want %q", name, by, err, tt.refused)
			}
			if wrote := dbtest.Count(t, d, `select count(*) from fulcrum.hold_sweeps`) > 0; wrote != (err == nil) {
				t.Errorf("%s, %s: wrote %v, and answered %v", name, by, wrote, err)
			}
			dbtest.Admin(t, d, `delete from fulcrum.hold_sweeps`)
			dbtest.Admin(t, d, `update fulcrum.budget_windows set version = 0`)
		}
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
	before, failed := in.fast[1].Load(), in.fast[0].Load()
	for i := range 5 {
		jump := time.Duration(1-2*(i%2)) * 10 * time.Minute // ahead and back
		r := hold(tenant, 10)
		in.store.Believe(time.Now().Add(jump))
		if a := must(t, in, r); !a.Granted {
			t.Fatalf("%+v", a)
		}
		in.store.Believe(time.Now().Add(jump))
		must(t, in, settle(r.Ref, 7))
	}
	in.store.Believe(time.Now().Add(time.Hour))
	if a := must(t, in, hold(tenant, 56)); a.Granted || a.RefusedBy.Remaining != 55 {
		t.Errorf("%+v, want 55 left", a)
	}
	if n := in.fast[1].Load() - before; n != 0 {
		t.Errorf("%d batches were decided from memory", n)
	}
	if in.fast[0].Load() == failed {
		t.Error("no batch was tried from memory")
	}
	if spent, held := counters(t, d, tenant, "all"); spent != 35 || held != 10 {
		t.Errorf("spent %d, held %d", spent, held)
	}
	balanced(t, d)
}

func heldIn(g budgetdb.LedgerGuardParams, tenant uuid.UUID, budget string, version int64) budgetdb.SaveHeldParams {
	return budgetdb.SaveHeldParams{
		NotBefore: g.NotBefore, NotAfter: g.NotAfter, Believed: g.Believed, Tenants: g.Tenants, BundleVersions: g.Versions,
		TenantIds: []uuid.UUID{tenant}, BudgetIds: []string{budget}, WindowStarts: []time.Time{time.Unix(0, 0)}, Versions: []int64{version},
		ThrottledUntils: []time.Time{time.Unix(0, 0)}, Held: make([]int64, 7),
	}
}

// What is held is saved of a row as it was decided on, and makes none.
func TestWhatIsHeldIsSavedOnlyOfTheRowThatWasDecidedOn(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	tenant := dbtest.Tenant(t, d)
	publish(t, d, tenant, dollars("all", 1))
	dbtest.Admin(t, d, `insert into fulcrum.budget_windows (tenant_id, budget_id, window_start, window_end, config_version, mode, version, cost_nano_limit, cost_nano_spent, reached_bp)
		values ('`+tenant.String()+`', 'all', 'epoch', 'infinity', 1, 1, 7, 10, 4, 50)`)
	for _, tt := range []struct {
		name, budget string
		version      int64
		held         int64
		refused      func(error) bool
	}{
		{"an older version", "all", 6, 1, func(err error) bool { return db.Is(err, "FT023") }},
		{"a later version", "all", 8, 1, func(err error) bool { return db.Is(err, "FT023") }},
		{"no row", "other", 7, 1, func(err error) bool { return db.Constraint(err) == "budget_windows_new" }},
		{"more than the limit leaves", "all", 7, 7, func(err error) bool { return refusedBy(err, "within") }},
		{"less than nothing", "all", 7, -1, func(err error) bool { return refusedBy(err, "sane") }},
		{"as much as the limit leaves", "all", 7, 6, func(err error) bool { return err == nil }},
	} {
		err := d.DB.WithTenants(t.Context(), []uuid.UUID{tenant}, func(ctx context.Context, tx db.Tx) error {
			var now time.Time
			if err := tx.QueryRow(ctx, `select now()`).Scan(&now); err != nil {
				return err
			}
			arg := heldIn(budgetdb.LedgerGuardParams{
				NotBefore: calendar.Always, NotAfter: calendar.Never, Believed: now, Tenants: []uuid.UUID{tenant}, Versions: []int64{1},
			}, tenant, tt.budget, tt.version)
			arg.Held[0] = tt.held
			_, err := budgetdb.New(tx).SaveHeld(ctx, arg)
			return err
		})
		if !tt.refused(err) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	if n := dbtest.Count(t, d, `select count(*) from fulcrum.budget_windows where budget_id = 'all' and version = 8 and cost_nano_held = 6
		and cost_nano_limit = 10 and cost_nano_spent = 4 and reached_bp = 50 and mode = 1 and window_end = 'infinity'`); n != 1 {
		t.Error("the row is not what it was with 6 held")
	}
	if n := dbtest.Count(t, d, `select count(*) from fulcrum.budget_windows`); n != 1 {
		t.Errorf("there are %d rows, want 1", n)
	}
}
