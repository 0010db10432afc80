package postgres_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fulcrum-io/fulcrum/db/dbtest"
	"github.com/fulcrum-io/fulcrum/pkg/fault"
	configv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/config/v1"
	costv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/cost/v1"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/amount"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/balance"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/catalog"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/lane"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/ledger"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/rerate"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/spend"
)

// own is a price of the tenant's that holds always, in dollars per million tokens.
func own(model string, revision, input, output int64) *configv1.Price {
	return &configv1.Price{
		Model: model, Version: fmt.Sprint("tenant-", revision), Revision: revision, EffectiveFrom: timestamppb.New(time.Unix(0, 0)),
		InputNanoPerMillion: input * 1e9, OutputNanoPerMillion: output * 1e9,
	}
}

// called holds and settles one call of a model.
func called(t testing.TB, in *instance, tenant uuid.UUID, model, team string, input, output int64) ledger.Ref {
	t.Helper()
	ref := ledger.Ref{Tenant: tenant, ID: uuid.New()}
	subject := catalog.Subject{Team: team, Model: model, EnvelopeID: "e-" + team}
	must(t, in, (&ledger.Reserve{Ref: ref, Subject: subject, Amounts: tokens(input, output), TTL: time.Minute}).Seal())
	must(t, in, (&ledger.Settle{Ref: ref, Key: "s", Usage: &ledger.Usage{Model: model, Input: input, Output: output}}).Seal())
	return ref
}

func tokens(input, output int64) (a [7]int64) {
	a[1], a[2], a[3], a[4] = input+output, input, output, 1
	return a
}

// day is a period around now.
func day(tenant uuid.UUID, key string) rerate.Request {
	now := time.Now()
	return rerate.Request{Tenant: tenant, From: now.Add(-24 * time.Hour), Until: now.Add(24 * time.Hour), By: "user:ada", Key: key}
}

func spentNano(t testing.TB, in *instance, tenant uuid.UUID) (total int64) {
	t.Helper()
	lines, err := in.store.Spend(t.Context(), spend.Query{Tenant: tenant, From: time.Now().Add(-48 * time.Hour), Until: time.Now().Add(48 * time.Hour), Zone: time.UTC})
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range lines {
		total += l.Amounts[0]
	}
	return total
}

