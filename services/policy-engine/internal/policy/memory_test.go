package policy_test

import (
	"context"
	"runtime"
	"strings"
	"testing"
	"time"

	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"

	"github.com/fulcrum-io/fulcrum/services/policy-engine/internal/policy"
	"github.com/fulcrum-io/fulcrum/services/policy-engine/internal/sandbox"
	"github.com/fulcrum-io/fulcrum/services/policy-engine/internal/workload"
)

// Short of memory, the engine runs no tenant's code: those policies are judged by
// their failure mode. Structured rules, which are ours, go on.
func TestShortOfMemoryOnlyRulesAreJudged(t *testing.T) {
	b := regoBundle("package fulcrum.policy\n\nwarn contains \"from code\"\n")
	b.Policies = append(b.Policies, &policyv1.Policy{PolicyId: "rules", Rules: []*policyv1.PolicyRule{{
		RuleId: "r", Enabled: true, Actions: []*policyv1.PolicyAction{{ActionType: policyv1.ActionType_ACTION_TYPE_WARN, Message: "from rules"}},
	}}})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- sandbox.WatchMemory(ctx, 1) }()
	for deadline := time.Now().Add(time.Minute); !sandbox.Short() && time.Now().Before(deadline); {
		runtime.Gosched()
	}
	got := evaluateUnhurried(t, b, policy.Request{Facts: workload.Call()})
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if got.GetDecision() != governancev1.Decision_DECISION_DENY || len(got.GetReasons()) != 2 ||
		!strings.Contains(got.GetReasons()[0].GetMessage(), "short of memory") || got.GetReasons()[1].GetMessage() != "from rules" {
		t.Errorf("short of memory: %v", got.GetReasons())
	}
	got = evaluateUnhurried(t, b, policy.Request{Facts: workload.Call()})
	if got.GetDecision() != governancev1.Decision_DECISION_WARN || len(got.GetReasons()) != 2 {
		t.Errorf("afterwards: %v", got.GetReasons())
	}
}
