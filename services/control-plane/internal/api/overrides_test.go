package api_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fulcrum-io/fulcrum/db/dbtest"
	"github.com/fulcrum-io/fulcrum/pkg/fault"
	costv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/cost/v1"
)

func raise(budget string, usd float64) *costv1.CreateBudgetOverrideRequest {
	return &costv1.CreateBudgetOverrideRequest{
		BudgetId: budget, Limits: &costv1.BudgetLimits{MaxCostUsd: usd}, Duration: durationpb.New(time.Hour), Reason: "a launch",
	}
}

// An override is made once for each key, published with its budget, listed,
// and revoked once; each change is on the record with its author and reason.
func TestAnOverrideIsMadePublishedAndRevoked(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	m := b.createBudget(b.all(), daily("m", 5))
	once := func() context.Context { return metadata.AppendToOutgoingContext(b.all(), "idempotency-key", "raise") }
	resp, err := b.cost.CreateBudgetOverride(once(), raise(m.GetBudgetId(), 50))
	if err != nil {
		t.Fatal(err)
	}
	o := resp.GetOverride()
	if o.GetLimits().GetMaxCostUsd() != 50 || o.GetReason() != "a launch" || o.GetCreatedBy() == "" ||
		o.GetEndsAt().AsTime().Sub(o.GetStartsAt().AsTime()) != time.Hour {
		t.Errorf("%v", o)
	}
	again, err := b.cost.CreateBudgetOverride(once(), raise(m.GetBudgetId(), 50))
	if err != nil || !cmp.Equal(again.GetOverride(), o, protocmp.Transform()) {
		t.Errorf("the same key again: %v, %v", again, err)
	}
	_, err = b.cost.CreateBudgetOverride(once(), raise(m.GetBudgetId(), 60))
	wantKind(t, "the same key for another", err, fault.Conflict, "IDEMPOTENCY_KEY_REUSED")

	suspend := raise(m.GetBudgetId(), 0)
	suspend.Limits, suspend.Suspended = nil, new(bool)
	*suspend.Suspended = true
	suspend.StartsAt, suspend.EndsAt, suspend.Duration = timestamppb.New(time.Now().Add(time.Hour)), timestamppb.New(time.Now().Add(2*time.Hour)), nil
	later, err := b.cost.CreateBudgetOverride(b.all(), suspend)
	if err != nil {
		t.Fatal(err)
	}
	published := func() []*costv1.BudgetOverride { return b.budgetBundle(b.tenantA).GetBudgets()[0].GetOverrides() }
	if got := published(); len(got) != 2 || !cmp.Equal(got[0], o, protocmp.Transform()) || !got[1].GetSuspended() {
		t.Errorf("published %v", got)
	}
	shown, err := b.cost.GetBudget(b.all(), &costv1.GetBudgetRequest{BudgetId: m.GetBudgetId()})
	if err != nil || len(shown.GetBudget().GetOverrides()) != 2 || shown.GetBudget().GetLimits().GetMaxCostUsd() != 5 {
		t.Errorf("the budget: %v, %v", shown, err)
	}

	revoke := &costv1.RevokeBudgetOverrideRequest{BudgetId: m.GetBudgetId(), OverrideId: o.GetOverrideId(), Reason: "over already"}
	gone, err := b.cost.RevokeBudgetOverride(b.all(), revoke)
	if err != nil || gone.GetOverride().GetRevokedAt() == nil || gone.GetOverride().GetRevokeReason() != "over already" {
		t.Fatalf("revoked: %v, %v", gone, err)
	}
	twice, err := b.cost.RevokeBudgetOverride(b.all(), revoke)
	if err != nil || !cmp.Equal(twice, gone, protocmp.Transform()) {
		t.Errorf("revoked again: %v, %v", twice, err)
	}
	if got := published(); len(got) != 1 || got[0].GetOverrideId() != later.GetOverride().GetOverrideId() {
		t.Errorf("published after that %v", got)
	}
	list := func(ended bool) (ids []string) {
		t.Helper()
		token := ""
		for {
			resp, err := b.cost.ListBudgetOverrides(b.all(), &costv1.ListBudgetOverridesRequest{
				BudgetId: m.GetBudgetId(), IncludeEnded: ended, PageSize: 1, PageToken: token,
			})
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range resp.GetOverrides() {
				ids = append(ids, o.GetOverrideId())
			}
			if token = resp.GetNextPageToken(); token == "" {
				return ids
			}
		}
	}
	if got := list(true); !cmp.Equal(got, []string{later.GetOverride().GetOverrideId(), o.GetOverrideId()}) {
		t.Errorf("all: %v", got)
	}
	if got := list(false); !cmp.Equal(got, []string{later.GetOverride().GetOverrideId()}) {
		t.Errorf("live: %v", got)
	}
	for kind, want := range map[string]int64{"budget_override_created": 2, "budget_override_revoked": 1} {
		if n := dbtest.Count(t, b.Database, `select count(*) from fulcrum.outbox where type = '`+kind+`'`); n != want {
			t.Errorf("%d events %s, want %d", n, kind, want)
		}
	}
}

