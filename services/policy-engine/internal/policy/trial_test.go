package policy_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	configv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/config/v1"
	lifecyclev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policylifecycle/v1"

	"github.com/fulcrum-io/fulcrum/services/policy-engine/internal/policy"
)

const refunds = `
failure_mode: DENY
rules:
  - {rule_id: large, name: large refunds, conditions: [{field: tool.name, string_value: refund}, {field: action.args.amount, operator: GREATER_THAN, int_value: 100}],
     actions: [{action_type: REQUIRE_APPROVAL, message: a person must agree}, {action_type: NOTIFY}]}
  - {rule_id: night, conditions: [{field: tool.name, string_value: refund}, {field: time.hour, operator: LESS_THAN, int_value: 6}], actions: [{action_type: DENY}]}
tests:
`

const refundsRego = `
failure_mode: DENY
rego: |
  package fulcrum.policy

  require_approval contains {"rule_id": "large", "message": "a person must agree"} if {
    input.tool.name == "refund"
    fulcrum.num(input, "action.args.amount") > 100
  }

  deny contains "closed" if input.time.hour < 6
tests:
`

func try(t *testing.T, text string) (*lifecyclev1.TestPolicyResponse, []policy.Problem) {
	t.Helper()
	c := policy.NewCompiler(nil)
	set, err := c.Compile("t", &configv1.PolicyBundle{TenantId: "t", Version: 1, Settings: &configv1.TenantSettings{TimeZone: "Asia/Tokyo"}})
	if err != nil {
		t.Fatal(err)
	}
	return set.Try(t.Context(), c, policyOf(t, text))
}

func TestAPolicysTestsSayWhatDiffers(t *testing.T) {
	t.Parallel()
	action := func(amount string) string {
		return `action: {kind: TOOL_CALL, name: refund, arguments: {amount: ` + amount + `}}, time: "2026-11-29T03:00:00Z"` // noon in Tokyo
	}
	for _, tt := range []struct{ name, test, want string }{
		{"passes", `input: {` + action("500") + `}, want: {decision: DECISION_REQUIRE_APPROVAL, rules: [large], not_rules: [night], message: agree}`, ""},
		{"another decision", `input: {` + action("500") + `}, want: {decision: DECISION_DENY}`, "the decision is REQUIRE_APPROVAL, wanted DENY"},
		{"nothing decided counts as allow", `input: {` + action("5") + `}, want: {decision: DECISION_ALLOW}`, ""},
		{"nothing decided, said so", `input: {` + action("5") + `}, want: {undecided: true}`, ""},
		{"something decided", `input: {` + action("500") + `}, want: {undecided: true}`, "the policy decided REQUIRE_APPROVAL, wanted no decision"},
		{"a rule that does not match", `input: {` + action("5") + `}, want: {decision: DECISION_ALLOW, rules: [large]}`, `rule "large" did not match`},
		{"a rule that matches", `input: {` + action("500") + `}, want: {not_rules: [large]}`, `rule "large" matched`},
		{"another message", `input: {` + action("500") + `}, want: {message: never}`, `wanted "never" in it`},
		{"a missing argument fails the policy", `input: {action: {kind: TOOL_CALL, name: refund}, time: "2026-11-29T03:00:00Z"}, want: {decision: DECISION_DENY}`, "the policy failed: "},
		{"a failure that is wanted", `input: {action: {kind: TOOL_CALL, name: refund}, time: "2026-11-29T03:00:00Z"}, want: {decision: DECISION_DENY, failed: true}`, ""},
		{"a failure that does not happen", `input: {` + action("5") + `}, want: {failed: true}`, "the policy did not fail"},
		{"by the tenant's clock", `input: {action: {kind: TOOL_CALL, name: refund, arguments: {amount: 5}}, time: "2026-11-29T18:00:00Z"}, want: {decision: DECISION_DENY}`, ""},
	} {
		for form, text := range map[string]string{"rules": refunds, "rego": refundsRego} {
			if form == "rego" && strings.Contains(tt.test, "night") {
				continue
			}
			t.Run(tt.name+" in "+form, func(t *testing.T) {
				t.Parallel()
				report, problems := try(t, text+"  - {name: it, "+tt.test+"}\n")
				if report == nil {
					t.Fatal(problems)
				}
				r := report.GetResults()[0]
				if got := strings.Join(r.GetFailures(), "; "); (tt.want == "") != (got == "") || !strings.Contains(got, tt.want) ||
					r.GetPassed() != (tt.want == "") || report.GetPassed() != r.GetPassed() {
					t.Errorf("failures %q, passed %v; want %q", got, report.GetPassed(), tt.want)
				}
			})
		}
	}
}

