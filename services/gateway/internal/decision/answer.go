package decision

import (
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	policyenginev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policyengine/v1"
)

// message is the answer in one line, for people.
func message(r *governancev1.AuthorizeResponse) string {
	why := because(r.GetReasons(), r.GetDecision())
	switch r.GetDecision() {
	case allow:
		if r.GetDegraded() && why != "" {
			return "allowed: " + why
		}
		return "allowed"
	case warn:
		return join("allowed with a warning", why)
	case requireApproval:
		return join("needs approval", why)
	}
	if b := r.GetRefusedBy(); b != nil && why == "" {
		why = fmt.Sprintf("the budget %s has %g %s left", b.GetName(), b.GetRemaining(), b.GetUnit())
	}
	return join("denied", why)
}

// because is the message of the first reason that stands for the decision.
func because(reasons []*governancev1.Reason, d governancev1.Decision) string {
	for _, r := range reasons {
		if r.GetDecision() == d && !r.GetShadow() {
			return strings.TrimSpace(first(r.GetMessage(), r.GetRuleName(), r.GetPolicyName()))
		}
	}
	return ""
}

func join(what, why string) string {
	if why == "" {
		return what
	}
	return what + ": " + why
}

// union is a and what b adds to it: a policy that applies to both the opening
// and the action says its reason once.
func union[M proto.Message](a, b []M) []M {
	for _, m := range b {
		if !slices.ContainsFunc(a, func(had M) bool { return proto.Equal(had, m) }) {
			a = append(a, m)
		}
	}
	return a
}

// stronger combines two judgements of one call into one: the stronger decision,
// with the reasons and obligations of both.
func stronger(a, b *policyenginev1.EvaluateResponse) *policyenginev1.EvaluateResponse {
	lead, other := a, b
	if b.GetDecision() > a.GetDecision() {
		lead, other = b, a
	}
	both := proto.CloneOf(lead)
	both.Results = append(both.Results, other.GetResults()...)
	both.Reasons = union(both.GetReasons(), other.GetReasons())
	both.Obligations = union(both.GetObligations(), other.GetObligations())
	both.Baselines = withValues(both.GetBaselines(), other.GetBaselines())
	both.PolicySetVersion = min(a.GetPolicySetVersion(), b.GetPolicySetVersion())
	both.EvaluatedUs = a.GetEvaluatedUs() + b.GetEvaluatedUs()
	both.Degraded = a.GetDegraded() || b.GetDegraded()
	both.TerminateEnvelope = a.GetTerminateEnvelope() || b.GetTerminateEnvelope()
	both.Shadows = append(both.Shadows, other.GetShadows()...)
	both.Defaulted = a.GetDefaulted() && b.GetDefaulted()
	return both
}
