package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	brainv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/brain/v1"
	controlplanev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/controlplane/v1"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"

	"github.com/fulcrum-io/fulcrum/test/internal/running"
)

// What an agent does too often becomes an incident, the incident a draft, and
// the draft a policy that binds the agent: once a person says so, and not before.
func TestAnIncidentBecomesAPolicyWhenAPersonSaysSo(t *testing.T) {
	t.Parallel()
	tn := stack.Tenant(t, "immune")
	agent := tn.Issue(t, &controlplanev1.IssueApiKeyRequest{Name: "agent", Scopes: []string{"*"}, AgentId: "looper"})
	immune, asAgent := brainv1.NewImmuneSystemServiceClient(tn.Owner.Conn), brainv1.NewImmuneSystemServiceClient(agent.Conn)
	ctx := t.Context()
	if _, err := immune.UpdateDetector(ctx, &brainv1.UpdateDetectorRequest{Name: "loop", Threshold: proto.Int64(3), WindowSeconds: proto.Int32(86400)}); err != nil {
		t.Fatal(err)
	}
	act := func() *governancev1.AuthorizeResponse {
		t.Helper()
		resp, err := agent.Governance.Authorize(ctx, running.Inline("loop", running.Tool("search")))
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}
	var draft *brainv1.GeneratedPolicy
	running.Eventually(t, time.Minute, func(ctx context.Context) error {
		// At midnight a window ends: then it takes three more.
		if resp := act(); resp.GetDecision() != governancev1.Decision_DECISION_ALLOW {
			return fmt.Errorf("before anybody was asked: %v", resp)
		}
		resp, err := immune.GetPendingPolicies(ctx, &brainv1.GetPendingPoliciesRequest{})
		if err == nil && len(resp.GetPolicies()) == 0 {
			err = fmt.Errorf("nothing is proposed")
		}
		if err == nil {
			draft = resp.GetPolicies()[0]
		}
		return err
	})
	approve := &brainv1.ReviewGeneratedPolicyRequest{PolicyId: draft.GetPolicy().GetPolicyId(), Decision: brainv1.ReviewDecision_REVIEW_DECISION_APPROVE}
	if _, err := asAgent.ReviewGeneratedPolicy(ctx, approve); running.Reason(err) != "REVIEWER_IS_AGENT" {
		t.Errorf("the agent itself: %v", err)
	}
	made, err := immune.ReviewGeneratedPolicy(ctx, approve)
	if err != nil || !made.GetActivated() || made.GetPolicy().GetStatus() != policyv1.PolicyStatus_POLICY_STATUS_ACTIVE {
		t.Fatalf("%v, %v", made, err)
	}
	running.Eventually(t, time.Minute, func(context.Context) error {
		resp := act()
		if resp.GetDecision() != governancev1.Decision_DECISION_DENY || resp.GetReasons()[0].GetRuleId() != "RATE_LIMITED" {
			return fmt.Errorf("not bound yet: %v", resp)
		}
		return nil
	})
	other := tn.Issue(t, &controlplanev1.IssueApiKeyRequest{Name: "other", Scopes: []string{"*"}, AgentId: "another"})
	for range 3 {
		if resp, err := other.Governance.Authorize(ctx, running.Inline("loop", running.Tool("search"))); err != nil || resp.GetDecision() != governancev1.Decision_DECISION_ALLOW {
			t.Errorf("another agent is bound too: %v, %v", resp, err)
		}
	}
}