func TestReratingCorrectsWhatWasChargedOnce(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	tenant, other := dbtest.Tenant(t, d), dbtest.Tenant(t, d)
	budgets := []*costv1.Budget{dollars("tenant", 10), {
		BudgetId: "red", Name: "red", Scope: &costv1.BudgetScope{Team: "red"}, Limits: &costv1.BudgetLimits{MaxCostUsd: 10},
		Period: &costv1.BudgetPeriod{PeriodType: costv1.BudgetPeriodType_BUDGET_PERIOD_TYPE_MONTHLY}}}
	bundle := func(prices ...*configv1.Price) *configv1.BudgetBundle {
		return &configv1.BudgetBundle{Budgets: budgets, Prices: prices}
	}
	first := own("m", 1, 1, 2)
	for _, id := range []uuid.UUID{tenant, other} {
		publishBundle(t, d, id, bundle(first, own("n", 1, 1, 1)))
	}
	in := start(t, d, lane.Options{})
	called(t, in, tenant, "m", "red", 1_000_000, 500_000) // 2 dollars
	called(t, in, tenant, "m", "blue", 1_000_000, 0)      // 1 dollar
	called(t, in, tenant, "n", "red", 1_000_000, 0)       // 1 dollar, which stays
	called(t, in, other, "m", "red", 1_000_000, 0)        // another tenant's
	stated := must(t, in, hold(tenant, 5_000_000).Seal()) // a cost that was stated
	_ = stated
	ref := ledger.Ref{Tenant: tenant, ID: uuid.New()} // a charge without a hold
	must(t, in, (&ledger.Settle{Ref: ref, Key: "d", Subject: &catalog.Subject{Model: "m", Team: "red"}, Usage: &ledger.Usage{Model: "m", Input: 1_000_000, Output: 0}}).Seal())

	// The prices were wrong: input costs twice, output half.
	publishBundle(t, d, tenant, bundle(first, own("m", 2, 2, 1), own("n", 1, 1, 1)))
	x := rerate.New(in.store, in)
	preview, err := x.Preview(t.Context(), day(tenant, ""))
	if err != nil {
		t.Fatal(err)
	}
	// 2 + 1 + 1 dollars become 2.5 + 2 + 2.
	if l := preview.Total; l.Charges != 3 || l.Old != 4e9 || l.New != 6_500_000_000 || preview.Unchanged != 1 || preview.ID != uuid.Nil {
		t.Fatalf("preview: %+v", preview)
	}
	if n := dbtest.Count(t, d, `select (select count(*) from fulcrum.charge_corrections) + (select count(*) from fulcrum.price_rerates)`); n != 0 {
		t.Errorf("the preview wrote %d rows", n)
	}

	done, err := x.Apply(t.Context(), day(tenant, "k"))
	if err != nil {
		t.Fatal(err)
	}
	if done.Total != preview.Total || done.ID == uuid.Nil || len(done.Models) != 1 || len(done.Budgets) != 2 {
		t.Fatalf("applied: %+v", done)
	}
	if red := done.Budgets[0]; red.Budget != "red" || red.Name != "red" || red.Charges != 2 || red.New-red.Old != 1_500_000_000 {
		t.Errorf("red: %+v", red)
	}
	if spent, _ := counters(t, d, tenant, "tenant"); spent != 7_500_000_000 {
		t.Errorf("the tenant's budget has %d spent", spent)
	}
	if got := spentNano(t, in, tenant); got != 7_500_000_000 {
		t.Errorf("the summary says %d", got)
	}
	if lines, err := in.store.EnvelopeCosts(t.Context(), tenant, "e-blue"); err != nil || lines[0].Amounts[0] != 2e9 {
		t.Errorf("the envelope's costs: %+v %v", lines, err)
	}
	if got := spentNano(t, in, other); got != 1e9 {
		t.Errorf("another tenant's summary says %d", got)
	}
	if n := dbtest.Count(t, d, `select count(*) from fulcrum.ledger_transactions where kind = 'correction'`); n != 3 {
		t.Errorf("%d corrections in the ledger", n)
	}
	if n := dbtest.Count(t, d, `select count(*) from fulcrum.charge_corrections where price_version = 'tenant-2'`); n != 3 {
		t.Errorf("%d corrections name their price version", n)
	}
	for kind, want := range map[string]int64{"charges_rerated": 1, "cost_corrected": 3} {
		if n := dbtest.Count(t, d, fmt.Sprintf(`select count(*) from fulcrum.outbox where type = '%s'`, kind)); n != want {
			t.Errorf("%d events %s, want %d", n, kind, want)
		}
	}
	balanced(t, d)

	// Asked again, by the same key or another, nothing more changes.
	again, err := x.Apply(t.Context(), rerate.Request{Tenant: tenant, From: done.From, Until: done.Until, Key: "k", By: "x"})
	if err != nil || again.ID != done.ID || again.Total != done.Total {
		t.Errorf("by the same key: %+v %v", again, err)
	}
	another, err := x.Apply(t.Context(), day(tenant, "k2"))
	if err != nil || another.Total.Charges != 0 || another.Unchanged != 4 {
		t.Errorf("by another key: %+v %v", another, err)
	}
	if _, err := x.Apply(t.Context(), rerate.Request{Tenant: tenant, From: done.From.Add(time.Hour), Until: done.Until, Key: "k"}); !fault.HasReason(err, "IDEMPOTENCY_KEY_REUSED") {
		t.Errorf("the key for another period: %v", err)
	}
	stored, err := in.store.Rerate(t.Context(), tenant, done.ID)
	if err != nil || stored.Total != done.Total || stored.By != "user:ada" {
		t.Errorf("stored: %+v %v", stored, err)
	}
	if _, err := in.store.Rerate(t.Context(), other, done.ID); !fault.Is(err, fault.NotFound) {
		t.Errorf("another tenant reads the report: %v", err)
	}
	if all, err := in.store.Rerates(t.Context(), tenant, uuid.Max, 10); err != nil || len(all) != 2 || all[1].ID != done.ID {
		t.Errorf("the list: %+v %v", all, err)
	}

	// Back to the first list: every correction begins where the last one ended.
	back := day(tenant, "k3")
	back.Version = "tenant-1"
	undone, err := x.Apply(t.Context(), back)
	if err != nil || undone.Total.Old != 6_500_000_000 || undone.Total.New != 4e9 {
		t.Errorf("back: %+v %v", undone, err)
	}
	if spent, _ := counters(t, d, tenant, "tenant"); spent != 5e9 {
		t.Errorf("the tenant's budget has %d spent", spent)
	}
	balanced(t, d)
}

