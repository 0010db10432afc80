package policy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	configv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/config/v1"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	policyenginev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policyengine/v1"
	lifecyclev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policylifecycle/v1"

	"github.com/fulcrum-io/fulcrum/services/policy-engine/internal/sandbox"
)

// trialTime bounds all tests of a policy together.
const trialTime = 4 * time.Second

// Try runs p's own tests. Each judges p alone, whatever its status says, by the
// settings of the tenant that s is of. It returns problems instead when p does
// not compile. Tests it has no time for have failed, and say so.
func (s *Set) Try(ctx context.Context, c *Compiler, p *policyv1.Policy) (*lifecyclev1.TestPolicyResponse, []Problem) {
	p = proto.CloneOf(p)
	p.Status = policyv1.PolicyStatus_POLICY_STATUS_ACTIVE
	if p.GetPolicyId() == "" {
		p.PolicyId = "policy"
	}
	alone, err := c.Compile(s.tenant, &configv1.PolicyBundle{
		TenantId: s.tenant, Version: 1, Settings: s.settings, Policies: []*policyv1.Policy{p},
	})
	if err != nil {
		var broken *BrokenError
		if errors.As(err, &broken) {
			return nil, broken.Problems[p.GetPolicyId()]
		}
		return nil, []Problem{{Message: err.Error()}}
	}
	alone.tools = tools{} // what the tenant's tools allow is no part of the policy
	t := &trial{set: alone, source: p, policy: alone.policies[0], end: time.Now().Add(trialTime), hits: map[string]int32{}}
	if p.GetRego() != "" {
		t.coverage = sandbox.NewCoverage()
	}
	report := &lifecyclev1.TestPolicyResponse{Passed: true}
	for _, test := range p.GetTests() {
		r := t.run(ctx, test)
		report.Passed = report.Passed && r.GetPassed()
		report.Results = append(report.Results, r)
	}
	report.Coverage = t.report()
	return report, nil
}

// trial is the tests of one policy on their way.
type trial struct {
	set      *Set
	source   *policyv1.Policy
	policy   *compiled
	end      time.Time
	hits     map[string]int32  // of structured rules
	coverage *sandbox.Coverage // of Rego
}

func (t *trial) run(ctx context.Context, test *policyv1.PolicyTest) *lifecyclev1.TestResult {
	out := &lifecyclev1.TestResult{Name: test.GetName()}
	if !time.Now().Before(t.end) || ctx.Err() != nil {
		out.Failures = []string{fmt.Sprintf("not run: the tests together took longer than %s", trialTime)}
		return out
	}
	answer, err := t.set.Evaluate(ctx, Request{Facts: testFacts(test.GetInput(), t.policy.source.GetPolicyId()), coverage: t.coverage})
	if err != nil {
		out.Failures = []string{err.Error()}
		return out
	}
	if t.coverage != nil {
		t.coverage.Next()
	}
	r := answer.GetResults()[0]
	out.Decision = r.GetDecision()
	if out.Decision == governancev1.Decision_DECISION_UNSPECIFIED {
		out.Decision = governancev1.Decision_DECISION_ALLOW
	}
	for _, m := range r.GetMatchedRules() {
		if !slices.Contains(out.MatchedRules, m.GetRuleId()) {
			out.MatchedRules = append(out.MatchedRules, m.GetRuleId())
			t.hits[m.GetRuleId()]++
		}
	}
	out.Failures = differences(test.GetWant(), r, answer.GetObligations(), out)
	out.Passed = len(out.Failures) == 0
	return out
}

