package postgres_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/db/dbtest"
	"github.com/fulcrum-io/fulcrum/pkg/fault"
	configv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/config/v1"
	costv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/cost/v1"
	walletv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/wallet/v1"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/catalog"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/lane"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/ledger"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/rerate"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/upkeep"
)

// byHand corrects a charge.
func byHand(ref ledger.Ref, n int64, key string) *ledger.Move {
	return (&ledger.Move{Tenant: ref.Tenant, Key: key, Kind: ledger.ByHand, Reservation: ref.ID, Cost: n, Reason: "billed twice", Actor: "user:ada"}).Seal()
}

// agree fails the test unless the summary of all that was spent, and that of an
// envelope, say what the ledger says, and the continuous check finds nothing.
func agree(t *testing.T, d *dbtest.Database, in *instance, tenant uuid.UUID, want int64) {
	t.Helper()
	if spent, _ := counters(t, d, tenant, "b"); spent != want || spentNano(t, in, tenant) != want {
		t.Errorf("the ledger says %d, the summary %d, want %d", spent, spentNano(t, in, tenant), want)
	}
	lines, err := in.store.EnvelopeCosts(t.Context(), tenant, "e-red")
	if err != nil || len(lines) != 1 || lines[0].Amounts[0] != want {
		t.Errorf("the summary of the envelope: %+v, %v; want %d", lines, err, want)
	}
	_, w, _, err := in.store.Status(t.Context(), tenant, "b")
	if err != nil {
		t.Fatal(err)
	}
	models, err := in.store.WindowModels(t.Context(), w)
	if err != nil || len(models) != 1 || models[0].Amounts[0] != want {
		t.Errorf("the models of the budget: %+v, %v; want %d", models, err, want)
	}
	check := &upkeep.Checker{Counters: in.store, Log: slog.New(slog.DiscardHandler), Checked: func(_ context.Context, windows, differences, _ int) {
		if windows == 0 || differences != 0 {
			t.Errorf("the check finds %d differences in %d windows", differences, windows)
		}
	}}
	if err := check.Check(t.Context()); err != nil {
		t.Error(err)
	}
	balanced(t, d)
}

func TestSummariesAgreeWithTheLedgerAfterACorrectionByHand(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	tenant := dbtest.Tenant(t, d)
	first := own("m", 1, 1, 1)
	bundle := func(prices ...*configv1.Price) *configv1.BudgetBundle {
		return &configv1.BudgetBundle{Budgets: []*costv1.Budget{dollars("b", 100)}, Prices: prices}
	}
	publishBundle(t, d, tenant, bundle(first))
	in := start(t, d, lane.Options{})
	one, two := called(t, in, tenant, "m", "red", 2_000_000, 0), called(t, in, tenant, "m", "red", 1_000_000, 0)
	agree(t, d, in, tenant, 3e9)
	for range 2 { // a reply that was lost
		must(t, in, byHand(one, -1.25e9, "k"))
		agree(t, d, in, tenant, 1.75e9)
	}
	must(t, in, byHand(one, 3e9, "more"))
	agree(t, d, in, tenant, 4.75e9)
	if _, err := in.Do(t.Context(), byHand(two, -1e9-1, "too much")); !fault.HasReason(err, "CORRECTION_TOO_LARGE") {
		t.Errorf("more is given back than the action cost, though the budget has it: %v", err)
	}
	must(t, in, byHand(two, -1e9, "all"))
	agree(t, d, in, tenant, 3.75e9)

	// What a person decided, no price list overrules.
	three := called(t, in, tenant, "m", "red", 1_000_000, 0)
	publishBundle(t, d, tenant, bundle(first, own("m", 2, 5, 1)))
	x := rerate.New(in.store, in)
	done, err := x.Apply(t.Context(), day(tenant, "r"))
	if err != nil || done.Total.Charges != 1 || done.LeftAlone != 2 || done.Total.New != 5e9 {
		t.Fatalf("%+v, %v", done, err)
	}
	agree(t, d, in, tenant, 3.75e9+5e9)
	if a := must(t, in, &ledger.Correct{Ref: one, Rerate: uuid.New(), Cost: 9e9, Version: "tenant-2"}); a.Amounts[0] != 3.75e9 {
		t.Errorf("a re-rating that came just after somebody put the charge right makes it %d", a.Amounts[0])
	}
	must(t, in, byHand(three, -2e9, "after the re-rating"))
	agree(t, d, in, tenant, 3.75e9+3e9)

	// A correction of a budget alone is in its total, and of no action.
	must(t, in, (&ledger.Move{Tenant: tenant, Key: "alone", Kind: ledger.ByHand, Account: "b", Cost: -1e9, Reason: "granted", Actor: "user:ada"}).Seal())
	if spent, _ := counters(t, d, tenant, "b"); spent != 5.75e9 || spentNano(t, in, tenant) != 6.75e9 {
		t.Errorf("the budget says %d, the summary %d", spent, spentNano(t, in, tenant))
	}
	balanced(t, d)
}

