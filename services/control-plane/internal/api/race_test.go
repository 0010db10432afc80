package api_test

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/fulcrum-io/fulcrum/db/dbtest"
	"github.com/fulcrum-io/fulcrum/pkg/fault"
	busv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/bus/v1"
	costv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/cost/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
)

// Of many who change what they all have read, one wins, and all others are told.
func TestExactlyOneOfManyUpdatesWins(t *testing.T) {
	t.Parallel()
	const writers = 20
	b := newBench(t)
	p, m := b.createPolicy(b.all(), active("contested")), b.createBudget(b.all(), daily("contested", 5))
	for _, tt := range []struct {
		name   string
		update func(i int) error
	}{
		{"policy", func(i int) error {
			_, err := b.policy.UpdatePolicy(b.all(), &policyv1.UpdatePolicyRequest{
				Policy: &policyv1.Policy{PolicyId: p.GetPolicyId(), Etag: p.GetEtag(), Name: fmt.Sprint("writer ", i)},
			})
			return err
		}},
		{"budget", func(i int) error {
			_, err := b.cost.UpdateBudget(b.all(), &costv1.UpdateBudgetRequest{
				Budget: &costv1.Budget{BudgetId: m.GetBudgetId(), Etag: m.GetEtag(), Name: fmt.Sprint("writer ", i)},
			})
			return err
		}},
	} {
		var won atomic.Int32
		var g errgroup.Group
		for i := range writers {
			g.Go(func() error {
				err := tt.update(i)
				if err == nil {
					won.Add(1)
					return nil
				}
				if f, ok := fault.As(err); ok && f.Kind == fault.Conflict && f.Reason == "ETAG_MISMATCH" {
					return nil
				}
				return err
			})
		}
		if err := g.Wait(); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		if won.Load() != 1 {
			t.Errorf("%s: %d writers won", tt.name, won.Load())
		}
	}
	got, err := b.policy.GetPolicy(b.all(), &policyv1.GetPolicyRequest{PolicyId: p.GetPolicyId()})
	if err != nil || got.GetPolicy().GetVersion() != 2 {
		t.Errorf("version %d (%v), want 2", got.GetPolicy().GetVersion(), err)
	}
}

// Without an etag a patch applies to what is there, whoever else writes.
func TestPatchesOfDifferentFieldsAllArrive(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	m := b.createBudget(b.all(), daily("shared", 5))
	var g errgroup.Group
	for _, patch := range []*costv1.Budget{
		{Name: "renamed"},
		{Description: "described"},
		{Limits: &costv1.BudgetLimits{MaxTokens: 1000}},
		{Tags: map[string]string{"a": "b"}},
	} {
		patch.BudgetId = m.GetBudgetId()
		g.Go(func() error {
			_, err := b.cost.UpdateBudget(b.all(), &costv1.UpdateBudgetRequest{Budget: patch})
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	got := b.budgetBundle(b.tenantA).GetBudgets()[0]
	if got.GetName() != "renamed" || got.GetDescription() != "described" || got.GetLimits().GetMaxTokens() != 1000 ||
		got.GetLimits().GetMaxCostUsd() != 5 || got.GetTags()["a"] != "b" {
		t.Errorf("after all patches: %v", got)
	}
}

// Fifty changes at once: versions are counted without a gap, each is announced
// once, and the last bundle is exactly what is active.
func TestBundlesFollowEveryChange(t *testing.T) {
	t.Parallel()
	const changes = 50
	b := newBench(t)
	var mu sync.Mutex
	want := map[string]*policyv1.Policy{}
	var g errgroup.Group
	for i := range changes {
		g.Go(func() error {
			p := active(fmt.Sprint("policy ", i))
			if i%2 == 1 {
				p.Status = policyv1.PolicyStatus_POLICY_STATUS_DRAFT
			}
			resp, err := b.policy.CreatePolicy(b.all(), &policyv1.CreatePolicyRequest{Policy: p})
			if err != nil {
				return err
			}
			p = resp.GetPolicy()
			switch i % 5 {
			case 0: // active, then out of force
				updated, err := b.policy.UpdatePolicy(b.all(), &policyv1.UpdatePolicyRequest{
					Policy: &policyv1.Policy{PolicyId: p.GetPolicyId(), Status: policyv1.PolicyStatus_POLICY_STATUS_INACTIVE}, UpdateMask: []string{"status"},
				})
				if i%2 == 1 {
					wantKind(t, "a draft out of force", err, fault.Precondition, "POLICY_STATUS")
					return nil
				}
				p = updated.GetPolicy()
				if err != nil {
					return err
				}
			case 1:
				if _, err := b.policy.DeletePolicy(b.all(), &policyv1.DeletePolicyRequest{PolicyId: p.GetPolicyId()}); err != nil {
					return err
				}
				return nil
			}
			mu.Lock()
			defer mu.Unlock()
			if p.GetStatus() == isActive {
				want[p.GetPolicyId()] = p
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}

	bundle := b.policyBundle(b.tenantA)
	got := map[string]*policyv1.Policy{}
	for _, p := range bundle.GetPolicies() {
		got[p.GetPolicyId()] = p
	}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Errorf("bundle (-active +published):\n%s", diff)
	}
	var announced []int64
	facts := map[int64]int{}
	for _, e := range b.events(b.tenantA) {
		switch {
		case e.GetStream() == busv1.Stream_STREAM_CONFIG && e.GetType() == "policies":
			announced = append(announced, e.GetConfigVersion())
		case e.GetStream() == busv1.Stream_STREAM_EVENTS:
			facts[e.GetPolicyVersion()]++
		}
	}
	for i, v := range announced {
		if v != int64(i+1) {
			t.Fatalf("announced versions: %v", announced)
		}
	}
	if int64(len(announced)) != bundle.GetVersion() || len(facts) != len(announced) {
		t.Errorf("%d versions announced, %d recorded, the bundle has %d", len(announced), len(facts), bundle.GetVersion())
	}
	if n := slices.Max(slices.Collect(maps.Values(facts))); n != 1 {
		t.Errorf("%d changes claim one version", n)
	}
}

// A tenant that changes much must not keep another from changing a little: what
// waits for its turn holds no connection.
func TestABusyTenantLeavesRoomForOthers(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	other := as(t.Context(), dbtest.Tenant(t, b.Database), "*")
	var g errgroup.Group
	for i := range 100 {
		g.Go(func() error {
			_, err := b.cost.CreateBudget(b.all(), &costv1.CreateBudgetRequest{Budget: daily(fmt.Sprint(i), 1)})
			return err
		})
	}
	for range 10 {
		b.createBudget(other, daily("small", 1))
	}
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
	if got := b.budgetBundle(b.tenantA).GetVersion(); got != 100 {
		t.Errorf("version %d after 100 changes", got)
	}
}