// What is wrong with an override is named, and nothing is stored or published.
func TestABadOverrideIsRefused(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	m := b.createBudget(b.all(), daily("m", 5))
	for _, tt := range []struct {
		name string
		edit func(*costv1.CreateBudgetOverrideRequest)
		kind fault.Kind
	}{
		{"no budget", func(r *costv1.CreateBudgetOverrideRequest) { r.BudgetId = "" }, fault.Invalid},
		{"an unknown budget", func(r *costv1.CreateBudgetOverrideRequest) { r.BudgetId = uuid.NewString() }, fault.NotFound},
		{"no change", func(r *costv1.CreateBudgetOverrideRequest) { r.Limits = nil }, fault.Invalid},
		{"a negative limit", func(r *costv1.CreateBudgetOverrideRequest) { r.Limits.MaxTokens = -1 }, fault.Invalid},
		{"no end", func(r *costv1.CreateBudgetOverrideRequest) { r.Duration = nil }, fault.Invalid},
		{"two ends", func(r *costv1.CreateBudgetOverrideRequest) { r.EndsAt = timestamppb.New(time.Now().Add(time.Hour)) }, fault.Invalid},
		{"an end in the past", func(r *costv1.CreateBudgetOverrideRequest) {
			r.Duration, r.EndsAt = nil, timestamppb.New(time.Now().Add(-time.Hour))
		}, fault.Invalid},
		{"over by now", func(r *costv1.CreateBudgetOverrideRequest) {
			r.StartsAt = timestamppb.New(time.Now().Add(-2 * time.Hour))
		}, fault.Invalid},
		{"an end before its start", func(r *costv1.CreateBudgetOverrideRequest) {
			r.Duration, r.StartsAt, r.EndsAt = nil, timestamppb.New(time.Now().Add(2*time.Hour)), timestamppb.New(time.Now().Add(time.Hour))
		}, fault.Invalid},
		{"no reason", func(r *costv1.CreateBudgetOverrideRequest) { r.Reason = "" }, fault.Invalid},
	} {
		r := raise(m.GetBudgetId(), 50)
		tt.edit(r)
		_, err := b.cost.CreateBudgetOverride(b.all(), r)
		wantKind(t, tt.name, err, tt.kind, "")
	}
	for range 20 {
		if _, err := b.cost.CreateBudgetOverride(b.all(), raise(m.GetBudgetId(), 50)); err != nil {
			t.Fatal(err)
		}
	}
	_, err := b.cost.CreateBudgetOverride(b.all(), raise(m.GetBudgetId(), 50))
	wantKind(t, "one too many", err, fault.Exhausted, "TOO_MANY_OVERRIDES")
	if n := dbtest.Count(t, b.Database, `select count(*) from fulcrum.budget_overrides`); n != 20 {
		t.Errorf("%d stored, want 20", n)
	}
	dbtest.Admin(t, b.Database, `update fulcrum.budget_overrides set starts_at = now() - interval '2 h', ends_at = now() - interval '1 h'`)
	all, err := b.cost.ListBudgetOverrides(b.all(), &costv1.ListBudgetOverridesRequest{BudgetId: m.GetBudgetId(), IncludeEnded: true})
	if err != nil {
		t.Fatal(err)
	}
	_, err = b.cost.RevokeBudgetOverride(b.all(), &costv1.RevokeBudgetOverrideRequest{BudgetId: m.GetBudgetId(), OverrideId: all.GetOverrides()[0].GetOverrideId()})
	wantKind(t, "revoking one that is over", err, fault.Precondition, "OVERRIDE_ENDED")
}