// differences says in words what was wanted and is not so.
func differences(want *policyv1.PolicyTestWant, r *policyenginev1.PolicyResult, duties []*governancev1.Obligation, got *lifecyclev1.TestResult) (out []string) {
	wrong := func(format string, a ...any) { out = append(out, fmt.Sprintf(format, a...)) }
	failed := r.GetError() != "" && r.GetOutcome() != policyenginev1.PolicyOutcome_POLICY_OUTCOME_SKIPPED
	switch {
	case failed && !want.GetFailed():
		wrong("the policy failed: %s", r.GetError())
	case !failed && want.GetFailed():
		wrong("the policy did not fail")
	}
	if d := want.GetDecision(); d != governancev1.Decision_DECISION_UNSPECIFIED && d != got.GetDecision() {
		wrong("the decision is %s, wanted %s", short(got.GetDecision()), short(d))
	}
	if want.Undecided != nil {
		undecided := r.GetDecision() == governancev1.Decision_DECISION_UNSPECIFIED
		switch {
		case want.GetUndecided() && !undecided:
			wrong("the policy decided %s, wanted no decision", short(r.GetDecision()))
		case !want.GetUndecided() && undecided:
			wrong("the policy decided nothing")
		}
	}
	for _, id := range want.GetRules() {
		if !slices.Contains(got.GetMatchedRules(), id) {
			wrong("rule %q did not match%s", id, because(r))
		}
	}
	for _, id := range want.GetNotRules() {
		if slices.Contains(got.GetMatchedRules(), id) {
			wrong("rule %q matched", id)
		}
	}
	if wanted := slices.Sorted(slices.Values(want.GetObligations())); len(wanted) > 0 {
		var have []string
		for _, d := range duties {
			have = append(have, d.GetType())
		}
		if slices.Sort(have); !slices.Equal(have, wanted) {
			wrong("the obligations are %s, wanted %s", listed(have), listed(wanted))
		}
	}
	if text := want.GetMessage(); text != "" && !strings.Contains(r.GetMessage(), text) {
		wrong("the message is %q, wanted %q in it", r.GetMessage(), text)
	}
	return out
}

func because(r *policyenginev1.PolicyResult) string {
	if r.GetOutcome() == policyenginev1.PolicyOutcome_POLICY_OUTCOME_SKIPPED {
		return ": the policy is " + r.GetError()
	}
	return ""
}

func listed(words []string) string {
	if len(words) == 0 {
		return "none"
	}
	return strings.Join(words, ", ")
}

// report says which rules the tests reached.
func (t *trial) report() *lifecyclev1.Coverage {
	out := &lifecyclev1.Coverage{}
	if t.coverage != nil {
		rules, percent, missed := t.coverage.Report(t.source.GetRego())
		for _, r := range rules {
			out.Rules = append(out.Rules, &lifecyclev1.RuleCoverage{RuleId: r.Name, Line: int32(r.Line), Hits: int32(r.Hits)})
		}
		for _, line := range missed {
			out.LinesNotHit = append(out.LinesNotHit, int32(line))
		}
		out.Percent = percent
		return out
	}
	hit := 0
	for _, r := range t.policy.order(t.source.GetRules()) {
		n := t.hits[r.source.GetRuleId()]
		if n > 0 {
			hit++
		}
		out.Rules = append(out.Rules, &lifecyclev1.RuleCoverage{RuleId: r.source.GetRuleId(), Name: r.source.GetName(), Hits: n})
	}
	if len(t.policy.rules) > 0 {
		out.Percent = 100 * float64(hit) / float64(len(t.policy.rules))
	}
	return out
}

// testFacts is a test's input as an evaluation has it.
func testFacts(in *policyv1.PolicyTestInput, policy string) *policyenginev1.Facts {
	f := &policyenginev1.Facts{
		WorkflowId: in.GetWorkflowId(), EnvelopeId: in.GetEnvelopeId(), Phase: in.GetPhase(),
		AgentId: in.GetAgentId(), AgentTeam: in.GetAgentTeam(), UserId: in.GetUserId(), UserRoles: in.GetUserRoles(),
		ModelId: in.GetModelId(), ToolNames: in.GetToolNames(), Attributes: in.GetAttributes(),
		Action: in.GetAction(), Estimate: in.GetEstimate(), BudgetUsedPercent: in.GetBudgetUsedPercent(), BudgetRemainingUsd: in.GetBudgetRemainingUsd(), Extra: in.GetExtra(), History: in.GetHistory(),
	}
	if len(in.GetStatistics()) > 0 {
		f.Statistics = make(map[string]*policyv1.FieldStatistics, len(in.GetStatistics()))
	}
	for name, h := range in.GetStatistics() {
		f.Statistics[policy+" "+name] = h
	}
	if in != nil {
		f.InputText, f.OutputText = in.InputText, in.OutputText
	}
	if in.GetTime() != nil {
		f.TimeUnixNano = in.GetTime().AsTime().UnixNano()
	}
	if text := in.GetAction().GetInputText(); f.InputText == nil && text != "" {
		f.InputText = proto.String(text)
	}
	return f
}
