package postgres_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/dbtest"
	busv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/bus/v1"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/lane"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/ledger"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/upkeep"
)

// What nobody settles comes back, for every tenant, and says so; what is
// renewed or settled stays.
func TestTheSweepGivesBackWhatRanOut(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	in := start(t, d, lane.Options{})
	var tenants []uuid.UUID
	var renewed []*ledger.Reserve
	for range 3 {
		tenant := dbtest.Tenant(t, d)
		publish(t, d, tenant, dollars("all", 1))
		tenants = append(tenants, tenant)
		for i := range 10 {
			r := hold(tenant, 10)
			must(t, in, r)
			if i == 0 {
				must(t, in, settle(r.Ref, 3))
			}
			if i == 1 {
				renewed = append(renewed, r)
			}
		}
	}
	sweep := sweeper(in)
	if err := sweep.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := dbtest.Count(t, d, `select count(*) from fulcrum.settlements where kind = 'expired'`); n != 0 {
		t.Fatalf("%d holds expired before their time", n)
	}
	elapse(t, d)
	for _, r := range renewed {
		must(t, in, &ledger.Renew{Ref: r.Ref, Key: "k", TTL: time.Hour})
	}
	var swept int
	sweep.Swept = func(_ context.Context, n int) { swept += n }
	if err := sweep.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if swept != 3*8 {
		t.Errorf("swept %d holds, want 24", swept)
	}
	for _, tenant := range tenants {
		if spent, held := counters(t, d, tenant, "all"); spent != 3 || held != 10 {
			t.Errorf("spent %d, held %d; want 3 and 10", spent, held)
		}
	}
	if n := dbtest.Count(t, d, `select count(*) from fulcrum.outbox where type = 'hold_expired'`); n != 24 {
		t.Errorf("%d events, want 24", n)
	}
	balanced(t, d)
}

