package policy_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	configv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/config/v1"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	policyenginev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policyengine/v1"

	"github.com/fulcrum-io/fulcrum/services/policy-engine/internal/policy"
)

// judged evaluates a call of a tool by one policy of a tenant in Berlin.
func judged(t *testing.T, p *policyv1.Policy, tool string) *policyenginev1.EvaluateResponse {
	t.Helper()
	p.PolicyId = "p"
	set, err := policy.NewCompiler(nil).Compile("t", &configv1.PolicyBundle{
		TenantId: "t", Version: 1, Settings: &configv1.TenantSettings{TimeZone: "Europe/Berlin"}, Policies: []*policyv1.Policy{p},
	})
	if err != nil {
		t.Fatal(err)
	}
	resp, err := set.Evaluate(t.Context(), policy.Request{Facts: &policyenginev1.Facts{
		Action: &governancev1.Action{Kind: governancev1.ActionKind_ACTION_KIND_TOOL_CALL, Name: tool},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

// Rules and Rego say the same limits, and the gateway hears whose they are, at
// which level, and on whose calendar.
func TestLimitsAreObligationsOfTheirRule(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		policy string
		rego   string
		want   map[string]string
	}{
		"a window": {policy: `
rules: [{rule_id: r, conditions: [{field: tool.name, string_value: refund}], actions: [{action_type: THROTTLE, message: enough, parameters: {max: "3", per: hour, policy_id: another, level: WARN}}]}]`,
			want: map[string]string{"max": "3", "per": "hour", "policy_id": "p", "rule_id": "r", "message": "enough"}},
		"a warning": {policy: `
enforcement: WARN
rules: [{rule_id: r, actions: [{action_type: THROTTLE, parameters: {parallel: "5"}}]}]`,
			want: map[string]string{"parallel": "5", "policy_id": "p", "rule_id": "r", "level": "WARN"}},
		"an end of the envelope": {policy: `
enforcement: TERMINATE
rules: [{rule_id: r, actions: [{action_type: THROTTLE, parameters: {never_after: x}}]}]`,
			want: map[string]string{"never_after": "x", "policy_id": "p", "rule_id": "r", "level": "TERMINATE"}},
		"a day of the tenant's": {policy: `
rules: [{rule_id: r, actions: [{action_type: THROTTLE, parameters: {max: "3", per: calendar day}}]}]`,
			want: map[string]string{"max": "3", "per": "calendar day", "zone": "Europe/Berlin", "policy_id": "p", "rule_id": "r"}},
		"a day of another zone": {policy: `
rules: [{rule_id: r, actions: [{action_type: THROTTLE, parameters: {max: "3", per: calendar day, zone: Asia/Tokyo}}]}]`,
			want: map[string]string{"max": "3", "per": "calendar day", "zone": "Asia/Tokyo", "policy_id": "p", "rule_id": "r"}},
		"in Rego": {rego: `obligations contains {"type": "LIMIT", "rule_id": "r", "parameters": {"max": 3, "per": "hour", "by": ["agent", "tool"]}} if input.tool.name == "refund"`,
			want: map[string]string{"max": "3", "per": "hour", "by": "agent,tool", "policy_id": "p", "rule_id": "r"}},
		"a mark in Rego": {rego: `obligations contains {"type": "THROTTLE", "parameters": {"remember": "x"}} if input.tool.name == "refund"`,
			want: map[string]string{"remember": "x", "policy_id": "p", "rule_id": ""}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := &policyv1.Policy{Rego: module(tt.rego)}
			if tt.rego == "" {
				p = policyOf(t, tt.policy)
				for _, r := range p.GetRules() {
					r.Enabled = true
				}
			}
			got := judged(t, p, "refund")
			if len(got.GetObligations()) != 1 || got.GetObligations()[0].GetType() != "LIMIT" {
				t.Fatalf("obligations: %v, %v", got.GetObligations(), got.GetReasons())
			}
			if diff := cmp.Diff(tt.want, got.GetObligations()[0].GetParameters()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// In the shadow a limit is no obligation, so nothing is counted.
func TestALimitInTheShadowIsNone(t *testing.T) {
	t.Parallel()
	p := policyOf(t, `
enforcement: AUDIT
rules: [{rule_id: r, actions: [{action_type: THROTTLE, parameters: {max: "3", per: hour}}]}]`)
	p.Rules[0].Enabled = true
	if got := judged(t, p, "refund"); len(got.GetObligations()) != 0 {
		t.Errorf("obligations: %v", got.GetObligations())
	}
}

// A limit that cannot be kept is refused where it is written, before it is stored.
func TestALimitThatLimitsNothingIsRefused(t *testing.T) {
	t.Parallel()
	action := func(parameters string) *policyv1.Policy {
		return policyOf(t, "rules: [{rule_id: r, actions: [{action_type: ALLOW}, {action_type: THROTTLE, parameters: "+parameters+"}]}]")
	}
	for _, tt := range []struct {
		name    string
		policy  *policyv1.Policy
		at      string
		message string
	}{
		{"a bad max", action(`{max: many, per: hour}`), "rules[0].actions[1].parameters.max", "whole number from 1 to 10000"},
		{"a bad window", action(`{max: "3", per: fortnight}`), "rules[0].actions[1].parameters.per", "must be a duration"},
		{"an unknown by", action(`{max: "3", per: hour, by: planet}`), "rules[0].actions[1].parameters.by", "must be of agent, envelope"},
		{"a misspelt parameter", action(`{parallel: "3", bye: agent}`), "rules[0].actions[1].parameters.bye", "no parameter of a limit"},
		{"no rule to count for", policyOf(t, `rules: [{actions: [{action_type: THROTTLE, parameters: {max: "3", per: hour}}]}]`), "rules[0].actions[0].parameters.counter", "without a rule_id"},
		{"a bad max in Rego", &policyv1.Policy{Rego: module("\nobligations contains {\"type\": \"LIMIT\", \"rule_id\": \"r\", \"parameters\": {\"max\": 0, \"per\": \"hour\"}}")}, "rego:4:22", "max must be a whole number"},
		{"a bad window in a body", &policyv1.Policy{Rego: module("obligations contains o if {\n\to := {\"type\": \"LIMIT\", \"rule_id\": \"r\", \"parameters\": {\"max\": 3, \"per\": 1}}\n}")}, "rego:4:7", "per must be a duration"},
		{"no rule in Rego", &policyv1.Policy{Rego: module("obligations contains {\"type\": \"LIMIT\", \"parameters\": {\"max\": 3, \"per\": \"hour\"}}")}, "rego:3:22", "rule_id is missing"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			problems := policy.NewCompiler(nil).Validate(tt.policy)
			for _, p := range problems {
				at := p.Field
				if p.Line > 0 {
					at = fmt.Sprintf("%s:%d:%d", p.Field, p.Line, p.Column)
				}
				if at == tt.at && strings.Contains(p.Message, tt.message) && !p.Warning {
					return
				}
			}
			t.Errorf("no %q at %s: %v", tt.message, tt.at, problems)
		})
	}
	// A rate that says nothing is an old mistake, so only a warning.
	problems := policy.NewCompiler(nil).Validate(action(`{requests: "3"}`))
	if len(problems) != 1 || problems[0].Check != "throttle-without-rate" || !problems[0].Warning || problems[0].Field != "rules[0].actions[1].parameters" {
		t.Errorf("problems: %v", problems)
	}
}

// What a module computes is known when it is judged; a limit that cannot be kept
// then is a failure of the policy, and never no limit.
func TestAComputedLimitThatCannotBeKeptFailsThePolicy(t *testing.T) {
	t.Parallel()
	p := &policyv1.Policy{Rego: module(`obligations contains {"type": "LIMIT", "rule_id": "r", "parameters": {"max": count(input.tool.names) - 1, "per": "hour"}}`)}
	if problems := policy.NewCompiler(nil).Validate(p); len(problems) != 1 || !problems[0].Warning { // its failure mode is not said
		t.Errorf("problems: %v", problems)
	}
	got := judged(t, p, "refund")
	if got.GetDecision() != governancev1.Decision_DECISION_DENY || got.GetResults()[0].GetOutcome() != policyenginev1.PolicyOutcome_POLICY_OUTCOME_FAILED {
		t.Errorf("got %v", got)
	}
}
