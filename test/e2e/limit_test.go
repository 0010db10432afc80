package e2e

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"

	"github.com/fulcrum-io/fulcrum/test/internal/running"
)

// limit puts a rule with a limit on a tool into force.
func limit(t *testing.T, tn *running.Tenant, name string, parameters map[string]string, tool string) {
	t.Helper()
	_, err := tn.Owner.Policies.CreatePolicy(t.Context(), &policyv1.CreatePolicyRequest{Policy: &policyv1.Policy{
		Name: name, Scope: &policyv1.PolicyScope{ToolNames: []string{tool}}, Status: policyv1.PolicyStatus_POLICY_STATUS_ACTIVE,
		Enforcement: policyv1.EnforcementLevel_ENFORCEMENT_LEVEL_BLOCK,
		Rules: []*policyv1.PolicyRule{{
			RuleId: "limit", Name: name, Enabled: true,
			Actions: []*policyv1.PolicyAction{{ActionType: policyv1.ActionType_ACTION_TYPE_THROTTLE, Parameters: parameters}},
		}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	running.Eventually(t, 10*time.Second, func(ctx context.Context) error {
		resp, err := tn.Owner.Governance.Authorize(ctx, running.DryRun(running.Tool(tool))) // takes nothing
		if err == nil && len(resp.GetObligations()) == 0 {
			err = fmt.Errorf("%s is not in force yet", name)
		}
		return err
	})
}

// What rules say about how often, how many at once and never after holds
// exactly, however many ask at once.
func TestLimitsAreExact(t *testing.T) {
	t.Parallel()
	tn := stack.Tenant(t, "limits")
	limit(t, tn, "three refunds an hour", map[string]string{"max": "3", "per": "hour", "by": "agent"}, "issue_refund")
	limit(t, tn, "five at once", map[string]string{"parallel": "5", "by": "tenant"}, "crawl")
	limit(t, tn, "secrets are remembered", map[string]string{"remember": "secrets-read"}, "read_secret")
	limit(t, tn, "no mail after secrets", map[string]string{"never_after": "secrets-read"}, "send_mail")
	bot := tn.Agent(t, "limited-bot")

	ask := func(t *testing.T, req *governancev1.AuthorizeRequest) *governancev1.AuthorizeResponse {
		t.Helper()
		resp, err := bot.Governance.Authorize(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}
	opened := func(t *testing.T) string {
		return ask(t, running.Inline("limits", running.Tool("search"))).GetEnvelopeId()
	}
	storm := func(t *testing.T, tool string, callers int) (ids []string) {
		t.Helper()
		env := opened(t)
		var mu sync.Mutex
		var refused atomic.Int64
		var all sync.WaitGroup
		for range callers {
			all.Go(func() {
				resp, err := bot.Governance.Authorize(t.Context(), running.In(env, running.Tool(tool)))
				switch {
				case err != nil:
					t.Error(err)
				case resp.GetDecision() == governancev1.Decision_DECISION_ALLOW:
					mu.Lock()
					ids = append(ids, resp.GetDecisionId())
					mu.Unlock()
				case resp.GetRefusedBy() == nil:
					t.Errorf("refused without saying by what: %v", resp)
				default:
					refused.Add(1)
				}
			})
		}
		all.Wait()
		if int(refused.Load())+len(ids) != callers {
			t.Errorf("%d of %d were refused", refused.Load(), callers)
		}
		return ids
	}

	t.Run("at most three refunds per hour", func(t *testing.T) {
		t.Parallel()
		if ids := storm(t, "issue_refund", 40); len(ids) != 3 {
			t.Errorf("%d passed", len(ids))
		}
	})
	t.Run("no more than five in parallel", func(t *testing.T) {
		t.Parallel()
		ids := storm(t, "crawl", 40)
		if len(ids) != 5 {
			t.Fatalf("%d are at it", len(ids))
		}
		for _, id := range ids[:2] {
			if _, err := bot.Governance.Settle(t.Context(), &governancev1.SettleRequest{
				DecisionId: id, Outcome: governancev1.Outcome_OUTCOME_SUCCESS, Usage: &governancev1.Usage{ToolCalls: 1}, IdempotencyKey: running.NewKey(),
			}); err != nil {
				t.Error(err)
			}
		}
		if ids := storm(t, "crawl", 20); len(ids) != 2 {
			t.Errorf("%d more, after two were settled", len(ids))
		}
	})
	t.Run("never mail after secrets in the same envelope", func(t *testing.T) {
		t.Parallel()
		one, other := opened(t), opened(t)
		for _, tt := range []struct {
			env, tool string
			want      governancev1.Decision
		}{
			{one, "send_mail", governancev1.Decision_DECISION_ALLOW},
			{one, "read_secret", governancev1.Decision_DECISION_ALLOW},
			{one, "send_mail", governancev1.Decision_DECISION_DENY},
			{other, "send_mail", governancev1.Decision_DECISION_ALLOW},
		} {
			if resp := ask(t, running.In(tt.env, running.Tool(tt.tool))); resp.GetDecision() != tt.want {
				t.Errorf("%s: %v", tt.tool, resp)
			}
		}
	})
}
