package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/fulcrum-io/fulcrum/pkg/secret"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
)

// GovernedAgent is an agent program that asks before every action and settles
// after it.
func GovernedAgent(ctx context.Context, getenv func(string) string, out io.Writer) error {
	c, err := dial(getenv(envAddr), secret.New(getenv(envKey)))
	if err != nil {
		return err
	}
	defer c.close()
	a := &governedAgent{governance: c.governance, journal: newJournal(out)}

	j := a.journal
	if !j.try("an allowed tool call", func() (string, map[string]string, error) { return a.allowed(ctx) }) {
		return nil // reported; the rest acts inside the envelope this opens
	}
	j.try("a denied tool call", func() (string, map[string]string, error) { return a.denied(ctx) })
	if j.try("a model call is held", func() (string, map[string]string, error) { return a.held(ctx) }) {
		j.try("the model call is settled", func() (string, map[string]string, error) { return a.settled(ctx) })
	}
	j.try("a call that the budget refuses", func() (string, map[string]string, error) { return a.refused(ctx) })
	j.try("a warned call", func() (string, map[string]string, error) { return a.warned(ctx) })
	if j.try("a call that needs approval", func() (string, map[string]string, error) { return a.asks(ctx) }) {
		if j.try("a second identity approves", func() (string, map[string]string, error) { return a.waits(ctx) }) {
			j.try("the approved call passes, once", func() (string, map[string]string, error) { return a.usesApproval(ctx) })
		}
	}
	return nil
}

type governedAgent struct {
	governance governancev1.GovernanceServiceClient
	journal    *journal
	envelope   string
	held1      *governancev1.AuthorizeResponse // the model call
	refund     *governancev1.AuthorizeRequest
	approval   string
}

func (a *governedAgent) authorize(ctx context.Context, act *governancev1.Action, est *governancev1.Estimate, want governancev1.Decision) (*governancev1.AuthorizeResponse, error) {
	resp, err := a.governance.Authorize(ctx, &governancev1.AuthorizeRequest{
		Envelope: in(a.envelope), Action: act, Estimate: est, IdempotencyKey: newKey()})
	if err != nil {
		return nil, err
	}
	return resp, expect(resp, want)
}

func (a *governedAgent) allowed(ctx context.Context) (string, map[string]string, error) {
	req := &governancev1.AuthorizeRequest{Envelope: inline("research"), Action: tool("web_search", map[string]any{"query": "quarterly results"}), IdempotencyKey: newKey()}
	resp, err := a.governance.Authorize(ctx, req)
	if err != nil {
		return "", nil, err
	}
	if err := expect(resp, governancev1.Decision_DECISION_ALLOW); err != nil {
		return "", nil, err
	}
	again, err := a.governance.Authorize(ctx, req) // as if the answer had been lost
	if err != nil {
		return "", nil, fmt.Errorf("retry: %w", err)
	}
	if again.GetDecisionId() != resp.GetDecisionId() {
		return "", nil, errors.New("a retry with the same key made a second decision")
	}
	a.envelope = resp.GetEnvelopeId()
	return "ALLOW; a retry gets the same decision", map[string]string{"decision_id": resp.GetDecisionId(), "envelope_id": resp.GetEnvelopeId()}, nil
}

func (a *governedAgent) denied(ctx context.Context) (string, map[string]string, error) {
	resp, err := a.authorize(ctx, tool("drop_table", map[string]any{"table": "customers"}), nil, governancev1.Decision_DECISION_DENY)
	if err != nil {
		return "", nil, err
	}
	if len(resp.GetReasons()) == 0 || resp.GetReasons()[0].GetRuleName() != forbiddenRule {
		return "", nil, fmt.Errorf("the denial does not name the rule: %v", resp.GetReasons())
	}
	reason := resp.GetReasons()[0]
	return fmt.Sprintf("DENY by rule %q of policy %s v%d", reason.GetRuleName(), reason.GetPolicyName(), reason.GetVersion()),
		map[string]string{"denied_decision_id": resp.GetDecisionId()}, nil
}

func (a *governedAgent) held(ctx context.Context) (string, map[string]string, error) {
	resp, err := a.authorize(ctx, modelCall("gpt-4o"),
		&governancev1.Estimate{InputTokens: 20_000, MaxOutputTokens: 4_000}, governancev1.Decision_DECISION_ALLOW)
	if err != nil {
		return "", nil, err
	}
	if resp.GetHold().GetAmounts().GetCostNano() <= 0 || len(resp.GetHold().GetBudgets()) != 3 {
		return "", nil, fmt.Errorf("want money held in 3 budgets, got %v", resp.GetHold())
	}
	a.held1 = resp
	return fmt.Sprintf("ALLOW, %s held in %d budgets (price %s)", usd(resp.GetHold().GetAmounts().GetCostNano()),
		len(resp.GetHold().GetBudgets()), resp.GetPriceVersion()), map[string]string{"model_decision_id": resp.GetDecisionId()}, nil
}

