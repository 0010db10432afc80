package running

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"

	controlplanev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/controlplane/v1"
	costv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/cost/v1"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
)

// Tenant is one customer on a stack. Owner may do everything in it.
type Tenant struct {
	ID    string
	Owner *Client

	stack *Stack
}

// Tenant makes a tenant with an owner.
func (s *Stack) Tenant(t testing.TB, name string) *Tenant {
	t.Helper()
	resp, err := s.Client(t, s.AdminKey).Admin.CreateTenant(t.Context(), &controlplanev1.CreateTenantRequest{Name: name})
	if err != nil {
		t.Fatalf("create tenant %s: %v", name, err)
	}
	tn := &Tenant{ID: resp.GetTenant().GetTenantId(), stack: s}
	tn.Owner = tn.Issue(t, &controlplanev1.IssueApiKeyRequest{Name: "owner", Scopes: []string{"*"}, UserId: "owner of " + name})
	return tn
}

// Issue makes a key in the tenant and returns a client that shows it.
func (tn *Tenant) Issue(t testing.TB, req *controlplanev1.IssueApiKeyRequest) *Client {
	t.Helper()
	c, _ := tn.IssueKey(t, req)
	return c
}

// IssueKey is Issue, and tells the id by which the key is revoked.
func (tn *Tenant) IssueKey(t testing.TB, req *controlplanev1.IssueApiKeyRequest) (c *Client, id string) {
	t.Helper()
	req.TenantId = tn.ID
	resp, err := tn.stack.Client(t, tn.stack.AdminKey).Admin.IssueApiKey(t.Context(), req)
	if err != nil {
		t.Fatalf("issue key %q: %v", req.GetName(), err)
	}
	return tn.stack.Client(t, resp.GetKeySecret()), resp.GetKey().GetId()
}

// Agent makes a key of an agent that may act.
func (tn *Tenant) Agent(t testing.TB, name string) *Client {
	t.Helper()
	return tn.Issue(t, &controlplanev1.IssueApiKeyRequest{Name: name, AgentId: name, Team: "crew",
		Scopes: []string{"envelope:read", "envelope:write", "policy:read", "cost:read", "event:read", "event:write", "approval:read"}})
}

// Policy creates an active, blocking policy of one rule, for tool calls, and
// returns when it decides.
func (tn *Tenant) Policy(t testing.TB, name string, scope *policyv1.PolicyScope, rule *policyv1.PolicyRule) *policyv1.Policy {
	t.Helper()
	rule.Enabled = true
	resp, err := tn.Owner.Policies.CreatePolicy(t.Context(), &policyv1.CreatePolicyRequest{Policy: &policyv1.Policy{
		Name: name, Scope: scope, Rules: []*policyv1.PolicyRule{rule},
		Enforcement: policyv1.EnforcementLevel_ENFORCEMENT_LEVEL_BLOCK, Status: policyv1.PolicyStatus_POLICY_STATUS_ACTIVE,
	}})
	if err != nil {
		t.Fatalf("create policy %s: %v", name, err)
	}
	tool := "any"
	if names := scope.GetToolNames(); len(names) > 0 {
		tool = names[0]
	}
	Eventually(t, 10*time.Second, func(ctx context.Context) error {
		// A dry run leaves nothing behind.
		resp, err := tn.Owner.Governance.Authorize(ctx, DryRun(Tool(tool)))
		if err == nil && resp.GetDecision() == governancev1.Decision_DECISION_ALLOW {
			err = fmt.Errorf("policy %s does not act on %s yet", name, tool)
		}
		return err
	})
	return resp.GetPolicy()
}

// Deny makes the tools named forbidden.
func (tn *Tenant) Deny(t testing.TB, tools ...string) *policyv1.Policy {
	t.Helper()
	return tn.Policy(t, "no "+tools[0], &policyv1.PolicyScope{ToolNames: tools}, &policyv1.PolicyRule{
		RuleId: "deny", Name: tools[0] + " is forbidden",
		Actions: []*policyv1.PolicyAction{{ActionType: policyv1.ActionType_ACTION_TYPE_DENY, Message: "forbidden"}},
	})
}

// Budget creates a budget that refuses, and returns when it is enforced. Its
// scope must not be the model's: it is tried with a tool call.
func (tn *Tenant) Budget(t testing.TB, b *costv1.Budget) *costv1.Budget {
	t.Helper()
	if b.GetPeriod() == nil {
		b.Period = &costv1.BudgetPeriod{PeriodType: costv1.BudgetPeriodType_BUDGET_PERIOD_TYPE_INFINITE}
	}
	b.Mode = costv1.BudgetMode_BUDGET_MODE_HARD
	resp, err := tn.Owner.Costs.CreateBudget(t.Context(), &costv1.CreateBudgetRequest{Budget: b})
	if err != nil {
		t.Fatalf("create budget %s: %v", b.GetName(), err)
	}
	Eventually(t, 10*time.Second, func(ctx context.Context) error {
		req := DryRun(Tool("any"))
		req.GetInline().WorkflowId, req.GetInline().AgentId = b.GetScope().GetWorkflowId(), b.GetScope().GetAgentId()
		req.Estimate = &governancev1.Estimate{ToolCalls: 1_000_000, CostUsd: 1_000_000}
		resp, err := tn.Owner.Governance.Authorize(ctx, req)
		if err == nil && resp.GetRefusedBy() == nil {
			err = fmt.Errorf("budget %s does not refuse yet", b.GetName())
		}
		return err
	})
	return resp.GetBudget()
}

// NewKey is an idempotency key.
func NewKey() string { return uuid.Must(uuid.NewV7()).String() }

// Tool is the call of a tool.
func Tool(name string) *governancev1.Action {
	return &governancev1.Action{Kind: governancev1.ActionKind_ACTION_KIND_TOOL_CALL, Name: name}
}

// Inline asks for an action in an envelope that opens with it.
func Inline(workflow string, a *governancev1.Action) *governancev1.AuthorizeRequest {
	return &governancev1.AuthorizeRequest{
		Envelope: &governancev1.AuthorizeRequest_Inline{Inline: &governancev1.InlineEnvelope{WorkflowId: workflow}},
		Action:   a, IdempotencyKey: NewKey(),
	}
}

// In asks for an action in an envelope that is open.
func In(envelope string, a *governancev1.Action) *governancev1.AuthorizeRequest {
	return &governancev1.AuthorizeRequest{
		Envelope: &governancev1.AuthorizeRequest_EnvelopeId{EnvelopeId: envelope}, Action: a, IdempotencyKey: NewKey(),
	}
}

// DryRun asks what would be answered.
func DryRun(a *governancev1.Action) *governancev1.AuthorizeRequest {
	req := Inline("", a)
	req.DryRun = true
	return req
}

// Eventually repeats do until it succeeds, for what is promised only soon.
func Eventually(t testing.TB, within time.Duration, do func(context.Context) error) {
	t.Helper()
	if err := Await(t.Context(), within, do); err != nil {
		t.Fatal(err)
	}
}

// Await is Eventually for those who go on after a failure.
func Await(ctx context.Context, within time.Duration, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	var last error
	for {
		err := do(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() == nil || last == nil { // else it only tells that the time is over
			last = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not within %s: %w", within, last)
		case <-tick.C:
		}
	}
}
