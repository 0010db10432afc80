package api_test

import (
	"context"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	agentv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/agent/v1"
	configv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/config/v1"
	controlplanev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/controlplane/v1"
	costv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/cost/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	tenantv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/tenant/v1"
)

// Every refusal names the field, and leaves nothing behind.
func TestBadInputIsNamedByItsField(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	create := func(edit func(*policyv1.Policy)) error {
		p := draft("p")
		edit(p)
		return call(b.policy.CreatePolicy(b.all(), &policyv1.CreatePolicyRequest{Policy: p}))
	}
	spend := func(edit func(*costv1.Budget)) error {
		m := daily("m", 5)
		edit(m)
		return call(b.cost.CreateBudget(b.all(), &costv1.CreateBudgetRequest{Budget: m}))
	}
	key := func(edit func(*tenantv1.CreateApiKeyRequest)) error {
		r := &tenantv1.CreateApiKeyRequest{Name: "k", Scopes: []string{"cost:read"}}
		edit(r)
		return call(b.keys.CreateApiKey(b.all(), r))
	}
	settings := func(s *configv1.TenantSettings) error {
		return call(b.admin.UpdateTenantSettings(b.asAdmin(), &controlplanev1.UpdateTenantSettingsRequest{TenantId: b.tenantA.String(), Settings: s}))
	}
	now := time.Now()
	for _, tt := range []struct {
		name  string
		err   error
		field string
	}{
		{"policy of blanks", create(func(p *policyv1.Policy) { p.Name = "  " }), "policy.name"},
		{"policy with a long name", create(func(p *policyv1.Policy) { p.Name = strings.Repeat("x", 257) }), "policy.name"},
		{"rego beside rules, on update", call(b.policy.UpdatePolicy(b.all(), &policyv1.UpdatePolicyRequest{
			Policy: &policyv1.Policy{PolicyId: b.createPolicy(b.all(), draft("kept")).GetPolicyId(), Rego: "package x"},
		})), "policy.rego"},
		{"in force without rules", create(func(p *policyv1.Policy) { p.Rules, p.Status = nil, isActive }), "policy.rules"},
		{"born archived", create(func(p *policyv1.Policy) { p.Status = isArchived }), "policy.status"},
		{"two rules of one id", create(func(p *policyv1.Policy) {
			p.Rules = append(p.Rules, &policyv1.PolicyRule{RuleId: "a"}, &policyv1.PolicyRule{RuleId: "a"})
		}), "policy.rules[2].rule_id"},
		{"expiry before effect", create(func(p *policyv1.Policy) {
			p.EffectiveAt, p.ExpiresAt = timestamppb.New(now), timestamppb.New(now.Add(-time.Second))
		}), "policy.expires_at"},
		{"conditions in conditions", create(func(p *policyv1.Policy) {
			c := p.Rules[0].Conditions[0]
			for range 8 {
				c = &policyv1.PolicyCondition{ConditionType: policyv1.ConditionType_CONDITION_TYPE_LOGICAL, NestedConditions: []*policyv1.PolicyCondition{c}}
			}
			p.Rules[0].Conditions[0] = c
		}), "policy.rules[0].conditions[0]"},
		{"policy of a megabyte", create(func(p *policyv1.Policy) {
			for range 200 {
				p.Rules = append(p.Rules, &policyv1.PolicyRule{Description: strings.Repeat("x", 4000)})
			}
		}), "policy"},
		{"policy id that is none", call(b.policy.GetPolicy(b.all(), &policyv1.GetPolicyRequest{PolicyId: "x"})), "policy_id"},
		{"unknown field in mask", call(b.policy.UpdatePolicy(b.all(), &policyv1.UpdatePolicyRequest{
			Policy: &policyv1.Policy{PolicyId: b.createPolicy(b.all(), draft("kept")).GetPolicyId()}, UpdateMask: []string{"name", "nonsense"},
		})), "update_mask[1]"},

		{"no limits", spend(func(m *costv1.Budget) { m.Limits = nil }), "budget.limits"},
		{"all limits zero", spend(func(m *costv1.Budget) { m.Limits = &costv1.BudgetLimits{} }), "budget.limits"},
		{"negative tokens", spend(func(m *costv1.Budget) { m.Limits.MaxTokens = -1 }), "budget.limits.max_tokens"},
		{"negative money", spend(func(m *costv1.Budget) { m.Limits.MaxCostUsd = -0.01 }), "budget.limits.max_cost_usd"},
		{"not a number", spend(func(m *costv1.Budget) { m.Limits.MaxCostUsd = math.NaN() }), "budget.limits.max_cost_usd"},
		{"infinite money", spend(func(m *costv1.Budget) { m.Limits.MaxCostUsd = math.Inf(1) }), "budget.limits.max_cost_usd"},
		{"all the money", spend(func(m *costv1.Budget) { m.Limits.MaxCostUsd = 1e18 }), "budget.limits.max_cost_usd"},
		{"no period", spend(func(m *costv1.Budget) { m.Period = nil }), "budget.period.period_type"},
		{"unknown period", spend(func(m *costv1.Budget) { m.Period.PeriodType = 99 }), "budget.period.period_type"},
		{"custom without duration", call(b.cost.UpdateBudget(b.all(), &costv1.UpdateBudgetRequest{
			Budget: &costv1.Budget{
				BudgetId: b.createBudget(b.all(), daily("kept", 1)).GetBudgetId(),
				Period:   &costv1.BudgetPeriod{PeriodType: costv1.BudgetPeriodType_BUDGET_PERIOD_TYPE_CUSTOM, DurationSeconds: 10},
			}, UpdateMask: []string{"period.period_type"},
		})), "budget.period.duration_seconds"},
		{"period that ends first", spend(func(m *costv1.Budget) {
			m.Period.PeriodStart, m.Period.PeriodEnd = timestamppb.New(now), timestamppb.New(now)
		}), "budget.period.period_end"},
		{"threshold over 100", spend(func(m *costv1.Budget) {
			m.Thresholds = []*costv1.NotificationThreshold{{ThresholdPercent: 50}, {ThresholdPercent: 101}}
		}), "budget.thresholds[1].threshold_percent"},
		{"threshold twice", spend(func(m *costv1.Budget) {
			m.Thresholds = []*costv1.NotificationThreshold{{ThresholdPercent: 50}, {ThresholdPercent: 50}}
		}), "budget.thresholds[1].threshold_percent"},
		{"no such zone", spend(func(m *costv1.Budget) { m.TimeZone = "Europe/Atlantis" }), "budget.time_zone"},
		{"the machine's zone", spend(func(m *costv1.Budget) { m.TimeZone = "Local" }), "budget.time_zone"},
		{"a zone that is a file", spend(func(m *costv1.Budget) { m.TimeZone = "../../etc/passwd" }), "budget.time_zone"},
		{"two workflows", spend(func(m *costv1.Budget) {
			m.WorkflowId, m.Scope = "a", &costv1.BudgetScope{WorkflowId: "b"}
		}), "budget.scope.workflow_id"},
		{"a whole key as scope", spend(func(m *costv1.Budget) { m.Scope = &costv1.BudgetScope{ApiKeyId: "flcrm_sk_x"} }), "budget.scope.api_key_id"},
		{"status that follows", call(b.cost.UpdateBudget(b.all(), &costv1.UpdateBudgetRequest{
			Budget: &costv1.Budget{
				BudgetId: b.createBudget(b.all(), daily("kept", 1)).GetBudgetId(),
				Status:   costv1.BudgetStatusType_BUDGET_STATUS_TYPE_EXCEEDED,
			}, UpdateMask: []string{"status"},
		})), "budget.status"},

		{"key without scopes", key(func(r *tenantv1.CreateApiKeyRequest) { r.Scopes = nil }), "scopes"},
		{"unknown scope", key(func(r *tenantv1.CreateApiKeyRequest) { r.Scopes = []string{"cost:read", "root"} }), "scopes[1]"},
		{"key without a name", key(func(r *tenantv1.CreateApiKeyRequest) { r.Name = " " }), "name"},
		{"key that ended", key(func(r *tenantv1.CreateApiKeyRequest) { r.ExpiresInSeconds = -1 }), "expires_in_seconds"},

		{"agent of blanks", call(b.agents.CreateAgent(b.all(), &agentv1.CreateAgentRequest{Name: " "})), "name"},
		{"agent with a large config", call(b.agents.CreateAgent(b.all(), &agentv1.CreateAgentRequest{
			Name: "a", Config: &structpb.Struct{Fields: map[string]*structpb.Value{"k": structpb.NewStringValue(strings.Repeat("x", 70000))}},
		})), "config"},
		{"config that is no JSON", call(b.agents.CreateAgent(b.all(), &agentv1.CreateAgentRequest{
			Name: "a", Config: &structpb.Struct{Fields: map[string]*structpb.Value{"k": structpb.NewNumberValue(math.NaN())}},
		})), "config"},
		{"agent deleted by update", call(b.agents.UpdateAgent(b.all(), &agentv1.UpdateAgentRequest{
			Id: b.createAgent(b.all(), "kept").GetId(), Status: "deleted",
		})), "status"},

		{"settings with no such zone", settings(&configv1.TenantSettings{TimeZone: "Mars/Olympus"}), "settings.time_zone"},
		{"settings with no such decision", settings(&configv1.TenantSettings{DefaultDecision: 77}), "settings.default_decision"},
		{"tenant without a name", call(b.admin.CreateTenant(b.asAdmin(), &controlplanev1.CreateTenantRequest{Name: " "})), "name"},
	} {
		wantKind(t, tt.name, tt.err, fault.Invalid, "")
		if got := fields(tt.err); !slices.Contains(got, tt.field) {
			t.Errorf("%s names %v, want %s", tt.name, got, tt.field)
		}
	}
	for table, want := range map[string]string{"policies": "kept", "budgets": "kept", "agents": "kept"} {
		sql := `select count(*) from fulcrum.` + table + ` where name <> $1`
		if table == "policies" {
			sql = `select count(*) from fulcrum.policy_versions where name <> $1`
		}
		var n int
		if b.query(sql, []any{want}, &n); n != 0 {
			t.Errorf("%d bad rows in %s", n, table)
		}
	}
}

