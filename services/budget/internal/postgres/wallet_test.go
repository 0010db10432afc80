package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/dbtest"
	"github.com/fulcrum-io/fulcrum/pkg/fault"
	configv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/config/v1"
	costv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/cost/v1"
	walletv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/wallet/v1"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/catalog"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/lane"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/ledger"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/upkeep"
)

const (
	walletID = "0193b5a0-0000-7000-8000-000000000001"
	account  = "wallet:" + walletID
)

// publishWallet makes budgets and the wallet they may draw on the configuration.
func publishWallet(t testing.TB, d *dbtest.Database, tenant uuid.UUID, budgets ...*costv1.Budget) {
	t.Helper()
	publishBundle(t, d, tenant, &configv1.BudgetBundle{
		Budgets: budgets,
		Wallets: []*walletv1.Wallet{{WalletId: walletID, Name: "acme", LowBalanceNano: []int64{500_000_000}}},
	})
}

// drawn is a budget like dollars that draws on the wallet.
func drawn(id string, limit float64) *costv1.Budget {
	b := dollars(id, limit)
	b.WalletId = walletID
	return b
}

func topUp(tenant uuid.UUID, n int64, key string) *ledger.Move {
	return (&ledger.Move{Tenant: tenant, Key: key, Kind: ledger.TopUp, Account: account, Cost: n, Actor: "user:ada"}).Seal()
}

// topUps puts money in until ctx ends, and returns the keys that were
// acknowledged.
func topUps(ctx context.Context, in *instance, tenant uuid.UUID) (keys []string) {
	for ctx.Err() == nil {
		key := uuid.NewString()
		if _, err := in.Do(ctx, topUp(tenant, 5, key)); err == nil {
			keys = append(keys, key)
		}
	}
	return keys
}

