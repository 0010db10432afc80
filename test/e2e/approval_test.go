package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	controlplanev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/controlplane/v1"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"

	"github.com/fulcrum-io/fulcrum/test/internal/running"
)

// An approval is good for one person's answer to one exact action, once and in
// time. Whatever differs is refused, and the refusal says why.
func TestAnApprovalIsForOneActionOnce(t *testing.T) {
	t.Parallel()
	d := newDesk(t, map[string]string{"quorum": "1", "roles": "finance-lead"})

	t.Run("approved, it lets the action pass once", func(t *testing.T) {
		t.Parallel()
		req, approval := d.ask(t, 250)
		d.must(t, d.lead, approval, "APPROVED")
		d.want(t, with(req, approval), governancev1.Decision_DECISION_ALLOW, "")
		d.want(t, with(req, approval), governancev1.Decision_DECISION_DENY, "APPROVAL_USED")
	})
	t.Run("the very same request again is the same use", func(t *testing.T) {
		t.Parallel()
		req, approval := d.ask(t, 251)
		d.must(t, d.lead, approval, "APPROVED")
		use := with(req, approval)
		first := d.want(t, use, governancev1.Decision_DECISION_ALLOW, "")
		if again := d.want(t, use, governancev1.Decision_DECISION_ALLOW, ""); again.GetDecisionId() != first.GetDecisionId() {
			t.Error("a retry made a second decision")
		}
	})
	t.Run("not answered yet, it lets nothing pass", func(t *testing.T) {
		t.Parallel()
		req, approval := d.ask(t, 252)
		d.want(t, with(req, approval), governancev1.Decision_DECISION_REQUIRE_APPROVAL, "")
	})
	t.Run("rejected, it is a denial", func(t *testing.T) {
		t.Parallel()
		req, approval := d.ask(t, 253)
		d.must(t, d.lead, approval, "REJECTED")
		d.want(t, with(req, approval), governancev1.Decision_DECISION_DENY, "APPROVAL_REJECTED")
		d.refuse(t, d.lead, approval, "APPROVED", codes.FailedPrecondition, "APPROVAL_NOT_PENDING")
	})
	t.Run("with other arguments it is for another action", func(t *testing.T) {
		t.Parallel()
		req, approval := d.ask(t, 254)
		d.must(t, d.lead, approval, "APPROVED")
		swapped := with(req, approval)
		swapped.Action.Arguments.Fields["amount_usd"] = structpb.NewNumberValue(999_999)
		d.want(t, swapped, governancev1.Decision_DECISION_DENY, "APPROVAL_MISMATCH")
		d.want(t, with(req, approval), governancev1.Decision_DECISION_ALLOW, "") // and is not used up by the attempt
	})
	t.Run("another agent cannot use it", func(t *testing.T) {
		t.Parallel()
		req, approval := d.ask(t, 255)
		d.must(t, d.lead, approval, "APPROVED")
		resp, err := d.tenant.Agent(t, "other-bot").Governance.Authorize(t.Context(), with(req, approval))
		if err == nil && resp.GetDecision() != governancev1.Decision_DECISION_DENY {
			t.Errorf("another agent got %v", resp)
		}
	})
	t.Run("nobody approves their own action", func(t *testing.T) {
		t.Parallel()
		_, approval := d.ask(t, 256)
		d.refuse(t, d.self, approval, "APPROVED", codes.PermissionDenied, "APPROVAL_OWN_ACTION")
	})
	t.Run("without the role nobody approves", func(t *testing.T) {
		t.Parallel()
		_, approval := d.ask(t, 257)
		d.refuse(t, d.colleague, approval, "APPROVED", codes.PermissionDenied, "APPROVAL_ROLE_MISSING")
	})
	t.Run("another tenant does not even see it", func(t *testing.T) {
		t.Parallel()
		req, approval := d.ask(t, 258)
		stranger := stack.Tenant(t, "strangers").Owner
		d.refuse(t, stranger, approval, "APPROVED", codes.NotFound, "APPROVAL_NOT_FOUND")
		if _, err := stranger.Governance.Authorize(t.Context(), with(req, approval)); status.Code(err) != codes.NotFound {
			t.Errorf("using it: %v", err)
		}
	})
}

// An approval that runs out is a denial, whether it was answered or not.
func TestAnExpiredApprovalIsADenial(t *testing.T) {
	t.Parallel()
	d := newDesk(t, map[string]string{"ttl_seconds": "1"})
	for name, answer := range map[string]bool{"not answered": false, "answered, but not used": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			req, approval := d.ask(t, 250)
			if answer {
				d.must(t, d.lead, approval, "APPROVED")
			}
			running.Eventually(t, 60*time.Second, func(ctx context.Context) error {
				// Asked without a trace, until the time is over.
				try := with(req, approval)
				try.DryRun = true
				resp, err := d.bot.Governance.Authorize(ctx, try)
				if err == nil && resp.GetDecision() != governancev1.Decision_DECISION_DENY {
					err = fmt.Errorf("the answer is still %s", resp.GetDecision())
				}
				return err
			})
			d.want(t, with(req, approval), governancev1.Decision_DECISION_DENY, "APPROVAL_EXPIRED")
			if !answer {
				d.refuse(t, d.lead, approval, "APPROVED", codes.FailedPrecondition, "APPROVAL_NOT_PENDING")
			}
		})
	}
}

