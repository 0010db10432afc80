package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/db/dbtest"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/amount"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/lane"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/ledger"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/upkeep"
)

// longAgo makes everything that is in the books of an hour ago, so that it is kept.
var longAgo = []string{`update fulcrum.ledger_postings set occurred_at = now() - interval '1 h'`, `update fulcrum.reservations set created_at = created_at - interval '1 h'`}

// What a budget without a limit of money ever held may be more than a counter can
// count; what it holds is not.
func TestTheCheckAddsUpMoreThanACounterHolds(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	tenant := dbtest.Tenant(t, d)
	calls := dollars("all", 0)
	calls.Limits.MaxToolCalls = 100
	publish(t, d, tenant, calls)
	in := start(t, d, lane.Options{})
	check := func() {
		t.Helper()
		for _, recount := range []bool{false, true, false} {
			if n, diffs, err := in.store.Differences(t.Context(), tenant, time.Time{}, recount); n != 1 || len(diffs) != 0 || err != nil {
				t.Fatalf("recount %v: %d windows, %+v, %v", recount, n, diffs, err)
			}
		}
	}
	for n := range 3 {
		for range 9 { // of an eighth of what a counter counts to
			r := hold(tenant, amount.Most)
			must(t, in, r)
			must(t, in, &ledger.Release{Ref: r.Ref, Key: "k"})
		}
		must(t, in, hold(tenant, 7))
		check()
		// These are of two hours ago, one, now: each is added to what was kept before.
		dbtest.Admin(t, d, fmt.Sprintf(`update fulcrum.reservations set created_at = now() - interval '%d h' where created_at > now() - interval '30 min'`, 2-n),
			fmt.Sprintf(`update fulcrum.ledger_sums_of_holds set through = now() - interval '%d min'`, 150-60*n))
		check()
	}
	balanced(t, d)
}

// Instances check, and somebody recounts, while holds are made and end: each finds
// what is so, and what was held long ago is kept once.
func TestManyCheckTheLedgerAtOnce(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	tenant := dbtest.Tenant(t, d)
	publish(t, d, tenant, dollars("all", 100), dollars("too", 100))
	one, two := start(t, d, lane.Options{}), start(t, d, lane.Options{})
	for range 50 {
		must(t, one, hold(tenant, 10))
	}
	dbtest.Admin(t, d, longAgo...)
	ctx, stop := context.WithCancel(t.Context())
	var load, checks sync.WaitGroup
	for n := range 4 {
		load.Go(func() {
			for ctx.Err() == nil {
				r := hold(tenant, 3)
				if _, err := []*instance{one, two}[n%2].Do(t.Context(), r); err != nil {
					t.Error(err)
				}
				if _, err := []*instance{two, one}[n%2].Do(t.Context(), settle(r.Ref, 2)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for n := range 4 {
		checks.Go(func() {
			for i := range 10 {
				windows, diffs, err := []*instance{one, two}[n%2].store.Differences(t.Context(), tenant, time.Time{}, (n+i)%2 == 0)
				if windows != 2 || len(diffs) != 0 || err != nil {
					t.Errorf("%d windows, %+v, %v", windows, diffs, err)
				}
			}
		})
	}
	checks.Wait()
	stop()
	load.Wait()
	if n := dbtest.Count(t, d, `select count(*) from fulcrum.ledger_sums where held[1] = 500`); n != 2 {
		t.Errorf("kept what was held long ago of %d windows, want 2", n)
	}
	balanced(t, d)
}

// unsound is a ledger of which one tenant's cannot be checked.
type unsound struct {
	upkeep.Counters
	tenant    uuid.UUID
	err       error
	recounted []uuid.UUID
}

func (u *unsound) Differences(ctx context.Context, tenant uuid.UUID, since time.Time, recount bool) (int, []ledger.Difference, error) {
	if recount {
		u.recounted = append(u.recounted, tenant)
	}
	if tenant == u.tenant && u.err != nil {
		return 0, nil, u.err
	}
	return u.Counters.Differences(ctx, tenant, since, recount)
}

// A tenant whose ledger cannot be checked keeps no other's from it, and is
// recounted when it can.
func TestOneTenantKeepsNoOtherFromBeingChecked(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	in := start(t, d, lane.Options{})
	for range 3 {
		tenant := dbtest.Tenant(t, d)
		publish(t, d, tenant, dollars("all", 1))
		must(t, in, hold(tenant, 1))
	}
	tenants, err := in.store.WithWindows(t.Context(), uuid.Nil, 10)
	if err != nil || len(tenants) != 3 {
		t.Fatal(tenants, err)
	}
	u := &unsound{Counters: in.store, tenant: tenants[0], err: errors.New("not today")}
	var windows int
	checker := &upkeep.Checker{Counters: u, Log: slog.New(slog.DiscardHandler), Checked: func(_ context.Context, n, _ int) { windows = n }}
	if err := checker.Check(t.Context()); !errors.Is(err, u.err) || windows != 2 || len(u.recounted) != 3 {
		t.Errorf("%v, %d windows, recounted %v", err, windows, u.recounted)
	}
	u.err, u.recounted = nil, nil
	if err := checker.Check(t.Context()); err != nil || windows != 3 || len(u.recounted) != 1 || u.recounted[0] != u.tenant {
		t.Errorf("%v, %d windows, recounted %v", err, windows, u.recounted)
	}
}
