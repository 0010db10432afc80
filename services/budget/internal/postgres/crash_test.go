package postgres_test

import (
	"context"
	"math/rand/v2"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/dbtest"
	"github.com/fulcrum-io/fulcrum/pkg/devstack"
	"github.com/fulcrum-io/fulcrum/pkg/fault"
	costv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/cost/v1"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/balance"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/lane"
)

// acked is what callers were told.
type acked struct {
	mu               sync.Mutex // guards held and charged
	held, charged    []uuid.UUID
	failures, refuse atomic.Int64
}

// load holds and settles with many callers until ctx ends.
func load(ctx context.Context, in *instance, tenant uuid.UUID, callers int) *acked {
	out := &acked{}
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				r := hold(tenant, 10)
				if i%3 == 0 {
					r.Subject.Team = "tight"
					r.Seal()
				}
				a, err := in.Do(ctx, r)
				if err == nil && !a.Granted {
					continue
				}
				if err != nil {
					if !fault.Is(err, fault.Down) && ctx.Err() == nil {
						out.refuse.Add(1)
					}
					out.failures.Add(1)
					continue
				}
				out.mu.Lock()
				out.held = append(out.held, r.ID)
				out.mu.Unlock()
				if i%2 == 0 {
					continue
				}
				if _, err := in.Do(ctx, settle(r.Ref, 7)); err == nil {
					out.mu.Lock()
					out.charged = append(out.charged, r.ID)
					out.mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	return out
}

// present fails the test unless everything callers were told is in the ledger.
func present(t *testing.T, d *dbtest.Database, a *acked) {
	t.Helper()
	if n := dbtest.Count(t, d, `select count(*) from fulcrum.reservations where id = any ($1)`, a.held); n != int64(len(a.held)) {
		t.Errorf("%d holds were acknowledged, %d are there", len(a.held), n)
	}
	if n := dbtest.Count(t, d, `select count(*) from fulcrum.settlements where kind = 'settled' and reservation_id = any ($1)`, a.charged); n != int64(len(a.charged)) {
		t.Errorf("%d charges were acknowledged, %d are there", len(a.charged), n)
	}
}

// Postgres is killed under load with all its processes, again and again, at
// moments by chance. What was acknowledged is there, in the budget and in the
// wallet that pays for it, no limit is passed, everything adds up, and callers
// were told the truth: unavailable, nothing else.
func TestNothingAcknowledgedIsLostWhenPostgresDies(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	pg, err := devstack.StartPostgres(ctx, devstack.PostgresOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = pg.Stop() })
	d := database(t, pg.URL())
	tenant := dbtestTenant(d)
	tight := dollars("soon spent", 0.000003)
	tight.Scope = &costv1.BudgetScope{Team: "tight"}
	publishWallet(t, d, tenant, drawn("all", 1), tight)
	in := start(t, d, lane.Options{})
	must(t, in, topUp(tenant, 1_000_000_000, "before"))

	var met int64
	var topped []string // the keys of acknowledged top-ups
	for range balance.Long(2, 20) {
		working, stop := context.WithCancel(ctx)
		done := make(chan *acked)
		go func() { done <- load(working, in, tenant, 32) }()
		topping := make(chan []string)
		go func() { topping <- topUps(working, in, tenant) }()
		moment(working, 300*time.Millisecond+rand.N(time.Second))
		if err := pg.Kill(); err != nil {
			t.Fatal(err)
		}
		moment(working, 300*time.Millisecond)
		if err := pg.Restart(ctx); err != nil {
			t.Fatal(err)
		}
		moment(working, time.Second)
		stop()
		a := <-done
		topped = append(topped, <-topping...)
		t.Logf("acknowledged %d holds, %d charges; %d calls failed", len(a.held), len(a.charged), a.failures.Load())
		met += int64(len(a.held)) * a.failures.Load()
		if n := a.refuse.Load(); n != 0 {
			t.Errorf("%d calls failed as something other than unavailable", n)
		}
		present(t, d, a)
		if n := dbtest.Count(t, d, `select count(*) from fulcrum.budget_windows where cost_nano_over > 0 or cost_nano_spent + cost_nano_held > cost_nano_limit`); n != 0 {
			t.Errorf("%d windows are over their limit", n)
		}
		balanced(t, d)
	}
	if met == 0 {
		t.Error("the load did not meet the crash")
	}
	elapse(t, d)
	if err := sweeper(in).Sweep(ctx); err != nil {
		t.Fatal(err)
	}
	if _, held := counters(t, d, tenant, "all"); held != 0 {
		t.Errorf("%d still held after the sweep", held)
	}
	spent, _ := counters(t, d, tenant, "all")
	if paid, held := counters(t, d, tenant, account); paid != spent || held != 0 {
		t.Errorf("the wallet paid %d and holds %d, the budget spent %d", paid, held, spent)
	}
	if n := dbtest.Count(t, d, `select count(*) from fulcrum.ledger_movements where idempotency_key = any ($1)`, topped); n != int64(len(topped)) {
		t.Errorf("%d top-ups were acknowledged, %d are there", len(topped), n)
	}
	balanced(t, d)
}

// moment lets the load run for a while: there is nothing to wait for but time.
func moment(ctx context.Context, d time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	<-ctx.Done()
}

// database makes a migrated database on a server of the test's own.
func database(t *testing.T, admin string) *dbtest.Database {
	t.Helper()
	const password = "ledger-test"
	ctx := t.Context()
	if err := db.Bootstrap(ctx, admin, db.BootstrapOptions{Database: "ledger", AppPassword: password, MigratePassword: password}); err != nil {
		t.Fatal(err)
	}
	as := func(user string) string {
		u, err := url.Parse(admin)
		if err != nil {
			t.Fatal(err)
		}
		u.Path = "/ledger"
		if user != "" {
			u.User = url.UserPassword(user, password)
		}
		return u.String()
	}
	d := &dbtest.Database{Name: "ledger", AdminURL: as(""), AppURL: as("fulcrum_app"), MigrateURL: as("fulcrum_migrate")}
	if err := db.Migrate(ctx, d.AdminURL); err != nil {
		t.Fatal(err)
	}
	pool, err := db.Open(ctx, d.AppURL, db.Options{MaxConns: 4})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	d.DB = pool
	return d
}
