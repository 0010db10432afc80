package e2e

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"

	"github.com/fulcrum-io/fulcrum/test/internal/running"
)

// question is put to a tenant's policies without a trace.
type question func(context.Context, *running.Client) (governancev1.Decision, error)

// evaluate asks as published clients do.
func evaluate(c *policyv1.EvaluationContext) question {
	return func(ctx context.Context, client *running.Client) (governancev1.Decision, error) {
		resp, err := client.Policies.EvaluatePolicy(ctx, &policyv1.EvaluatePolicyRequest{Context: c, DryRun: true})
		name := resp.GetResult().GetDecision().String()[len("EVALUATION_"):]
		return governancev1.Decision(governancev1.Decision_value[name]), err
	}
}

// authorize asks for an action that may cost something.
func authorize(tool string, usd float64) question {
	return func(ctx context.Context, client *running.Client) (governancev1.Decision, error) {
		req := running.DryRun(running.Tool(tool))
		req.Estimate = &governancev1.Estimate{CostUsd: usd}
		resp, err := client.Governance.Authorize(ctx, req)
		return resp.GetDecision(), err
	}
}

// Front ends send policies in a form of their own. It is taken, it acts on what
// it speaks of, and on nothing else.
func TestTheFrontEndsPolicyFormActs(t *testing.T) {
	t.Parallel()
	const deny, ask = governancev1.Decision_DECISION_DENY, governancev1.Decision_DECISION_REQUIRE_APPROVAL
	for _, form := range []struct {
		kind, rules, action string
		caught              question
		as                  governancev1.Decision
		free                []question
	}{
		{"tool_restriction", `{"blocked_tools":["rm","drop_table"]}`, "deny",
			evaluate(&policyv1.EvaluationContext{ToolNames: []string{"drop_table"}}), deny,
			[]question{evaluate(&policyv1.EvaluationContext{ToolNames: []string{"search"}}), evaluate(&policyv1.EvaluationContext{ModelId: "gpt-4o"}), authorize("search", 0)}},
		{"model_restriction", `{"allowed_models":["gpt-4o"]}`, "deny",
			evaluate(&policyv1.EvaluationContext{ModelId: "other"}), deny,
			[]question{evaluate(&policyv1.EvaluationContext{ModelId: "gpt-4o"}), evaluate(&policyv1.EvaluationContext{ToolNames: []string{"search"}}), authorize("search", 0)}},
		{"content_filter", `{"blocked_patterns":["(?i)password"]}`, "block",
			evaluate(&policyv1.EvaluationContext{InputText: "my Password is x"}), deny,
			[]question{evaluate(&policyv1.EvaluationContext{InputText: "hello"}), evaluate(&policyv1.EvaluationContext{ToolNames: []string{"search"}}), authorize("search", 0)}},
		{"cost_limit", `{"max_cost_usd":1.5}`, "deny", authorize("search", 2), deny,
			[]question{authorize("search", 1), authorize("search", 0), evaluate(&policyv1.EvaluationContext{InputText: "hello"})}},
		{"approval_required", `{"trigger_actions":["issue_*"]}`, "require_approval", evaluate(&policyv1.EvaluationContext{ToolNames: []string{"issue_refund"}}), ask,
			[]question{authorize("search", 0), evaluate(&policyv1.EvaluationContext{ToolNames: []string{"search"}}), evaluate(&policyv1.EvaluationContext{InputText: "hello"})}},
	} {
		t.Run(form.kind, func(t *testing.T) {
			t.Parallel()
			tenant := stack.Tenant(t, form.kind)
			created := createFromForm(t, tenant, form.kind, form.rules, form.action)
			running.Eventually(t, 60*time.Second, func(ctx context.Context) error {
				got, err := form.caught(ctx, tenant.Owner)
				if err == nil && got != form.as {
					err = fmt.Errorf("what the form speaks of is %s", got)
				}
				return err
			})
			for i, free := range form.free {
				got, err := free(t.Context(), tenant.Owner)
				if err != nil {
					t.Fatal(err)
				}
				if got != governancev1.Decision_DECISION_ALLOW {
					t.Errorf("what the form does not speak of (%d) is %s", i, got)
				}
			}
			var list policyv1.ListPoliciesResponse
			send(t, http.MethodGet, "/api/v1/policies", tenant.Owner.Key, "", &list)
			if len(list.GetPolicies()) != 1 || list.GetPolicies()[0].GetPolicyId() != created {
				t.Errorf("the list has %v", list.GetPolicies())
			}
		})
	}
}

// createFromForm sends a form and checks that its answer has what front ends
// read from it.
func createFromForm(t *testing.T, tenant *running.Tenant, kind, rules, action string) (id string) {
	t.Helper()
	var created struct {
		PolicyID  string `json:"policy_id"`
		Name      string
		Status    string
		CreatedAt time.Time `json:"created_at"`
	}
	sendJSON(t, http.MethodPost, "/api/v1/policies", tenant.Owner.Key, fmt.Sprintf(
		`{"policy_type":%q,"name":"from a form","rules":%s,"actions":[{"type":%q,"message":"not here"}],"enabled":true,"priority":10}`,
		kind, rules, action), &created)
	if created.PolicyID == "" || created.Name != "from a form" || created.Status == "" || created.CreatedAt.IsZero() {
		t.Errorf("the answer lacks something: %+v", created)
	}
	return created.PolicyID
}