func TestACorrectionBeyondTheLimitIsRecordedAndAnnounced(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	tenant := dbtest.Tenant(t, d)
	first := own("m", 1, 1, 1)
	publishBundle(t, d, tenant, &configv1.BudgetBundle{Budgets: []*costv1.Budget{dollars("b", 2)}, Prices: []*configv1.Price{first}})
	in := start(t, d, lane.Options{})
	called(t, in, tenant, "m", "", 1_000_000, 0)
	publishBundle(t, d, tenant, &configv1.BudgetBundle{Budgets: []*costv1.Budget{dollars("b", 2)}, Prices: []*configv1.Price{first, own("m", 2, 3, 1)}})
	x := rerate.New(in.store, in)
	if _, err := x.Apply(t.Context(), day(tenant, "k")); err != nil {
		t.Fatal(err)
	}
	_, w, _, err := in.store.Status(t.Context(), tenant, "b")
	if err != nil || w.Spent[0] != 3e9 || w.Over[0] != 1e9 || w.Status() != ledger.Exceeded {
		t.Errorf("the window: %+v %v", w, err)
	}
	if n := dbtest.Count(t, d, `select sum(cost_nano) from fulcrum.budget_hours where budget_id = 'b'`); n != 3e9 {
		t.Errorf("the hours of the window add up to %d", n)
	}
	if n := dbtest.Count(t, d, `select count(*) from fulcrum.outbox where type = 'budget_exceeded'`); n != 1 {
		t.Errorf("announced %d times", n)
	}
	if a := must(t, in, hold(tenant, 1).Seal()); a.Granted {
		t.Error("a budget that is over grants a hold")
	}
	balanced(t, d)
}

// Interrupted anywhere, done by several at once, or beside other charges: each
// charge is corrected once.
func TestReratingTwiceAtOnceCorrectsOnce(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	tenant := dbtest.Tenant(t, d)
	first := own("m", 1, 1, 1)
	publishBundle(t, d, tenant, &configv1.BudgetBundle{Budgets: []*costv1.Budget{dollars("b", 1000)}, Prices: []*configv1.Price{first}})
	in, second := start(t, d, lane.Options{MaxBatch: 7}), start(t, d, lane.Options{})
	const n = 40
	for range n {
		called(t, in, tenant, "m", "red", 1_000_000, 0)
	}
	publishBundle(t, d, tenant, &configv1.BudgetBundle{Budgets: []*costv1.Budget{dollars("b", 1000)}, Prices: []*configv1.Price{first, own("m", 2, 2, 1)}})
	until := day(tenant, "")
	ask := func(key string) rerate.Request {
		r := until
		r.Key = key
		return r
	}
	cut, stop := context.WithCancel(t.Context())
	stop()
	if _, err := rerate.New(in.store, in).Apply(cut, ask("a")); err == nil {
		t.Error("a caller that gave up is told it is done")
	}
	var wg sync.WaitGroup
	for i, key := range []string{"a", "a", "b"} {
		wg.Go(func() {
			at := []*instance{in, second}[i%2]
			if _, err := rerate.New(at.store, at).Apply(t.Context(), ask(key)); err != nil {
				t.Errorf("%s: %v", key, err)
			}
		})
	}
	wg.Go(func() {
		for range 10 {
			called(t, second, tenant, "m", "red", 1_000_000, 0) // at the new price already
		}
	})
	wg.Wait()
	if spent, _ := counters(t, d, tenant, "b"); spent != (n+10)*2e9 {
		t.Errorf("%d spent, want %d", spent, int64((n+10)*2e9))
	}
	if got := dbtest.Count(t, d, `select count(*) from fulcrum.charge_corrections`); got != n {
		t.Errorf("%d corrections of %d charges", got, n)
	}
	balanced(t, d)
}

