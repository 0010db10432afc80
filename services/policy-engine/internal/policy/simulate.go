package policy

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	configv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/config/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	policyenginev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policyengine/v1"
)

// With returns the Set that s would be with changes applied: the given policies
// in force, each in the place of the one with its id, and others not. It returns
// the problems of a policy that does not compile.
func (s *Set) With(c *Compiler, changes *policyenginev1.SimulateChanges) (*Set, map[string][]Problem, error) {
	b := &configv1.PolicyBundle{TenantId: s.tenant, Version: s.version, Settings: s.settings}
	if b.GetVersion() == 0 {
		b.Version = 1
	}
	gone := slices.Clone(changes.GetWithout())
	for _, p := range changes.GetPolicies() {
		gone = append(gone, p.GetPolicyId())
	}
	for _, p := range s.policies {
		if slices.Contains(gone, p.source.GetPolicyId()) {
			continue
		}
		whole, err := p.published()
		if err != nil {
			return nil, nil, err
		}
		b.Policies = append(b.Policies, whole)
	}
	for i, p := range changes.GetPolicies() {
		p = proto.CloneOf(p)
		p.Status = policyv1.PolicyStatus_POLICY_STATUS_ACTIVE
		if p.GetPolicyId() == "" {
			p.PolicyId = fmt.Sprintf("draft-%d", i+1)
		}
		b.Policies = append(b.Policies, p)
	}
	out, err := c.Compile(s.tenant, b)
	var broken *BrokenError
	if errors.As(err, &broken) {
		return nil, broken.Problems, nil
	}
	if err != nil {
		return nil, nil, err
	}
	out.tools = s.tools
	return out, nil, nil
}

// maxSimulatedReasons is how many reasons a simulated decision comes with.
const maxSimulatedReasons = 10

// Compare judges the same facts by both sets.
func Compare(ctx context.Context, before, after *Set, f *policyenginev1.Facts) (*policyenginev1.SimulatedDecision, error) {
	was, err := before.Evaluate(ctx, Request{Facts: f})
	if err != nil {
		return nil, err
	}
	is, err := after.Evaluate(ctx, Request{Facts: f})
	if err != nil {
		return nil, err
	}
	out := &policyenginev1.SimulatedDecision{Before: was.GetDecision(), After: is.GetDecision(), DurationUs: is.GetEvaluatedUs()}
	if out.GetBefore() != out.GetAfter() {
		out.Reasons = is.GetReasons()[:min(len(is.GetReasons()), maxSimulatedReasons)]
	}
	failed := map[string]bool{}
	for _, r := range was.GetResults() {
		failed[r.GetPolicyId()] = r.GetError() != "" && r.GetOutcome() != policyenginev1.PolicyOutcome_POLICY_OUTCOME_SKIPPED
	}
	for _, r := range is.GetResults() {
		if r.GetError() != "" && r.GetOutcome() != policyenginev1.PolicyOutcome_POLICY_OUTCOME_SKIPPED && !failed[r.GetPolicyId()] {
			out.NewFailure = true
		}
	}
	return out, nil
}
