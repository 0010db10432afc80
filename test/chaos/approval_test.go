package chaos

import (
	"context"
	"fmt"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	controlplanev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/controlplane/v1"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"

	"github.com/fulcrum-io/fulcrum/test/internal/running"
)

// Fulcrum is killed while an agent waits for a person, and again between the
// person's yes and its use. Nothing of it is forgotten, and nothing counts twice.
func TestAnApprovalSurvivesARestartInTheMiddle(t *testing.T) {
	t.Parallel()
	s := lab.New(t)
	tn := s.Tenant(t, "approvals")
	tn.Policy(t, "refunds", &policyv1.PolicyScope{ToolNames: []string{"issue_refund"}}, &policyv1.PolicyRule{
		RuleId: "refund", Name: "refunds need approval", Actions: []*policyv1.PolicyAction{{ActionType: policyv1.ActionType_ACTION_TYPE_REQUIRE_APPROVAL}},
	})
	bot := tn.Agent(t, "refund-bot")
	lead := tn.Issue(t, &controlplanev1.IssueApiKeyRequest{Name: "lead", Scopes: []string{"approval:read", "approval:write"}, UserId: "dana"})
	opened, err := bot.Governance.Authorize(t.Context(), running.Inline("refunds", running.Tool("search")))
	if err != nil {
		t.Fatal(err)
	}
	ask := running.In(opened.GetEnvelopeId(), running.Tool("issue_refund"))
	asked, err := bot.Governance.Authorize(t.Context(), ask)
	if err != nil {
		t.Fatal(err)
	}
	id := asked.GetApproval().GetApprovalId()
	cursor := waitFor(t, bot, id, "", governancev1.ApprovalState_APPROVAL_STATE_PENDING)

	again(t, s)
	open, err := lead.Policies.ListApprovals(t.Context(), &policyv1.ListApprovalsRequest{Status: "PENDING"})
	if err != nil || len(open.GetApprovals()) != 1 || open.GetApprovals()[0].GetApprovalId() != id {
		t.Fatalf("after the restart, %v are open: %v", open.GetApprovals(), err)
	}
	if _, err := lead.Policies.UpdateApproval(t.Context(), &policyv1.UpdateApprovalRequest{ApprovalId: id, Status: "APPROVED"}); err != nil {
		t.Fatal(err)
	}

	again(t, s)
	waitFor(t, bot, id, cursor, governancev1.ApprovalState_APPROVAL_STATE_APPROVED)
	use := proto.CloneOf(ask)
	use.ApprovalId, use.IdempotencyKey = id, running.NewKey()
	first := decided(t, bot, use, governancev1.Decision_DECISION_ALLOW)

	again(t, s)
	if repeated := decided(t, bot, use, governancev1.Decision_DECISION_ALLOW); repeated.GetDecisionId() != first.GetDecisionId() {
		t.Error("the repeated use is another decision")
	}
	replay := proto.CloneOf(use)
	replay.IdempotencyKey = running.NewKey()
	if r := decided(t, bot, replay, governancev1.Decision_DECISION_DENY).GetReasons(); len(r) == 0 || r[0].GetRuleId() != "APPROVAL_USED" {
		t.Errorf("the second use is denied because of %v", r)
	}
}

// again kills everything and starts on what is left.
func again(t *testing.T, s *running.Stack) {
	t.Helper()
	s.Kill()
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// waitFor waits on the stream for a state, and returns the cursor to go on
// from. A stream that breaks is opened again, as agents do.
func waitFor(t *testing.T, c *running.Client, id, cursor string, want governancev1.ApprovalState) string {
	t.Helper()
	running.Eventually(t, 60*time.Second, func(ctx context.Context) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		stream, err := c.Governance.WaitForApproval(ctx, &governancev1.WaitForApprovalRequest{ApprovalId: id, Cursor: cursor})
		if err != nil {
			return err
		}
		resp, err := stream.Recv()
		if err != nil {
			return err
		}
		cursor = resp.GetCursor()
		if resp.GetState() != want {
			return fmt.Errorf("the approval is %s", resp.GetState())
		}
		return nil
	})
	return cursor
}

func decided(t *testing.T, c *running.Client, req *governancev1.AuthorizeRequest, want governancev1.Decision) *governancev1.AuthorizeResponse {
	t.Helper()
	var resp *governancev1.AuthorizeResponse
	running.Eventually(t, 60*time.Second, func(ctx context.Context) (err error) { // the client finds its way back
		resp, err = c.Governance.Authorize(ctx, req)
		return err
	})
	if resp.GetDecision() != want {
		t.Fatalf("the answer is %v, want %s", resp, want)
	}
	return resp
}