func (a *governedAgent) settled(ctx context.Context) (string, map[string]string, error) {
	req := &governancev1.SettleRequest{DecisionId: a.held1.GetDecisionId(), Outcome: governancev1.Outcome_OUTCOME_SUCCESS,
		Usage: &governancev1.Usage{Model: "gpt-4o", InputTokens: 18_000, OutputTokens: 1_500}, IdempotencyKey: newKey()}
	resp, err := a.governance.Settle(ctx, req)
	if err != nil {
		return "", nil, err
	}
	again, err := a.governance.Settle(ctx, req)
	if err != nil {
		return "", nil, fmt.Errorf("retry: %w", err)
	}
	charged, held := resp.GetCharged().GetCostNano(), a.held1.GetHold().GetAmounts().GetCostNano()
	if charged <= 0 || charged >= held || !proto.Equal(again.GetCharged(), resp.GetCharged()) {
		return "", nil, fmt.Errorf("charged %s of %s held, on retry %v", usd(charged), usd(held), again.GetCharged())
	}
	return fmt.Sprintf("charged %s once, %s given back", usd(charged), usd(held-charged)),
		map[string]string{"charged_nano": fmt.Sprint(charged)}, nil
}

func (a *governedAgent) refused(ctx context.Context) (string, map[string]string, error) {
	resp, err := a.authorize(ctx, modelCall("gpt-4o"), &governancev1.Estimate{InputTokens: 1_000, MaxOutputTokens: 500_000}, governancev1.Decision_DECISION_DENY)
	if err != nil {
		return "", nil, err
	}
	b := resp.GetRefusedBy()
	if b.GetName() != "research-bot" || b.GetRemaining() <= 0 || !b.GetResetsAt().IsValid() {
		return "", nil, fmt.Errorf("the refusal does not explain itself: %v", b)
	}
	return fmt.Sprintf("DENY: budget %s has $%.4f of $%.2f left, asked $%.4f, resets %s",
		b.GetName(), b.GetRemaining(), b.GetLimit(), b.GetRequested(), b.GetResetsAt().AsTime().Format(time.RFC3339)), nil, nil
}

func (a *governedAgent) warned(ctx context.Context) (string, map[string]string, error) {
	resp, err := a.authorize(ctx, tool("send_email", map[string]any{"to": "sam@partner.example"}), nil, governancev1.Decision_DECISION_WARN)
	if err != nil {
		return "", nil, err
	}
	if len(resp.GetReasons()) == 0 {
		return "", nil, errors.New("the warning has no reason")
	}
	return fmt.Sprintf("WARN: %s", resp.GetReasons()[0].GetMessage()), nil, nil
}

func (a *governedAgent) asks(ctx context.Context) (string, map[string]string, error) {
	a.refund = &governancev1.AuthorizeRequest{Envelope: in(a.envelope), IdempotencyKey: newKey(),
		Action: tool("issue_refund", map[string]any{"order": "A-1007", "amount_usd": 250})}
	resp, err := a.governance.Authorize(ctx, a.refund)
	if err != nil {
		return "", nil, err
	}
	if err := expect(resp, governancev1.Decision_DECISION_REQUIRE_APPROVAL); err != nil {
		return "", nil, err
	}
	a.approval = resp.GetApproval().GetApprovalId()
	return fmt.Sprintf("REQUIRE_APPROVAL by %v until %s", resp.GetApproval().GetRoles(), resp.GetApproval().GetExpiresAt().AsTime().Format(time.TimeOnly)),
		map[string]string{"approval_id": a.approval}, nil
}

func (a *governedAgent) waits(ctx context.Context) (string, map[string]string, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	stream, err := a.governance.WaitForApproval(ctx, &governancev1.WaitForApprovalRequest{ApprovalId: a.approval})
	if err != nil {
		return "", nil, err
	}
	for {
		resp, err := stream.Recv()
		if err != nil {
			return "", nil, err
		}
		switch resp.GetState() {
		case governancev1.ApprovalState_APPROVAL_STATE_PENDING:
		case governancev1.ApprovalState_APPROVAL_STATE_APPROVED:
			return "APPROVED by " + resp.GetReviewerId(), nil, nil
		default:
			return "", nil, fmt.Errorf("approval is %s", resp.GetState())
		}
	}
}

func (a *governedAgent) usesApproval(ctx context.Context) (string, map[string]string, error) {
	req := proto.CloneOf(a.refund)
	req.ApprovalId, req.IdempotencyKey = a.approval, newKey()
	resp, err := a.governance.Authorize(ctx, req)
	if err != nil {
		return "", nil, err
	}
	if err := expect(resp, governancev1.Decision_DECISION_ALLOW); err != nil {
		return "", nil, err
	}
	req.IdempotencyKey = newKey()
	second, err := a.governance.Authorize(ctx, req)
	if err == nil && second.GetDecision() == governancev1.Decision_DECISION_ALLOW {
		return "", nil, errors.New("the approval could be used twice")
	}
	return "ALLOW; a second use is refused", nil, nil
}

func usd(nano int64) string { return fmt.Sprintf("$%.4f", float64(nano)/1e9) }
