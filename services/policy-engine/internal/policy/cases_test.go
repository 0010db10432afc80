package policy_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"sigs.k8s.io/yaml"

	configv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/config/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	policyenginev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policyengine/v1"

	"github.com/fulcrum-io/fulcrum/services/policy-engine/internal/policy"
)

// suite is a file of testdata/cases. Messages are written as in JSON, enum
// values without their prefix; rules are enabled unless they say otherwise.
type suite struct {
	Policies []any          `json:"policies"`
	Settings map[string]any `json:"settings"`
	Facts    map[string]any `json:"facts"`
	Cases    []testcase     `json:"cases"`
}

// testcase overrides what it states of its suite: policies and settings as a
// whole, facts one by one, null taking a fact away.
type testcase struct {
	Name       string         `json:"name"`
	Policies   []any          `json:"policies"`
	Rules      []any          `json:"rules"`      // short for one policy "p" with these rules
	Conditions []any          `json:"conditions"` // short for one rule "r" that denies under these
	Rego       string         `json:"rego"`       // short for one policy "p" with this text
	Settings   map[string]any `json:"settings"`
	Facts      map[string]any `json:"facts"`
	Only       []string       `json:"only"`
	StopOnDeny bool           `json:"stop_on_deny"`
	Want       want           `json:"want"`
}

type want struct {
	Decision    string            `json:"decision"`
	Defaulted   *bool             `json:"defaulted"`
	Terminate   bool              `json:"terminate"`
	Rules       []string          `json:"rules"`    // of all policies that matched, if given
	Outcomes    map[string]string `json:"outcomes"` // by policy, if given
	Decisions   map[string]string `json:"decisions"`
	Error       string            `json:"error"`    // within the error of some policy
	Reason      string            `json:"reason"`   // within the message of the first reason
	Severity    string            `json:"severity"` // of the first reason
	Obligations []string          `json:"obligations"`
	Quorum      int32             `json:"quorum"`
	Roles       []string          `json:"roles"`
	TTL         int64             `json:"ttl"`
}

func TestDecisionCases(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/cases/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal("no cases", err)
	}
	total := 0
	for _, file := range files {
		s := readSuite(t, file)
		total += len(s.Cases)
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			t.Parallel()
			for _, c := range s.Cases {
				t.Run(c.Name, func(t *testing.T) { s.check(t, c) })
			}
		})
	}
	t.Logf("%d cases in %d files", total, len(files))
}

func readSuite(t *testing.T, file string) suite {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var s suite
	if err := yaml.UnmarshalStrict(raw, &s); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return s
}

func (s suite) check(t *testing.T, c testcase) {
	t.Helper()
	bundle, request := s.build(t, c)
	got := evaluateUnhurried(t, bundle, request)
	c.Want.check(t, got)
	if t.Failed() {
		t.Logf("answer: %s", protojson.Format(got))
	}
	if c.Rego == "" && !slices.ContainsFunc(bundle.GetPolicies(), hasRego) {
		if diff := cmp.Diff(naive(bundle, request), summary(got)); diff != "" {
			t.Errorf("the naive evaluator disagrees (-naive +engine):\n%s", diff)
		}
	}
}

// unhurried is a test, or a case of a property.
type unhurried interface {
	Helper()
	Fatal(args ...any)
	Context() context.Context
}

