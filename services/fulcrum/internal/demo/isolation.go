package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	auditv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/audit/v1"
	costv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/cost/v1"
	envelopev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/envelope/v1"
	eventstorev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/eventstore/v1"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
)

// showIsolation lets globex, with every scope in its own tenant, go for all
// that acme made.
func (w *world) showIsolation(ctx context.Context, r *report) {
	g := w.globex.owner
	r.try("globex lists: it sees nothing of acme", func() (string, error) {
		policies, e1 := g.policies.ListPolicies(ctx, &policyv1.ListPoliciesRequest{})
		budgets, e2 := g.costs.ListBudgets(ctx, &costv1.ListBudgetsRequest{})
		decisions, e3 := g.governance.ListDecisions(ctx, &governancev1.ListDecisionsRequest{})
		envelopes, e4 := g.envelopes.ListEnvelopes(ctx, &envelopev1.ListEnvelopesRequest{})
		approvals, e5 := g.policies.ListApprovals(ctx, &policyv1.ListApprovalsRequest{})
		if err := errors.Join(e1, e2, e3, e4, e5); err != nil {
			return "", err
		}
		n := len(policies.GetPolicies()) + len(budgets.GetBudgets()) + len(decisions.GetDecisions()) + len(envelopes.GetEnvelopes()) + len(approvals.GetApprovals())
		if n != 0 {
			return "", fmt.Errorf("globex sees %d things of acme", n)
		}
		return "policies, budgets, decisions, envelopes, approvals: 0 rows", nil
	})
	r.try("globex asks by acme's ids: not found", func() (string, error) { return w.askByForeignID(ctx, r) })
	r.try("globex names acme as its tenant: refused", func() (string, error) {
		_, err := g.events.QueryEvents(ctx, &eventstorev1.QueryEventsRequest{TenantId: w.acme.id})
		if status.Code(err) != codes.PermissionDenied {
			return "", fmt.Errorf("want PERMISSION_DENIED, got %w", err)
		}
		return "PERMISSION_DENIED", nil
	})
	r.try("a made-up key over HTTP: refused", func() (string, error) { return w.askWithBadKey(ctx) })
}

func (w *world) askByForeignID(ctx context.Context, r *report) (string, error) {
	g, decision, envelope := w.globex.owner, r.fact("decision_id"), r.fact("envelope_id")
	acmePolicies, err := w.acme.owner.policies.ListPolicies(ctx, &policyv1.ListPoliciesRequest{PageSize: 1})
	if err != nil {
		return "", err
	}
	acmeBudgets, err := w.acme.owner.costs.ListBudgets(ctx, &costv1.ListBudgetsRequest{PageSize: 1})
	if err != nil {
		return "", err
	}
	if len(acmePolicies.GetPolicies()) == 0 || len(acmeBudgets.GetBudgets()) == 0 || decision == "" {
		return "", errors.New("acme has nothing to ask for")
	}
	policy, budget := acmePolicies.GetPolicies()[0].GetPolicyId(), acmeBudgets.GetBudgets()[0].GetBudgetId()
	tries := map[string]func() error{
		"GetDecision": func() error {
			_, err := g.governance.GetDecision(ctx, &governancev1.GetDecisionRequest{DecisionId: decision})
			return err
		},
		"GetEnvelope": func() error {
			_, err := g.envelopes.GetEnvelope(ctx, &envelopev1.GetEnvelopeRequest{EnvelopeId: envelope})
			return err
		},
		"GetPolicy": func() error {
			_, err := g.policies.GetPolicy(ctx, &policyv1.GetPolicyRequest{PolicyId: policy})
			return err
		},
		"DeletePolicy": func() error {
			_, err := g.policies.DeletePolicy(ctx, &policyv1.DeletePolicyRequest{PolicyId: policy})
			return err
		},
		"GetBudget": func() error {
			_, err := g.costs.GetBudget(ctx, &costv1.GetBudgetRequest{BudgetId: budget})
			return err
		},
		"GetBudgetStatus": func() error {
			_, err := g.costs.GetBudgetStatus(ctx, &costv1.GetBudgetStatusRequest{BudgetId: budget})
			return err
		},
		"Settle": func() error {
			_, err := g.governance.Settle(ctx, &governancev1.SettleRequest{DecisionId: r.fact("model_decision_id"),
				Outcome: governancev1.Outcome_OUTCOME_SUCCESS, IdempotencyKey: newKey()})
			return err
		},
		"UpdateApproval": func() error {
			_, err := g.policies.UpdateApproval(ctx, &policyv1.UpdateApprovalRequest{ApprovalId: r.fact("approval_id"), Status: "APPROVED"})
			return err
		},
		"GetInclusionProof": func() error {
			_, err := g.audit.GetInclusionProof(ctx, &auditv1.GetInclusionProofRequest{EventId: decision})
			return err
		},
		"Authorize": func() error {
			_, err := g.governance.Authorize(ctx, &governancev1.AuthorizeRequest{Envelope: in(envelope), Action: tool("web_search", nil), IdempotencyKey: newKey()})
			return err
		},
	}
	for name, do := range tries {
		if err := do(); status.Code(err) != codes.NotFound {
			return "", fmt.Errorf("%s: want NOT_FOUND, got %w", name, err)
		}
	}
	return fmt.Sprintf("%d calls with acme's ids: NOT_FOUND", len(tries)), nil
}

func (w *world) askWithBadKey(ctx context.Context) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(w.target.HTTPURL, "/")+"/api/v1/policies", nil)
	if err != nil {
		return "", err
	}
	req.Header.Set("Authorization", "Bearer flcrm_sk_made_up")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	if resp.StatusCode != http.StatusUnauthorized {
		return "", fmt.Errorf("want 401, got %s", resp.Status)
	}
	return resp.Status, nil
}
