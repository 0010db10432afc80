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
	if n := dbtest.Count(t, d, `select count(*) from fulcrum.ledger_sums where held[1] >= 500`); n != 2 {
		t.Errorf("kept what was held long ago of %d windows, want 2", n)
	}
	balanced(t, d)
}

// unsound is a ledger of which one tenant's cannot be checked.
type unsound struct {
	upkeep.Counters
	tenant    uuid.UUID
	err       error
	after     bool // it fails once it has looked
	recounted []uuid.UUID
}

func (u *unsound) Differences(ctx context.Context, tenant uuid.UUID, since time.Time, recount bool) (int, []ledger.Difference, error) {
	if recount {
		u.recounted = append(u.recounted, tenant)
	}
	if tenant != u.tenant || u.err == nil {
		return u.Counters.Differences(ctx, tenant, since, recount)
	}
	if !u.after {
		return 0, nil, u.err
	}
	n, diffs, err := u.Counters.Differences(ctx, tenant, since, recount)
	return n, diffs, errors.Join(err, u.err)
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
	dbtest.Admin(t, d, `update fulcrum.budget_windows set cost_nano_held = cost_nano_held + 5`)
	var windows, differences, unchecked int
	checker := &upkeep.Checker{Counters: u, Log: slog.New(slog.DiscardHandler), Checked: func(_ context.Context, n, off, not int) { windows, differences, unchecked = n, off, not }}
	if err := checker.Check(t.Context()); !errors.Is(err, u.err) || windows != 2 || differences != 2 || unchecked != 1 || len(u.recounted) != 3 {
		t.Errorf("%v, %d windows with %d differences, %d unchecked, recounted %v", err, windows, differences, unchecked, u.recounted)
	}
	// The next round makes up for what nobody has touched since, and forgets nothing.
	dbtest.Admin(t, d, `update fulcrum.budget_windows set updated_at = now() - interval '1 d'`)
	u.err, u.recounted = nil, nil
	if err := checker.Check(t.Context()); err != nil || windows != 1 || differences != 3 || unchecked != 0 || len(u.recounted) != 1 || u.recounted[0] != u.tenant {
		t.Errorf("%v, %d windows with %d differences, %d unchecked, recounted %v", err, windows, differences, unchecked, u.recounted)
	}
	if n := dbtest.Count(t, d, `select count(*) from fulcrum.ledger_differences where cleared_at is null`); n != 3 {
		t.Errorf("%d differences are noted, want 3", n)
	}
	// What fails once it had found something tells of it.
	u.err, u.after = errors.New("later"), true
	dbtest.Admin(t, d, `update fulcrum.budget_windows set cost_nano_held = cost_nano_held + 1, updated_at = now()`)
	if err := checker.Check(t.Context()); !errors.Is(err, u.err) || differences != 3 || unchecked != 1 {
		t.Errorf("%v, %d differences, %d unchecked", err, differences, unchecked)
	}
	if n := dbtest.Count(t, d, `select count(*) from fulcrum.ledger_differences where difference = 6`); n != 3 {
		t.Errorf("%d new differences are noted, want 3", n)
	}
}