// Of many concurrent holders in two instances, over budgets that share a
// wallet, exactly as many are granted as the wallet can pay, and none waits for
// another in a circle.
func TestAWalletIsDrainedToTheLastHoldThatFits(t *testing.T) {
	t.Parallel()
	const holders, fit = 400, 137
	d := dbtest.New(t)
	tenant := dbtest.Tenant(t, d)
	var budgets []*costv1.Budget
	for i := range 4 {
		b := drawn(fmt.Sprint("agent-", i), 1000)
		b.Scope = &costv1.BudgetScope{AgentId: fmt.Sprint("agent-", i)}
		budgets = append(budgets, b)
	}
	publishWallet(t, d, tenant, budgets...)
	at := []*instance{start(t, d, lane.Options{MaxBatch: 16}), start(t, d, lane.Options{MaxBatch: 16})}
	must(t, at[0], topUp(tenant, fit*10, "one"))

	var granted, exhausted atomic.Int64
	g, ctx := errgroup.WithContext(t.Context())
	for i := range holders {
		g.Go(func() error {
			r := hold(tenant, 10)
			r.Subject.AgentID = fmt.Sprint("agent-", i%4)
			a, err := at[i%2].Do(ctx, r.Seal())
			switch {
			case a.Granted:
				granted.Add(1)
			case a.Reason == ledger.ReasonWalletExhausted:
				exhausted.Add(1)
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	if granted.Load() != fit || exhausted.Load() != holders-fit {
		t.Errorf("granted %d, refused by the wallet %d; want %d and %d", granted.Load(), exhausted.Load(), fit, holders-fit)
	}
	if _, held := counters(t, d, tenant, account); held != fit*10 {
		t.Errorf("the wallet holds %d, want %d", held, fit*10)
	}
	balanced(t, d)
}

// Holds and charges over a wallet are decided in memory where that holds, like
// all others.
func TestAWalletTakesTheFastPath(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	tenant := dbtest.Tenant(t, d)
	publishWallet(t, d, tenant, drawn("all", 1))
	in := start(t, d, lane.Options{})
	must(t, in, topUp(tenant, 1_000_000, "one"))
	for range 10 {
		r := hold(tenant, 10)
		must(t, in, r)
		must(t, in, settle(r.Ref, 7))
	}
	if in.fast[1].Load() < 10 {
		t.Errorf("%d batches went by memory", in.fast[1].Load())
	}
	if spent, held := counters(t, d, tenant, account); spent != 70 || held != 0 {
		t.Errorf("the wallet spent %d and holds %d", spent, held)
	}
	balanced(t, d)
}

// However often a top-up's request or reply is lost, it is credited once.
func TestALostTopUpIsCreditedOnce(t *testing.T) {
	t.Parallel()
	for _, reply := range []bool{false, true} {
		t.Run(fmt.Sprintf("reply lost: %v", reply), func(t *testing.T) {
			t.Parallel()
			d := dbtest.New(t)
			tenant := dbtest.Tenant(t, d)
			publishWallet(t, d, tenant, drawn("all", 1))
			in := start(t, d, lane.Options{})
			l := &lossy{instance: in, reply: reply, seen: map[ledger.Ref]bool{}}
			if _, err := l.Do(t.Context(), topUp(tenant, 100, "k")); !errors.Is(err, errLost) {
				t.Fatal(err)
			}
			for range 2 {
				if a, err := l.Do(t.Context(), topUp(tenant, 100, "k")); err != nil || a.Movement.Balance != 100 {
					t.Fatalf("again: %+v, %v", a, err)
				}
			}
			if _, err := in.Do(t.Context(), topUp(tenant, 101, "k")); !fault.Is(err, fault.Conflict) {
				t.Errorf("the key with another amount: %v", err)
			}
			if n := dbtest.Count(t, d, `select cost_nano_limit from fulcrum.budget_windows where budget_id = $1`, account); n != 100 {
				t.Errorf("credited %d, want 100", n)
			}
			if n := dbtest.Count(t, d, `select count(*) from fulcrum.outbox where type = 'wallet_moved'`); n != 1 {
				t.Errorf("told %d times", n)
			}
			balanced(t, d)
		})
	}
}

// One key, sent to two instances at once by many, is one top-up.
func TestATopUpRacesItself(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	tenant := dbtest.Tenant(t, d)
	publishWallet(t, d, tenant, drawn("all", 1))
	at := []*instance{start(t, d, lane.Options{}), start(t, d, lane.Options{})}
	g, ctx := errgroup.WithContext(t.Context())
	for i := range 64 {
		g.Go(func() error {
			_, err := at[i%2].Do(ctx, topUp(tenant, 100, fmt.Sprint("k", i/8)))
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	if n := dbtest.Count(t, d, `select cost_nano_limit from fulcrum.budget_windows where budget_id = $1`, account); n != 800 {
		t.Errorf("credited %d, want 800", n)
	}
	balanced(t, d)
}

// Refunds, holds and charges race for the same money; nobody gets what another
// has, and the low balance is told once.
func TestRefundsAndHoldsShareOneBalance(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	tenant := dbtest.Tenant(t, d)
	publishWallet(t, d, tenant, drawn("all", 1000))
	at := []*instance{start(t, d, lane.Options{}), start(t, d, lane.Options{})}
	must(t, at[0], topUp(tenant, 1_000_000_000, "one"))
	var out atomic.Int64 // refunded or charged
	g, ctx := errgroup.WithContext(t.Context())
	for i := range 100 {
		g.Go(func() error {
			const n = 30_000_000
			if i%2 == 0 {
				_, err := at[i/2%2].Do(ctx, (&ledger.Move{
					Tenant: tenant, Key: fmt.Sprint(i), Kind: ledger.Refund, Account: account, Cost: -n, Reason: "asked for", Actor: "user:ada",
				}).Seal())
				if fault.HasReason(err, "WALLET_EXHAUSTED") {
					return nil
				}
				out.Add(n)
				return err
			}
			r := hold(tenant, n)
			a, err := at[i/2%2].Do(ctx, r)
			if err != nil || !a.Granted {
				return err
			}
			out.Add(n)
			_, err = at[i/2%2].Do(ctx, settle(r.Ref, n))
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	if out.Load() != 33*30_000_000 {
		t.Errorf("%d left the wallet, want 33 times 30,000,000", out.Load())
	}
	if n := dbtest.Count(t, d, `select count(*) from fulcrum.outbox where type = 'wallet_low'`); n != 1 {
		t.Errorf("called low %d times", n)
	}
	balanced(t, d)
}

// The database itself refuses a hold that the wallet cannot pay, whatever the
// code in front of it thinks.
func TestTheDatabaseRefusesAHoldBeyondAWallet(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	tenant := dbtest.Tenant(t, d)
	publishWallet(t, d, tenant, drawn("all", 1))
	in := start(t, d, lane.Options{})
	must(t, in, topUp(tenant, 100, "one"))
	for name, tt := range map[string]struct{ change, policy string }{
		"beyond the credit": {`cost_nano_held = 101`, "within"},
		"without credit":    {`cost_nano_limit = 0, cost_nano_held = 1`, "within"},
		"a negative credit": {`cost_nano_limit = -1`, "sane"},
		"a negative hold":   {`cost_nano_held = -1`, "sane"},
	} {
		err := d.DB.WithTenant(t.Context(), tenant, func(ctx context.Context, tx db.Tx) error {
			_, err := tx.Exec(ctx, `update fulcrum.budget_windows set `+tt.change+` where budget_id = $1`, account)
			return err
		})
		if !refusedBy(err, tt.policy) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The books are only ever added to: the role that serves has no right to
// change or delete an entry, and the database says so.
func TestTheBooksAreAppendOnly(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	tenant := dbtest.Tenant(t, d)
	publishWallet(t, d, tenant, drawn("all", 1))
	in := start(t, d, lane.Options{})
	must(t, in, topUp(tenant, 100, "one"))
	for _, table := range []string{"ledger_postings", "ledger_batches", "ledger_movements", "settlements", "reservations"} {
		for _, statement := range []string{"delete from fulcrum." + table, "update fulcrum." + table + " set tenant_id = tenant_id", "truncate fulcrum." + table} {
			err := d.DB.WithTenant(t.Context(), tenant, func(ctx context.Context, tx db.Tx) error {
				_, err := tx.Exec(ctx, statement)
				return err
			})
			if !db.Is(err, "42501") {
				t.Errorf("%s: %v, want permission denied", statement, err)
			}
		}
	}
}

// Somebody with the owner's rights changes a counter, an old entry, and a
// wallet's credit. The check finds each, tells of each once, also when two
// instances look, and again when it comes back after a repair.
func TestTheCheckerFindsTamperingOfCountersAndEntries(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	tenant := dbtest.Tenant(t, d)
	publishWallet(t, d, tenant, drawn("all", 1))
	in := start(t, d, lane.Options{})
	must(t, in, topUp(tenant, 1_000_000, "one"))
	for range 3 {
		r := hold(tenant, 10)
		must(t, in, r)
		must(t, in, settle(r.Ref, 7))
	}
	must(t, in, (&ledger.Settle{Ref: ledger.Ref{Tenant: dbtest.Tenant(t, d), ID: uuid.New()}, Key: "s", Subject: &catalog.Subject{}, Usage: &ledger.Usage{Cost: 5, CostKnown: true}}).Seal())
	// What is old is not added up again by an ordinary round.
	dbtest.Admin(t, d, `update fulcrum.ledger_postings set occurred_at = now() - interval '1 h'`, `update fulcrum.reservations set created_at = now() - interval '1 h'`)
	var found int
	newChecker := func() *upkeep.Checker {
		return &upkeep.Checker{Counters: in.store, Log: slog.New(slog.DiscardHandler), Checked: func(_ context.Context, _, differences, _ int) { found = differences }}
	}
	one := newChecker()
	round := func(c *upkeep.Checker, differences int, events int64) {
		t.Helper()
		if err := c.Check(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := dbtest.Count(t, d, `select count(*) from fulcrum.outbox where type = 'ledger_difference'`); found != differences || n != events {
			t.Errorf("%d differences and %d events, want %d and %d", found, n, differences, events)
		}
	}
	round(one, 0, 0)
	dbtest.Admin(t, d, `update fulcrum.budget_windows set cost_nano_spent = cost_nano_spent - 1, updated_at = now() where budget_id = 'all'`)
	round(one, 1, 1)
	dbtest.Admin(t, d, `update fulcrum.budget_windows set cost_nano_limit = cost_nano_limit + 50, updated_at = now() where budget_id = '`+account+`'`)
	round(one, 2, 2)
	dbtest.Admin(t, d, `update fulcrum.budget_windows set cost_nano_spent = cost_nano_spent + 3, updated_at = now() where budget_id = 'suspense'`)
	round(one, 3, 3)
	round(newChecker(), 3, 3) // another instance, or this one started anew
	// An entry of long ago: a recount finds it.
	dbtest.Admin(t, d, `update fulcrum.ledger_postings set cost_nano = array[cost_nano[1] + 1000] where moves = '{61}'`)
	last := newChecker()
	round(last, 3, 4) // the wallet's credit is off by another amount now
	dbtest.Admin(t, d, `update fulcrum.budget_windows set updated_at = now() - interval '1 d'`)
	round(last, 3, 4) // and stays so, though nobody touches it
	_, diffs, err := in.store.Recount(t.Context(), tenant, account)
	if err != nil || len(diffs) != 1 || diffs[0].Account != ledger.Credit || diffs[0].By() != 50-1000 {
		t.Errorf("recount: %+v, %v", diffs, err)
	}
	dbtest.Admin(t, d, `update fulcrum.ledger_postings set cost_nano = array[cost_nano[1] - 1000] where moves = '{61}'`,
		`update fulcrum.budget_windows set cost_nano_limit = cost_nano_limit - 50, updated_at = now() where budget_id = '`+account+`'`)
	round(newChecker(), 2, 4)
	dbtest.Admin(t, d, `update fulcrum.budget_windows set cost_nano_limit = cost_nano_limit + 50, updated_at = now() where budget_id = '`+account+`'`)
	round(newChecker(), 3, 5)
	// A hold of long ago, which is its own entry: only a recount finds it, in the
	// budget and in the wallet, and puts right what it had kept.
	dbtest.Admin(t, d, `update fulcrum.reservations set cost_nano = cost_nano + 2000 where id = (select min(id::text)::uuid from fulcrum.reservations where cardinality(budget_ids) = 2)`)
	round(last, 3, 5)
	round(newChecker(), 5, 7)
	_, diffs, err = in.store.Recount(t.Context(), tenant, "all")
	if err != nil || len(diffs) != 2 || diffs[0].Account != ledger.Held || diffs[0].By() != -2000 {
		t.Errorf("recount: %+v, %v", diffs, err)
	}
	dbtest.Admin(t, d, `update fulcrum.reservations set cost_nano = cost_nano - 2000 where cost_nano > 2000`)
	if _, diffs, err = in.store.Recount(t.Context(), tenant, "all"); err != nil || len(diffs) != 1 {
		t.Errorf("recount: %+v, %v", diffs, err)
	}
	if n := dbtest.Count(t, d, `select sum(held[1]) from fulcrum.ledger_sums where budget_id = 'all'`); n != 30 {
		t.Errorf("kept a sum of %d held, want 30", n)
	}
}
