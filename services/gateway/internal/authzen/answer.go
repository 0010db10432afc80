package authzen

import (
	"time"

	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"

	"github.com/fulcrum-io/fulcrum/services/gateway/internal/decision"
)

// Answer is the answer to one question.
type Answer struct {
	Decision bool           `json:"decision"`
	Context  map[string]any `json:"context,omitempty"`
}

// Answers is the answer to a batch, in its order.
type Answers struct {
	Evaluations []Answer `json:"evaluations"`
}

// AnswerOf is a decision in AuthZEN's words. Only ALLOW and WARN are true.
func AnswerOf(r *governancev1.AuthorizeResponse) Answer {
	d := r.GetDecision()
	c := map[string]any{
		"effect":             decision.Name(d),
		"reason_user":        map[string]string{"en": r.GetMessage()},
		"reasons":            reasons(r.GetReasons()),
		"policy_set_version": r.GetPolicySetVersion(),
	}
	if r.GetDecisionId() != "" { // a dry run has none
		c["id"], c["decision_id"] = r.GetDecisionId(), r.GetDecisionId()
	}
	if a := r.GetApproval(); a != nil {
		c["approval"] = map[string]any{
			"approval_id": a.GetApprovalId(), "expires_at": a.GetExpiresAt().AsTime().Format(time.RFC3339),
			"quorum": a.GetQuorum(), "roles": append([]string{}, a.GetRoles()...),
		}
	}
	if h := r.GetHold(); h != nil {
		c["reservation_id"], c["hold_expires_at"] = h.GetReservationId(), h.GetExpiresAt().AsTime().Format(time.RFC3339)
	}
	if b := r.GetRefusedBy(); b != nil {
		c["refused_by"] = map[string]any{"budget_id": b.GetId(), "name": b.GetName(), "unit": b.GetUnit(), "remaining": b.GetRemaining()}
	}
	if len(r.GetObligations()) > 0 {
		c["obligations"] = obligations(r.GetObligations())
	}
	if r.GetRetryAfter() != nil {
		c["retry_after_seconds"] = r.GetRetryAfter().AsDuration().Seconds()
	}
	if r.GetDegraded() {
		c["degraded"] = true
	}
	return Answer{Decision: decision.Acts(d), Context: c}
}

// Unmet is the answer where the decision allows another action than the one
// that was asked about: whoever asks here may not read obligations.
func Unmet(r *governancev1.AuthorizeResponse, obligation string) Answer {
	a := AnswerOf(r)
	a.Decision = false
	a.Context["reason_user"] = map[string]string{"en": "allowed only with the obligation " + obligation + ", which this interface cannot carry"}
	a.Context["error"] = map[string]any{"status": 403, "reason": "OBLIGATION_UNMET", "message": "ask with Authorize to be told how to change the action"}
	return a
}

// Failed is the answer of a batch to a question that got no decision: closed.
func Failed(status int, reason, message string) Answer {
	return Answer{Context: map[string]any{"error": map[string]any{"status": status, "reason": reason, "message": message}}}
}

func reasons(list []*governancev1.Reason) []map[string]any {
	out := make([]map[string]any, 0, len(list))
	for _, r := range list {
		out = append(out, map[string]any{
			"policy_id": r.GetPolicyId(), "policy_name": r.GetPolicyName(), "version": r.GetVersion(), "rule_id": r.GetRuleId(),
			"rule_name": r.GetRuleName(), "message": r.GetMessage(), "effect": decision.Name(r.GetDecision()), "shadow": r.GetShadow(),
		})
	}
	return out
}

func obligations(list []*governancev1.Obligation) []map[string]any {
	out := make([]map[string]any, 0, len(list))
	for _, o := range list {
		out = append(out, map[string]any{"type": o.GetType(), "parameters": o.GetParameters()})
	}
	return out
}