func TestAChargeIsPricedByWhatHeldWhenItWasHeld(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	tenant := dbtest.Tenant(t, d)
	later := own("m", 1, 9, 9)
	later.EffectiveFrom = timestamppb.New(time.Now().Add(time.Hour))
	fallback := own("*", 1, 7, 7)
	bundle := &configv1.BudgetBundle{Budgets: []*costv1.Budget{dollars("b", 100)}, Prices: []*configv1.Price{own("m", 1, 1, 1), later, fallback}}
	publishBundle(t, d, tenant, bundle)
	in := start(t, d, lane.Options{})
	ref := called(t, in, tenant, "m", "", 1_000_000, 0)
	called(t, in, tenant, "nobody-knows", "", 1_000_000, 0)
	stand, err := in.store.Reservation(t.Context(), ref)
	if err != nil || stand.End.Resolution.Charged[0] != 1e9 || stand.End.Resolution.PriceVersion != "tenant-1" || stand.Reservation.PriceVersion != "tenant-1" {
		t.Errorf("charged: %+v %v", stand.End.Resolution, err)
	}
	report, err := rerate.New(in.store, in).Preview(t.Context(), day(tenant, ""))
	if err != nil || report.Total.Charges != 0 || report.Unchanged != 2 {
		t.Errorf("a price of tomorrow changes today: %+v %v", report, err)
	}
	shipped := day(tenant, "")
	shipped.Version = "shipped"
	if report, err = rerate.New(in.store, in).Preview(t.Context(), shipped); err != nil || report.Unpriced != 2 {
		t.Errorf("without own prices: %+v %v", report, err)
	}
	shipped.Version = "tenant-9"
	if _, err = rerate.New(in.store, in).Preview(t.Context(), shipped); !fault.HasReason(err, "PRICE_VERSION_UNKNOWN") {
		t.Errorf("an unknown version: %v", err)
	}
}

// What correcting a thousand charges costs, and looking at them.
func BenchmarkRerate(b *testing.B) {
	const n = 1000
	d := dbtest.New(b)
	tenant := dbtest.Tenant(b, d)
	bundle := &configv1.BudgetBundle{Budgets: []*costv1.Budget{dollars("b", 1e6)}, Prices: []*configv1.Price{own("m", 1, 1, 1), own("m", 2, 2, 2)}}
	publishBundle(b, d, tenant, bundle)
	in := start(b, d, lane.Options{})
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			for range n / 50 {
				called(b, in, tenant, "m", "red", 1000, 1000)
			}
		})
	}
	wg.Wait()
	x := rerate.New(in.store, in)
	b.Run("preview", func(b *testing.B) {
		for b.Loop() {
			if _, err := x.Preview(b.Context(), day(tenant, "")); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("apply", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			r := day(tenant, uuid.NewString())
			r.Version = []string{"tenant-1", "tenant-2"}[i%2]
			if done, err := x.Apply(b.Context(), r); err != nil || done.Total.Charges != n {
				b.Fatalf("%+v %v", done.Total, err)
			}
		}
	})
}

// Charges and corrections of charges in one batch are done, each in a
// transaction that locks the rows of summaries in one order.
func TestCorrectionsOfABatchAreATransactionOfTheirOwn(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	tenant := dbtest.Tenant(t, d)
	in := start(t, d, lane.Options{})
	publish(t, d, tenant, dollars("b", 1000))
	charged, held := hold(tenant, 10), hold(tenant, 10)
	for _, op := range []ledger.Op{charged, held, settle(charged.Ref, 5)} {
		must(t, in, op)
	}
	results, err := in.store.Flush(t.Context(), []ledger.Op{
		&ledger.Correct{Ref: charged.Ref, Rerate: uuid.New(), Cost: 7, Version: "v"}, settle(held.Ref, 9),
		&ledger.Correct{Ref: ledger.Ref{Tenant: tenant, ID: uuid.New()}, Rerate: uuid.New(), Cost: 7, Version: "v"},
	})
	if err != nil || results[0].Err != nil || results[1].Err != nil || !fault.Is(results[2].Err, fault.NotFound) {
		t.Fatalf("%+v, %v", results, err)
	}
	if cost := results[0].Value.Amounts[amount.Cost]; cost != 7 {
		t.Errorf("corrected to %d, want 7", cost)
	}
	if n := dbtest.Count(t, d, `select count(*) from fulcrum.ledger_batches where kinds in ('{settle}', '{correction}') and occurred_at > (select min(occurred_at) from fulcrum.ledger_batches where 'settle' = any (kinds))`); n != 2 {
		t.Errorf("%d transactions, want one of the charge and one of the correction", n)
	}
	if n := dbtest.Count(t, d, `select cost_nano_spent from fulcrum.budget_windows`); n != 7+9 {
		t.Errorf("%d spent, want 16", n)
	}
	balance.Check(t, d.AdminURL)
}
