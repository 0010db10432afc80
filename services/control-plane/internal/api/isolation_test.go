package api_test

import (
	"context"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/db/dbtest"
	"github.com/fulcrum-io/fulcrum/pkg/apikey"
	"github.com/fulcrum-io/fulcrum/pkg/fault"
	agentv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/agent/v1"
	configv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/config/v1"
	controlplanev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/controlplane/v1"
	costv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/cost/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	tenantv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/tenant/v1"
)

// Another tenant's entry and one that never was are told apart by nothing:
// everything that takes an id is called as another tenant, with both.
func TestAnotherTenantsEntryIsLikeNone(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	p, m := b.createPolicy(b.all(), active("mine")), b.createBudget(b.all(), daily("mine", 5))
	a, k := b.createAgent(b.all(), "mine"), b.createKey(b.all(), "policy:read")
	o, err := b.cost.CreateBudgetOverride(b.all(), raise(m.GetBudgetId(), 50))
	if err != nil {
		t.Fatal(err)
	}
	random := uuid.Must(uuid.NewV7()).String()
	ctx := as(t.Context(), dbtest.Tenant(t, b.Database), "*")

	for _, tt := range []struct {
		name        string
		theirs, not string
		call        func(ctx context.Context, id string) error
	}{
		{"GetPolicy", p.GetPolicyId(), random, func(ctx context.Context, id string) error {
			_, err := b.policy.GetPolicy(ctx, &policyv1.GetPolicyRequest{PolicyId: id})
			return err
		}},
		{"UpdatePolicy", p.GetPolicyId(), random, func(ctx context.Context, id string) error {
			_, err := b.policy.UpdatePolicy(ctx, &policyv1.UpdatePolicyRequest{Policy: &policyv1.Policy{PolicyId: id, Name: "yours", Etag: p.GetEtag()}})
			return err
		}},
		{"DeletePolicy", p.GetPolicyId(), random, func(ctx context.Context, id string) error {
			_, err := b.policy.DeletePolicy(ctx, &policyv1.DeletePolicyRequest{PolicyId: id})
			return err
		}},
		{"GetBudget", m.GetBudgetId(), random, func(ctx context.Context, id string) error {
			_, err := b.cost.GetBudget(ctx, &costv1.GetBudgetRequest{BudgetId: id})
			return err
		}},
		{"UpdateBudget", m.GetBudgetId(), random, func(ctx context.Context, id string) error {
			_, err := b.cost.UpdateBudget(ctx, &costv1.UpdateBudgetRequest{Budget: &costv1.Budget{BudgetId: id, Name: "yours"}})
			return err
		}},
		{"DeleteBudget", m.GetBudgetId(), random, func(ctx context.Context, id string) error {
			_, err := b.cost.DeleteBudget(ctx, &costv1.DeleteBudgetRequest{BudgetId: id})
			return err
		}},
		{"CreateBudgetOverride", m.GetBudgetId(), random, func(ctx context.Context, id string) error {
			_, err := b.cost.CreateBudgetOverride(ctx, raise(id, 50))
			return err
		}},
		{"ListBudgetOverrides", m.GetBudgetId(), random, func(ctx context.Context, id string) error {
			_, err := b.cost.ListBudgetOverrides(ctx, &costv1.ListBudgetOverridesRequest{BudgetId: id})
			return err
		}},
		{"RevokeBudgetOverride", o.GetOverride().GetOverrideId(), random, func(ctx context.Context, id string) error {
			_, err := b.cost.RevokeBudgetOverride(ctx, &costv1.RevokeBudgetOverrideRequest{BudgetId: m.GetBudgetId(), OverrideId: id})
			return err
		}},
		{"GetAgent", a.GetId(), random, func(ctx context.Context, id string) error {
			_, err := b.agents.GetAgent(ctx, &agentv1.GetAgentRequest{Id: id})
			return err
		}},
		{"UpdateAgent", a.GetId(), random, func(ctx context.Context, id string) error {
			_, err := b.agents.UpdateAgent(ctx, &agentv1.UpdateAgentRequest{Id: id, Name: "yours"})
			return err
		}},
		{"DeleteAgent", a.GetId(), random, func(ctx context.Context, id string) error {
			_, err := b.agents.DeleteAgent(ctx, &agentv1.DeleteAgentRequest{Id: id})
			return err
		}},
		{"RevokeApiKey", k.GetKey().GetId(), apikey.Generate().ID, func(ctx context.Context, id string) error {
			_, err := b.keys.RevokeApiKey(ctx, &tenantv1.RevokeApiKeyRequest{KeyId: id})
			return err
		}},
		{"UpdateTenantSettings", b.tenantA.String(), random, func(ctx context.Context, id string) error {
			_, err := b.admin.UpdateTenantSettings(ctx, &controlplanev1.UpdateTenantSettingsRequest{TenantId: id, Settings: &configv1.TenantSettings{FailOpen: true}})
			return err
		}},
	} {
		theirs, none := tt.call(ctx, tt.theirs), tt.call(ctx, tt.not)
		wantKind(t, tt.name+" of another tenant's", theirs, fault.NotFound, "")
		if got, want := strings.ReplaceAll(describe(theirs), tt.theirs, "ID"), strings.ReplaceAll(describe(none), tt.not, "ID"); got != want {
			t.Errorf("%s tells them apart:\n%s\n%s", tt.name, got, want)
		}
	}
	if got := b.policyBundle(b.tenantA).GetPolicies(); len(got) != 1 || got[0].GetName() != "mine" {
		t.Errorf("the tenant's policies are now %v", got)
	}
	if got := b.budgetBundle(b.tenantA).GetBudgets(); len(got) != 1 || got[0].GetName() != "mine" {
		t.Errorf("the tenant's budgets are now %v", got)
	}
}

func TestListsShowOneTenant(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.createPolicy(b.all(), active("mine"))
	b.createBudget(b.all(), daily("mine", 5))
	b.createAgent(b.all(), "mine")
	b.createKey(b.all(), "policy:read")
	ctx := as(t.Context(), dbtest.Tenant(t, b.Database), "*")

	policies, err := b.policy.ListPolicies(ctx, &policyv1.ListPoliciesRequest{TenantId: b.tenantA.String()})
	if err != nil || len(policies.GetPolicies()) != 0 || policies.GetTotalCount() != 0 {
		t.Errorf("policies: %v %v", policies, err)
	}
	budgets, err := b.cost.ListBudgets(ctx, &costv1.ListBudgetsRequest{TenantId: b.tenantA.String()})
	if err != nil || len(budgets.GetBudgets()) != 0 || budgets.GetTotalCount() != 0 {
		t.Errorf("budgets: %v %v", budgets, err)
	}
	agents, err := b.agents.ListAgents(ctx, &agentv1.ListAgentsRequest{})
	if err != nil || len(agents.GetAgents()) != 0 || agents.GetTotalCount() != 0 {
		t.Errorf("agents: %v %v", agents, err)
	}
	keys, err := b.keys.ListApiKeys(ctx, &tenantv1.ListApiKeysRequest{})
	if err != nil || len(keys.GetKeys()) != 0 {
		t.Errorf("keys: %v %v", keys, err)
	}
}