func TestPageTokensBelongToTheirList(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for range 3 {
		b.createPolicy(b.all(), draft("p"))
		b.createBudget(b.all(), daily("m", 1))
	}
	first, err := b.policy.ListPolicies(b.all(), &policyv1.ListPoliciesRequest{PageSize: 2})
	if err != nil || first.GetNextPageToken() == "" {
		t.Fatalf("first page: %v %v", first, err)
	}
	token := first.GetNextPageToken()
	other := as(t.Context(), uuid.Must(uuid.NewV7()), "*")
	for name, err := range map[string]error{
		"another filter": call(b.policy.ListPolicies(b.all(), &policyv1.ListPoliciesRequest{PageToken: token, Status: isDraft})),
		"another tenant": call(b.policy.ListPolicies(other, &policyv1.ListPoliciesRequest{PageToken: token})),
		"another list":   call(b.cost.ListBudgets(b.all(), &costv1.ListBudgetsRequest{PageToken: token})),
		"nonsense":       call(b.policy.ListPolicies(b.all(), &policyv1.ListPoliciesRequest{PageToken: "nonsense"})),
		"cut":            call(b.policy.ListPolicies(b.all(), &policyv1.ListPoliciesRequest{PageToken: token[:len(token)-4]})),
	} {
		wantKind(t, name, err, fault.Invalid, "")
		if got := fields(err); !slices.Equal(got, []string{"page_token"}) {
			t.Errorf("%s names %v", name, got)
		}
	}
	if _, err := b.policy.ListPolicies(b.all(), &policyv1.ListPoliciesRequest{PageToken: token, PageSize: 1}); err != nil {
		t.Errorf("another page size: %v", err)
	}
}