// A sweep and a late settlement meet: whichever is first, the hold ends once and
// the charge is recorded once.
func TestASweepAndASettlementMeet(t *testing.T) {
	t.Parallel()
	const holds = 100
	d := dbtest.New(t)
	tenant := dbtest.Tenant(t, d)
	publish(t, d, tenant, dollars("all", 1))
	one, two := start(t, d, lane.Options{MaxBatch: 4}), start(t, d, lane.Options{MaxBatch: 4})
	refs := make([]ledger.Ref, holds)
	for i := range refs {
		r := hold(tenant, 10)
		must(t, one, r)
		refs[i] = r.Ref
	}
	elapse(t, d)
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := sweeper(one).Sweep(t.Context()); err != nil {
			t.Error(err)
		}
	})
	for _, ref := range refs {
		wg.Go(func() {
			if _, err := two.Do(t.Context(), settle(ref, 7)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if spent, held := counters(t, d, tenant, "all"); spent != 7*holds || held != 0 {
		t.Errorf("spent %d, held %d; want %d and 0", spent, held, 7*holds)
	}
	balanced(t, d)
}

// A mark never hides a hold: not one that is renewed into the past's future,
// nor one that was committed while the sweep went on.
func TestAMarkHidesNothing(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	tenant := dbtest.Tenant(t, d)
	publish(t, d, tenant, dollars("all", 1))
	in := start(t, d, lane.Options{})
	for range 3 {
		r := hold(tenant, 10)
		must(t, in, r)
		elapse(t, d)
		if err := sweeper(in).Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, held := counters(t, d, tenant, "all"); held != 0 {
			t.Fatalf("%d still held", held)
		}
	}
	if n := dbtest.Count(t, d, `select count(*) from fulcrum.hold_sweeps where swept_until < now() - interval '20 s'`); n != 1 {
		t.Error("the mark is not behind by what a batch may take")
	}
}

// The checker finds a counter that somebody changed past the ledger, says which
// and by how much, once; and it adds up old entries only once.
func TestTheCheckerFindsWhatDoesNotAddUp(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	tenant := dbtest.Tenant(t, d)
	publish(t, d, tenant, dollars("all", 1))
	in := start(t, d, lane.Options{})
	for range 5 {
		r := hold(tenant, 10)
		must(t, in, r)
		must(t, in, settle(r.Ref, 12))
	}
	rounds := make(map[string]int)
	checker := &upkeep.Checker{Counters: in.store, Log: slog.New(slog.DiscardHandler), Checked: func(_ context.Context, windows, differences, _ int) {
		rounds["windows"], rounds["differences"] = windows, differences
	}}
	check := func(want int) {
		t.Helper()
		if err := checker.Check(t.Context()); err != nil {
			t.Fatal(err)
		}
		if rounds["windows"] != 1 || rounds["differences"] != want {
			t.Errorf("%v, want 1 window with %d differences", rounds, want)
		}
	}
	check(0)
	// Entries of long ago are added up once.
	dbtest.Admin(t, d, `update fulcrum.ledger_postings set occurred_at = now() - interval '1 h'`, `update fulcrum.reservations set created_at = now() - interval '1 h'`,
		`delete from fulcrum.ledger_sums`, `delete from fulcrum.ledger_sums_of_holds`)
	check(0)
	if spent, held := dbtest.Count(t, d, `select posted[2] from fulcrum.ledger_sums`), dbtest.Count(t, d, `select held[1] from fulcrum.ledger_sums`); spent != 60 || held != 50 {
		t.Errorf("kept sums of %d spent and %d held, want 60 and 50", spent, held)
	}
	must(t, in, hold(tenant, 4))
	check(0)
	dbtest.Admin(t, d, `update fulcrum.reservations set created_at = now() - interval '1 h'`) // it grew old, and so it is
	dbtest.Admin(t, d, `update fulcrum.ledger_sums_of_holds set through = now() - interval '2 h'`, `update fulcrum.ledger_sums set held[1] = 0`)
	check(0)
	check(0)
	if held := dbtest.Count(t, d, `select held[1] from fulcrum.ledger_sums`); held != 54 {
		t.Errorf("kept a sum of %d held, want 54", held)
	}
	dbtest.Admin(t, d, `update fulcrum.budget_windows set cost_nano_spent = cost_nano_spent - 1`)
	check(1)
	check(1)
	if n := dbtest.Count(t, d, `select count(*) from fulcrum.outbox where type = 'ledger_difference'`); n != 1 {
		t.Errorf("reported %d times, want once", n)
	}
}

// Somebody holding a tenant's row lock fails that tenant's calls, and nobody else's.
func TestAStuckRowStopsItsTenantOnly(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	stuck, free := dbtest.Tenant(t, d), dbtest.Tenant(t, d)
	publish(t, d, stuck, dollars("all", 1))
	publish(t, d, free, dollars("all", 1))
	in := start(t, d, lane.Options{})
	must(t, in, hold(stuck, 1))
	must(t, in, hold(free, 1))

	locked, release := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		err := d.DB.WithTenant(t.Context(), stuck, func(ctx context.Context, tx db.Tx) error {
			if _, err := tx.Exec(ctx, `select 1 from fulcrum.budget_windows where tenant_id = $1 for update`, stuck); err != nil {
				return err
			}
			close(locked)
			<-release
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
	<-locked
	var calls sync.WaitGroup
	for range 10 {
		calls.Go(func() {
			if _, err := in.Do(t.Context(), hold(stuck, 1)); !isDown(err) {
				t.Errorf("a call behind the lock: %v", err)
			}
		})
		calls.Go(func() {
			if _, err := in.Do(t.Context(), hold(free, 1)); err != nil {
				t.Errorf("another tenant's call: %v", err)
			}
		})
	}
	calls.Wait()
	close(release)
	wg.Wait()
	must(t, in, hold(stuck, 1))
	balanced(t, d)
}

// A bundle that cannot be used leaves the last good one in force; with none, the
// tenant's calls fail closed and its neighbours' do not.
func TestABundleThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	had, never, fine := dbtest.Tenant(t, d), dbtest.Tenant(t, d), dbtest.Tenant(t, d)
	for _, tenant := range []uuid.UUID{had, fine} {
		publish(t, d, tenant, dollars("all", 0.000000010))
	}
	in := start(t, d, lane.Options{})
	must(t, in, hold(had, 4))
	broken := dollars("all", 1)
	broken.TimeZone = "Mars/Olympus"
	publish(t, d, had, broken)
	publish(t, d, never, broken)
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			if a, err := in.Do(t.Context(), hold(had, 7)); err != nil || a.Granted {
				t.Errorf("by the last good bundle 7 do not fit: %+v, %v", a, err)
			}
		})
		wg.Go(func() {
			if _, err := in.Do(t.Context(), hold(never, 1)); !isDown(err) {
				t.Errorf("without a good bundle: %v", err)
			}
		})
		wg.Go(func() {
			if _, err := in.Do(t.Context(), hold(fine, 1)); err != nil {
				t.Errorf("a neighbour: %v", err)
			}
		})
	}
	wg.Wait()
	publish(t, d, had, dollars("all", 1))
	if a := must(t, in, hold(had, 7)); !a.Granted {
		t.Errorf("after a good one: %+v", a)
	}
	err := in.catalogs.Changed(t.Context(), &busv1.Event{TenantId: had.String(), ConfigVersion: 99})
	if err != nil {
		t.Errorf("Changed: %v", err)
	}
}

// An instance of which the host is lost after it has sent a batch's windows.
func TestABatchThatStopsHalfWayKeepsItsWindowsOnlySoLong(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	tenant := dbtest.Tenant(t, d)
	publish(t, d, tenant, dollars("all", 1))
	lost, other := start(t, d, lane.Options{}), start(t, d, lane.Options{})
	must(t, other, hold(tenant, 1))
	err := lost.db.Streamed(t.Context(), []uuid.UUID{tenant}, func(_ context.Context, s *db.Stream) error {
		b := &pgx.Batch{}
		b.Queue(`update fulcrum.budget_windows set cost_nano_held = cost_nano_held where tenant_id = $1`, tenant)
		if err := errors.Join(s.Queue(b), s.Send()); err != nil {
			return err
		}
		for until := time.Now().Add(10 * time.Second); dbtest.Count(t, d, `select count(*) from pg_stat_activity where datname = current_database() and state = 'active' and wait_event = 'ClientRead'`) == 0; {
			if time.Now().After(until) {
				t.Fatal("it does not stand still")
			}
		}
		if _, err := other.Do(t.Context(), hold(tenant, 1)); !isDown(err) {
			t.Errorf("a hold meanwhile: %v, want unavailable", err)
		}
		if n, err := other.store.EndStalled(t.Context(), time.Hour); n != 0 || err != nil {
			t.Errorf("%d were ended too early, %v", n, err)
		}
		if n, err := other.store.EndStalled(t.Context(), 0); n != 1 || err != nil {
			t.Errorf("%d were ended, want 1, %v", n, err)
		}
		must(t, other, hold(tenant, 1))
		_, err := s.Commit(func() {})
		return err
	})
	if !db.Unavailable(err) {
		t.Errorf("the batch that stood still: %v", err)
	}
	must(t, lost, hold(tenant, 1))
	if _, held := counters(t, d, tenant, "all"); held != 3 {
		t.Errorf("held %d, want 3", held)
	}
	balanced(t, d)
}
