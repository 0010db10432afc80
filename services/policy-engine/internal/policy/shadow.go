package policy

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	configv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/config/v1"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	policyenginev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policyengine/v1"
)

// What shadows may take of a request that is judged already.
const (
	shadowTime  = 20 * time.Millisecond // one of them
	shadowTimes = 30 * time.Millisecond // all of them
)

// shadow is a version that judges beside the answer. It is compiled apart, so
// that it can spoil nothing.
type shadow struct {
	source *policyv1.Policy
	share  uint64 // of 10,000
	alone  *Set

	baselines []baseline // that its rules compare fields with
	budgets   []string   // that its rules ask about
}

// shadows compiles those of a bundle. One that does not compile always fails,
// and says so where it is sampled.
func (c *Compiler) shadows(b *configv1.PolicyBundle, zone *time.Location) (out []*shadow) {
	for _, asked := range b.GetShadows() {
		if asked.GetPolicy() == nil {
			continue // nothing to judge by
		}
		p := proto.CloneOf(asked.GetPolicy())
		p.Status = policyv1.PolicyStatus_POLICY_STATUS_ACTIVE
		t := c.translator()
		s := &Set{tenant: b.GetTenantId(), version: b.GetVersion(), settings: b.GetSettings(), zone: zone, turns: make(chan struct{}, 1)}
		one, _ := c.policy(t, b.GetTenantId(), p, b.GetSettings().GetFailOpen())
		s.policies = []*compiled{one}
		if len(t.lines) > 0 {
			if u, err := c.unit(t); err == nil {
				s.unit = u
			}
		}
		out = append(out, &shadow{source: p, share: uint64(max(0, asked.GetSharePerMyriad())), alone: s, baselines: t.baselines, budgets: budgetsOf(t.needs)})
	}
	return out
}

// Sampled reports whether any shadow of s judges the decision with this id.
func (s *Set) Sampled(id string) bool {
	return slices.ContainsFunc(s.shadows, func(h *shadow) bool { return h.samples(id) })
}

// samples chooses by the decision's id, so that the choice can be repeated.
func (h *shadow) samples(id string) bool {
	if id == "" {
		return false
	}
	sum := sha256.Sum256([]byte(h.source.GetPolicyId() + " " + id))
	return binary.BigEndian.Uint64(sum[:])%10_000 < h.share
}

// Shadow returns what the decision would have been with each shadow that samples
// id in force. answer is the decision, which it leaves as it is.
func (s *Set) Shadow(ctx context.Context, id string, f *policyenginev1.Facts, answer *policyenginev1.EvaluateResponse) (out []*policyenginev1.ShadowOutcome) {
	end := time.Now().Add(shadowTimes)
	for _, h := range s.shadows {
		if !h.samples(id) {
			continue
		}
		one := &policyenginev1.ShadowOutcome{
			PolicyId: h.source.GetPolicyId(), PolicyName: h.source.GetName(), Version: h.source.GetVersion(), Live: answer.GetDecision(), Decision: answer.GetDecision(),
		}
		out = append(out, one)
		left := min(shadowTime, time.Until(end))
		if left <= 0 {
			one.Error = "not judged: the shadows before it took all the time there is"
			continue
		}
		h.judge(ctx, f, left, answer, one, s.fallback)
	}
	return out
}

func (h *shadow) judge(ctx context.Context, f *policyenginev1.Facts, limit time.Duration, answer *policyenginev1.EvaluateResponse, out *policyenginev1.ShadowOutcome, fallback governancev1.Decision) {
	got, err := h.alone.Evaluate(ctx, Request{Facts: f, limit: limit})
	if err != nil {
		out.Error = err.Error()
		return
	}
	mine := got.GetResults()[len(got.GetResults())-1]
	out.Reasons, out.DurationUs = mine.GetReasons(), got.GetEvaluatedUs()
	if mine.GetOutcome() != policyenginev1.PolicyOutcome_POLICY_OUTCOME_SKIPPED {
		out.Error = mine.GetError()
	}
	for _, m := range mine.GetMatchedRules() {
		out.MatchedRules = append(out.MatchedRules, m.GetRuleId())
	}
	d := counts(mine)
	for _, r := range answer.GetResults() {
		if r.GetPolicyId() != h.source.GetPolicyId() {
			d = max(d, counts(r))
		}
	}
	if d == governancev1.Decision_DECISION_UNSPECIFIED {
		d = fallback
	}
	out.Decision = d
}

// counts is a policy's part in the decision of all.
func counts(r *policyenginev1.PolicyResult) governancev1.Decision {
	switch {
	case r.GetOutcome() == policyenginev1.PolicyOutcome_POLICY_OUTCOME_SHADOW,
		r.GetOutcome() == policyenginev1.PolicyOutcome_POLICY_OUTCOME_FAILED && r.GetDecision() == governancev1.Decision_DECISION_ALLOW:
		return governancev1.Decision_DECISION_UNSPECIFIED // failing open takes nothing away
	}
	return r.GetDecision()
}