// A quorum of two is two people.
func TestAQuorumIsSeveralPeople(t *testing.T) {
	t.Parallel()
	d := newDesk(t, map[string]string{"quorum": "2"})
	req, approval := d.ask(t, 250)
	d.must(t, d.lead, approval, "APPROVED")
	d.must(t, d.lead, approval, "APPROVED") // twice the same
	d.want(t, with(req, approval), governancev1.Decision_DECISION_REQUIRE_APPROVAL, "")
	d.must(t, d.colleague, approval, "APPROVED")
	d.want(t, with(req, approval), governancev1.Decision_DECISION_ALLOW, "")
}

// desk is a tenant in which refunds need approval, with an agent who asks and
// people who answer.
type desk struct {
	tenant                     *running.Tenant
	bot, self, lead, colleague *running.Client
}

func newDesk(t *testing.T, parameters map[string]string) *desk {
	t.Helper()
	tn := stack.Tenant(t, "desk")
	tn.Policy(t, "refunds", &policyv1.PolicyScope{ToolNames: []string{"issue_refund"}}, &policyv1.PolicyRule{
		RuleId: "refund", Name: "refunds need approval",
		Actions: []*policyv1.PolicyAction{{ActionType: policyv1.ActionType_ACTION_TYPE_REQUIRE_APPROVAL, Parameters: parameters}},
	})
	answering := []string{"approval:read", "approval:write"}
	return &desk{
		tenant: tn, bot: tn.Agent(t, "refund-bot"),
		self:      tn.Issue(t, &controlplanev1.IssueApiKeyRequest{Name: "self", Scopes: answering, AgentId: "refund-bot", Roles: []string{"finance-lead"}}),
		lead:      tn.Issue(t, &controlplanev1.IssueApiKeyRequest{Name: "lead", Scopes: answering, UserId: "dana", Roles: []string{"finance-lead"}}),
		colleague: tn.Issue(t, &controlplanev1.IssueApiKeyRequest{Name: "colleague", Scopes: answering, UserId: "carl"}),
	}
}

// ask asks for a refund of some amount, and returns the approval that it needs.
func (d *desk) ask(t *testing.T, amount float64) (*governancev1.AuthorizeRequest, string) {
	t.Helper()
	opened, err := d.bot.Governance.Authorize(t.Context(), running.Inline("refunds", running.Tool("search")))
	if err != nil {
		t.Fatal(err)
	}
	action := running.Tool("issue_refund")
	if action.Arguments, err = structpb.NewStruct(map[string]any{"order": "A-1", "amount_usd": amount}); err != nil {
		t.Fatal(err)
	}
	req := running.In(opened.GetEnvelopeId(), action)
	resp, err := d.bot.Governance.Authorize(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	id := resp.GetApproval().GetApprovalId()
	if resp.GetDecision() != governancev1.Decision_DECISION_REQUIRE_APPROVAL || id == "" {
		t.Fatalf("the refund is %v", resp)
	}
	return req, id
}

// with is a new request for the same action that shows an approval.
func with(req *governancev1.AuthorizeRequest, approval string) *governancev1.AuthorizeRequest {
	req = proto.CloneOf(req)
	req.ApprovalId, req.IdempotencyKey = approval, newKey()
	return req
}

func (d *desk) want(t *testing.T, req *governancev1.AuthorizeRequest, want governancev1.Decision, reason string) *governancev1.AuthorizeResponse {
	t.Helper()
	resp, err := d.bot.Governance.Authorize(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	if resp.GetDecision() != want {
		t.Errorf("the answer is %s, want %s: %v", resp.GetDecision(), want, resp)
	}
	if reason != "" && (len(resp.GetReasons()) == 0 || resp.GetReasons()[0].GetRuleId() != reason) {
		t.Errorf("the reasons are %v, want first %s", resp.GetReasons(), reason)
	}
	return resp
}

func (d *desk) must(t *testing.T, who *running.Client, approval, verdict string) {
	t.Helper()
	if _, err := who.Policies.UpdateApproval(t.Context(), &policyv1.UpdateApprovalRequest{ApprovalId: approval, Status: verdict}); err != nil {
		t.Fatal(err)
	}
}

func (d *desk) refuse(t *testing.T, who *running.Client, approval, verdict string, code codes.Code, reason string) {
	t.Helper()
	_, err := who.Policies.UpdateApproval(t.Context(), &policyv1.UpdateApprovalRequest{ApprovalId: approval, Status: verdict})
	if status.Code(err) != code || running.Reason(err) != reason {
		t.Errorf("%s: %v (%s), want %s %s", verdict, err, running.Reason(err), code, reason)
	}
}