// Corrections by hand, re-ratings and charges of the same rows, in two instances
// and in one batch: each is in the summaries once.
func TestCorrectionsRaceChargesAndStayInTheSummaries(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	tenant := dbtest.Tenant(t, d)
	publishBundle(t, d, tenant, &configv1.BudgetBundle{Budgets: []*costv1.Budget{dollars("b", 1000)}, Prices: []*configv1.Price{own("m", 1, 1, 1)}})
	at := []*instance{start(t, d, lane.Options{MaxBatch: 8}), start(t, d, lane.Options{})}
	const n = 20
	refs := make([]ledger.Ref, n)
	for i := range refs {
		refs[i] = called(t, at[0], tenant, "m", "red", 1_000_000, 0)
	}
	var wg sync.WaitGroup
	for i, ref := range refs {
		for _, in := range at {
			wg.Go(func() { must(t, in, byHand(ref, 1e9, fmt.Sprint("k", i))) }) // both the same
		}
		wg.Go(func() { must(t, at[i%2], byHand(ref, -0.5e9, fmt.Sprint("l", i))) })
		wg.Go(func() { called(t, at[i%2], tenant, "m", "red", 1_000_000, 0) })
	}
	wg.Go(func() {
		if _, err := rerate.New(at[1].store, at[1]).Apply(t.Context(), day(tenant, "same prices")); err != nil {
			t.Error(err)
		}
	})
	wg.Wait()
	agree(t, d, at[0], tenant, n*1.5e9+n*1e9)
	if n := dbtest.Count(t, d, `select deadlocks from pg_stat_database where datname = current_database()`); n != 0 {
		t.Errorf("%d deadlocks", n)
	}
}

// A correction that takes a budget and its wallet back over their lines, by other
// prices or by hand, makes reaching them again a crossing of its own; one that
// does not, does not.
func TestACorrectionBackOverALineArmsItAgain(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	tenant := dbtest.Tenant(t, d)
	prices := []*configv1.Price{own("m", 1, 10, 1)}
	configure := func(more ...*configv1.Price) {
		prices = append(prices, more...)
		publishBundle(t, d, tenant, &configv1.BudgetBundle{
			Budgets: []*costv1.Budget{drawn("b", 10)}, Prices: prices,
			Wallets: []*walletv1.Wallet{{WalletId: walletID, Name: "acme", LowBalanceNano: []int64{2e9}}},
		})
	}
	configure()
	in := start(t, d, lane.Options{})
	must(t, in, topUp(tenant, 10e9, "one"))
	told := func(when string, warned, low int64) {
		t.Helper()
		for kind, want := range map[string]int64{"budget_warning": warned, "wallet_low": low} {
			if n := dbtest.Count(t, d, `select count(*) from fulcrum.outbox where type = $1`, kind); n != want {
				t.Errorf("%s: %d times %s, want %d", when, n, kind, want)
			}
		}
		balanced(t, d)
	}
	rerated := func(key string) {
		t.Helper()
		if done, err := rerate.New(in.store, in).Apply(t.Context(), day(tenant, key)); err != nil || done.Total.Charges == 0 {
			t.Fatalf("%+v, %v", done, err)
		}
	}
	ref := called(t, in, tenant, "m", "red", 800_000, 0) // 8 of 10 dollars
	told("at the line", 1, 1)
	configure(own("m", 2, 11, 1)) // 8.80
	rerated("dearer")
	told("beyond it already", 1, 1)
	configure(own("m", 3, 5, 1)) // 4
	rerated("cheaper")
	told("back", 1, 1)
	called(t, in, tenant, "m", "red", 800_000, 0) // 8 again
	told("reached again", 2, 2)
	must(t, in, byHand(ref, 0.5e9, "up"))
	must(t, in, byHand(ref, -0.5e9, "down"))
	told("never back", 2, 2)
	must(t, in, byHand(ref, -1, "a hair back"))
	must(t, in, byHand(ref, 1, "and over"))
	told("by hand", 3, 3)
	// What ends without a charge moves no line.
	r := (&ledger.Reserve{Ref: ledger.Ref{Tenant: tenant, ID: uuid.New()}, Subject: catalog.Subject{}, TTL: time.Minute, Amounts: nano(1e9)}).Seal()
	must(t, in, r)
	must(t, in, &ledger.Release{Ref: r.Ref, Key: "r"})
	told("a hold given back", 3, 3)
}