// While others create, a reader of pages sees everything that was there when it
// began, once.
func TestPagesAreStableUnderInserts(t *testing.T) {
	t.Parallel()
	const there = 23
	b := newBench(t)
	for _, tt := range []struct {
		name   string
		create func(ctx context.Context, i int) string
		page   func(token string) ([]string, string, error)
	}{
		{"policies", func(ctx context.Context, i int) string {
			p := draft("p")
			p.Priority = int32(i % 4)
			return b.createPolicy(ctx, p).GetPolicyId()
		}, func(token string) (ids []string, next string, err error) {
			r, err := b.policy.ListPolicies(b.all(), &policyv1.ListPoliciesRequest{PageSize: 5, PageToken: token})
			for _, p := range r.GetPolicies() {
				ids = append(ids, p.GetPolicyId())
			}
			return ids, r.GetNextPageToken(), err
		}},
		{"budgets", func(ctx context.Context, i int) string {
			return b.createBudget(ctx, daily("m", 1)).GetBudgetId()
		}, func(token string) (ids []string, next string, err error) {
			r, err := b.cost.ListBudgets(b.all(), &costv1.ListBudgetsRequest{PageSize: 5, PageToken: token})
			for _, m := range r.GetBudgets() {
				ids = append(ids, m.GetBudgetId())
			}
			return ids, r.GetNextPageToken(), err
		}},
		{"keys", func(ctx context.Context, i int) string {
			return b.createKey(ctx, "cost:read").GetKey().GetId()
		}, func(token string) (ids []string, next string, err error) {
			r, err := b.keys.ListApiKeys(b.all(), &tenantv1.ListApiKeysRequest{PageSize: 5, PageToken: token})
			for _, k := range r.GetKeys() {
				ids = append(ids, k.GetId())
			}
			return ids, r.GetNextPageToken(), err
		}},
		{"agents", func(ctx context.Context, i int) string {
			return b.createAgent(ctx, "a").GetId()
		}, func(token string) (ids []string, next string, err error) {
			r, err := b.agents.ListAgents(b.all(), &agentv1.ListAgentsRequest{PageSize: 5, PageToken: token})
			for _, a := range r.GetAgents() {
				ids = append(ids, a.GetId())
			}
			return ids, r.GetNextPageToken(), err
		}},
	} {
		want := map[string]bool{}
		for i := range there {
			want[tt.create(b.all(), i)] = true
		}
		seen := map[string]int{}
		token := ""
		for pages := 0; ; pages++ {
			ids, next, err := tt.page(token)
			if err != nil {
				t.Fatal(err)
			}
			for _, id := range ids {
				seen[id]++
			}
			if next == "" {
				break
			}
			if pages > 20 {
				t.Fatalf("%s: no end after %d pages", tt.name, pages)
			}
			if pages < 6 {
				tt.create(b.all(), pages)
			}
			token = next
		}
		for id := range want {
			if seen[id] != 1 {
				t.Errorf("%s: an entry was seen %d times", tt.name, seen[id])
			}
		}
		for id, n := range seen {
			if n > 1 {
				t.Errorf("%s: %s was seen %d times", tt.name, id, n)
			}
		}
	}
}