func TestObligationsAreCompared(t *testing.T) {
	t.Parallel()
	const test = `  - {name: it, input: {action: {kind: TOOL_CALL, name: refund, arguments: {amount: 500}}, time: "2026-11-29T03:00:00Z"}, want: {obligations: [%]}}
`
	for _, tt := range []struct{ want, failure string }{{"NOTIFY", ""}, {"MODIFY", "the obligations are NOTIFY, wanted MODIFY"}} {
		report, problems := try(t, refunds+strings.Replace(test, "%", tt.want, 1))
		if report == nil || report.GetPassed() != (tt.failure == "") || strings.Join(report.GetResults()[0].GetFailures(), "") != tt.failure {
			t.Errorf("wanted %s: %v %v", tt.want, report, problems)
		}
	}
}

func TestCoverageNamesRulesThatNoTestReaches(t *testing.T) {
	t.Parallel()
	const one = `  - {name: it, input: {action: {kind: TOOL_CALL, name: refund, arguments: {amount: 500}}, time: "2026-11-29T03:00:00Z"}, want: {decision: DECISION_REQUIRE_APPROVAL}}
`
	report, problems := try(t, refunds+one)
	if report == nil {
		t.Fatal(problems)
	}
	want := &lifecyclev1.Coverage{Percent: 50, Rules: []*lifecyclev1.RuleCoverage{{RuleId: "large", Name: "large refunds", Hits: 1}, {RuleId: "night"}}}
	if diff := cmp.Diff(want, report.GetCoverage(), protocmp.Transform()); diff != "" {
		t.Errorf("rules (-want +got):\n%s", diff)
	}
	if report, problems = try(t, refundsRego+one); report == nil {
		t.Fatal(problems)
	}
	c := report.GetCoverage()
	want = &lifecyclev1.Coverage{Rules: []*lifecyclev1.RuleCoverage{{RuleId: "require_approval", Line: 3, Hits: 1}, {RuleId: "deny", Line: 8}}}
	if diff := cmp.Diff(want.GetRules(), c.GetRules(), protocmp.Transform()); diff != "" {
		t.Errorf("rego (-want +got):\n%s", diff)
	}
	if c.GetPercent() <= 0 || c.GetPercent() > 100 {
		t.Errorf("coverage: %v", c)
	}
}

func TestWhatDoesNotCompileIsNotTested(t *testing.T) {
	t.Parallel()
	report, problems := try(t, "rego: |\n  package fulcrum.policy\n\n  nonsense {{{\ntests: [{name: it, want: {decision: DECISION_ALLOW}}]")
	if report != nil || len(problems) == 0 || problems[0].Line == 0 {
		t.Errorf("%v %v", report, problems)
	}
}

// An AUDIT policy is tested for what it would decide.
func TestAShadowPolicyIsTestedForWhatItSays(t *testing.T) {
	t.Parallel()
	report, problems := try(t, "enforcement: AUDIT\nrules: [{rule_id: r, conditions: [{field: tool.name, string_value: x}], actions: [{action_type: DENY}]}]\n"+
		"tests: [{name: it, input: {tool_names: [x]}, want: {decision: DECISION_DENY, rules: [r]}}]")
	if report == nil || !report.GetPassed() {
		t.Errorf("%v %v", report, problems)
	}
}