// evaluateUnhurried compiles and evaluates again what ran into its deadline: no
// case takes long, so the machine stood still. A policy that is compiled anew has
// no timeouts to its name.
func evaluateUnhurried(t unhurried, b *configv1.PolicyBundle, r policy.Request) *policyenginev1.EvaluateResponse {
	t.Helper()
	for attempt := 1; ; attempt++ {
		set, err := policy.NewCompiler(nil).Compile("t", b)
		if set == nil {
			t.Fatal("Compile:", err)
		}
		got, err := set.Evaluate(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		if !stoodStill(got) || attempt == 20 {
			return got
		}
	}
}

// stoodStill reports whether some policy was given up.
func stoodStill(got *policyenginev1.EvaluateResponse) bool {
	return slices.ContainsFunc(got.GetResults(), func(r *policyenginev1.PolicyResult) bool {
		return strings.Contains(r.GetError(), policy.TookTooLong)
	})
}

func hasRego(p *policyv1.Policy) bool { return p.GetRego() != "" }

func (s suite) build(t *testing.T, c testcase) (*configv1.PolicyBundle, policy.Request) {
	t.Helper()
	policies := s.Policies
	switch {
	case c.Policies != nil:
		policies = c.Policies
	case c.Rules != nil:
		policies = []any{map[string]any{"policy_id": "p", "rules": c.Rules}}
	case c.Conditions != nil:
		policies = []any{map[string]any{"policy_id": "p", "rules": []any{map[string]any{
			"rule_id": "r", "conditions": c.Conditions, "actions": []any{map[string]any{"action_type": "DENY"}},
		}}}}
	case c.Rego != "":
		policies = []any{map[string]any{"policy_id": "p", "rego": c.Rego}}
	}
	settings := s.Settings
	if c.Settings != nil {
		settings = c.Settings
	}
	facts := map[string]any{}
	for _, from := range []map[string]any{s.Facts, c.Facts} {
		for k, v := range from {
			if facts[k] = v; v == nil {
				delete(facts, k)
			}
		}
	}
	bundle := &configv1.PolicyBundle{}
	decode(t, map[string]any{"tenant_id": "t", "version": 1, "policies": policies, "settings": settings}, bundle)
	f := &policyenginev1.Facts{}
	decode(t, facts, f)
	return bundle, policy.Request{Facts: f, Only: c.Only, StopOnDeny: c.StopOnDeny}
}

// prefixes of the enum values that cases write short, by the field they stand in.
var prefixes = map[string]string{
	"condition_type": "CONDITION_TYPE_", "operator": "CONDITION_OPERATOR_", "logical_operator": "LOGICAL_OPERATOR_",
	"action_type": "ACTION_TYPE_", "severity": "SEVERITY_LEVEL_", "enforcement": "ENFORCEMENT_LEVEL_",
	"status": "POLICY_STATUS_", "phase": "EXECUTION_PHASE_", "phases": "EXECUTION_PHASE_", "kind": "ACTION_KIND_",
	"failure_mode": "FAILURE_MODE_", "default_decision": "DECISION_",
}

// decode reads a message written short.
func decode(t *testing.T, v any, into proto.Message) {
	t.Helper()
	raw, err := json.Marshal(lengthen("", v))
	if err != nil {
		t.Fatal(err)
	}
	if err := protojson.Unmarshal(raw, into); err != nil {
		t.Fatalf("%v in %s", err, raw)
	}
}

func lengthen(field string, v any) any {
	switch v := v.(type) {
	case string:
		return prefixes[field] + v
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = lengthen(field, e)
		}
		return out
	case map[string]any:
		out := map[string]any{}
		for k, e := range v {
			if k == "arguments" || k == "extra" || k == "attributes" || k == "parameters" || k == "list_value" || k == "statistics" {
				out[k] = e
				continue
			}
			out[k] = lengthen(k, e)
		}
		if _, isRule := v["actions"]; isRule {
			if _, given := v["enabled"]; !given {
				out["enabled"] = true
			}
		}
		return out
	}
	return v
}

func (w want) check(t *testing.T, got *policyenginev1.EvaluateResponse) {
	t.Helper()
	equal := func(what string, want, got any) {
		t.Helper()
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	equal("decision", "DECISION_"+w.Decision, got.GetDecision().String())
	if w.Defaulted != nil {
		equal("defaulted", *w.Defaulted, got.GetDefaulted())
	}
	equal("terminate", w.Terminate, got.GetTerminateEnvelope())
	sum := summary(got)
	if w.Rules != nil {
		rules := []string{}
		for _, p := range sum.Policies {
			rules = append(rules, p.Rules...)
		}
		equal("matched rules", w.Rules, rules)
	}
	outcomes, decisions, failure := map[string]string{}, map[string]string{}, ""
	for _, r := range got.GetResults() {
		outcomes[r.GetPolicyId()] = strings.TrimPrefix(r.GetOutcome().String(), "POLICY_OUTCOME_")
		decisions[r.GetPolicyId()] = strings.TrimPrefix(r.GetDecision().String(), "DECISION_")
		failure += r.GetError() + "\n"
	}
	if w.Outcomes != nil {
		equal("outcomes", w.Outcomes, outcomes)
	}
	if w.Decisions != nil {
		equal("decisions of policies", w.Decisions, decisions)
	}
	if !strings.Contains(failure, w.Error) {
		t.Errorf("no error contains %q:\n%s", w.Error, failure)
	}
	if w.Reason != "" && (len(got.GetReasons()) == 0 || !strings.Contains(got.GetReasons()[0].GetMessage(), w.Reason)) {
		t.Errorf("the first reason does not contain %q", w.Reason)
	}
	if w.Severity != "" {
		equal("severity", w.Severity, got.GetReasons()[0].GetSeverity())
	}
	if w.Obligations != nil {
		equal("obligations", w.Obligations, sum.Duties)
	}
	if w.Quorum != 0 {
		equal("quorum", w.Quorum, got.GetApprovalQuorum())
		equal("roles", w.Roles, got.GetApprovalRoles())
		equal("ttl", w.TTL, got.GetApprovalTtlSeconds())
	}
}

// summary is an answer in the form of the naive evaluator's.
func summary(a *policyenginev1.EvaluateResponse) naiveResult {
	out := naiveResult{
		Decision: a.GetDecision(), Defaulted: a.GetDefaulted(), Terminate: a.GetTerminateEnvelope(),
		Quorum: a.GetApprovalQuorum(), Roles: a.GetApprovalRoles(), TTL: a.GetApprovalTtlSeconds(),
	}
	for _, r := range a.GetResults() {
		p := naivePolicy{
			ID: r.GetPolicyId(), Decision: r.GetDecision(),
			Outcome: strings.TrimPrefix(r.GetOutcome().String(), "POLICY_OUTCOME_"),
		}
		if p.ID != "envelope" {
			for _, m := range r.GetMatchedRules() {
				p.Rules = append(p.Rules, m.GetRuleId())
			}
		}
		out.Policies = append(out.Policies, p)
	}
	for _, o := range a.GetObligations() {
		out.Duties = append(out.Duties, o.GetType())
	}
	return out
}
