package app_test

import (
	"testing"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/db/dbtest"
	"github.com/fulcrum-io/fulcrum/pkg/fault"
	budgetv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/budget/v1"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/balance"
)

func TestASliceThroughTheDoor(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	tenant, other := dbtest.Tenant(t, d), dbtest.Tenant(t, d)
	client := start(t, d)
	ctx := as(t.Context(), tenant)
	parent := &budgetv1.EnvelopeLimits{EnvelopeId: uuid.NewString(), MaxCostNano: 100}
	child := &budgetv1.EnvelopeLimits{EnvelopeId: uuid.NewString(), MaxCostNano: 60, Slice: true}
	for name, limits := range map[string][]*budgetv1.EnvelopeLimits{
		"nothing":           nil,
		"no slice":          {{EnvelopeId: uuid.NewString(), MaxCostNano: 60}, parent},
		"a slice of naught": {{EnvelopeId: uuid.NewString(), Slice: true}, parent},
		"another unit":      {{EnvelopeId: uuid.NewString(), MaxTokens: 5, Slice: true}, parent},
		"no envelope":       {{EnvelopeId: "x", MaxCostNano: 60, Slice: true}, parent},
	} {
		if _, err := client.TakeSlice(ctx, &budgetv1.TakeSliceRequest{EnvelopeLimits: limits}); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := dbtest.Count(t, d, `select count(*) from fulcrum.envelope_slices`); n != 0 {
		t.Errorf("%d slices were taken", n)
	}
	take := func(l *budgetv1.EnvelopeLimits) *budgetv1.TakeSliceResponse {
		t.Helper()
		a, err := client.TakeSlice(ctx, &budgetv1.TakeSliceRequest{EnvelopeLimits: []*budgetv1.EnvelopeLimits{l, parent}})
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	if a := take(child); !a.GetGranted() || a.GetBudgets()[0].GetHeld() != 60e-9 {
		t.Errorf("%v", a)
	}
	if a := take(&budgetv1.EnvelopeLimits{EnvelopeId: uuid.NewString(), MaxCostNano: 41, Slice: true}); a.GetGranted() || a.GetReason() != "BUDGET_EXCEEDED" || a.GetRefusedBy().GetRemaining() != 40e-9 {
		t.Errorf("beyond what is left: %v", a)
	}
	r := asking(20)
	r.EnvelopeLimits = []*budgetv1.EnvelopeLimits{child, parent}
	if a, err := client.Reserve(ctx, r); err != nil || !a.GetGranted() || len(a.GetHold().GetBudgets()) != 1 {
		t.Fatalf("%v, %v", a, err)
	}
	usd := 15e-9
	if _, err := client.Settle(ctx, &budgetv1.SettleRequest{ReservationId: r.GetReservationId(), IdempotencyKey: "s", Usage: &governancev1.Usage{CostUsd: &usd}}); err != nil {
		t.Fatal(err)
	}
	give := &budgetv1.ReturnSliceRequest{EnvelopeId: child.GetEnvelopeId()}
	if a, err := client.ReturnSlice(as(t.Context(), other), give); err != nil || a.GetReturned().GetCostNano() != 0 {
		t.Errorf("another tenant's: %v, %v", a, err)
	}
	for range 2 {
		if a, err := client.ReturnSlice(ctx, give); err != nil || a.GetReturned().GetCostNano() != 45 {
			t.Errorf("%v, %v; want 45 back", a, err)
		}
	}
	ended := asking(1)
	ended.EnvelopeLimits = r.GetEnvelopeLimits()
	if a, err := client.Reserve(ctx, ended); err != nil || a.GetGranted() || a.GetReason() != "ENVELOPE_ENDED" || a.GetRetryable() {
		t.Errorf("a hold in an envelope that ended: %v, %v", a, err)
	}
	if _, err := client.ReturnSlice(t.Context(), give); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("without a caller: %v", err)
	}
	balance.Check(t, d.AdminURL)
}
