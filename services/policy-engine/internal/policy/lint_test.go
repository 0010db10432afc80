package policy_test

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
	"sigs.k8s.io/yaml"

	configv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/config/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"

	"github.com/fulcrum-io/fulcrum/services/policy-engine/internal/policy"
)

// policyOf reads a policy written short in YAML.
func policyOf(t *testing.T, text string) *policyv1.Policy {
	t.Helper()
	var tree map[string]any
	if err := yaml.Unmarshal([]byte(text), &tree); err != nil {
		t.Fatal(err)
	}
	p := &policyv1.Policy{}
	decode(t, tree, p)
	return p
}

func TestLintFindsWhatIsNotMeant(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, policy, want string }{
		{"a rule behind a terminal one that always matches", `
failure_mode: DENY
rules:
  - {rule_id: all, priority: 9, actions: [{action_type: ALLOW, terminal: true}]}
  - {rule_id: late, conditions: [{field: tool.name, string_value: x}], actions: [{action_type: DENY}]}`,
			`rules[1] late unreachable-rule: is never reached: rule "all"`},
		{"a rule behind a terminal one with fewer conditions", `
rules:
  - {rule_id: wide, conditions: [{field: tool.name, string_value: x}], actions: [{action_type: WARN, terminal: true}]}
  - {rule_id: narrow, conditions: [{field: agent.id, string_value: a}, {field: tool.name, string_value: x}], actions: [{action_type: DENY}]}`,
			`rules[1] narrow shadowed-rule: is never reached`},
		{"a weaker rule beside a wider stronger one", `
rules:
  - {rule_id: wide, conditions: [{field: tool.name, string_value: x}], actions: [{action_type: DENY}]}
  - {rule_id: narrow, conditions: [{field: tool.name, string_value: x}, {field: agent.id, string_value: a}], actions: [{action_type: WARN}]}`,
			`rules[1] narrow shadowed-rule: changes nothing`},
		{"a denial of two names at once", `
rules: [{rule_id: r, conditions: [{field: tool.name, string_value: x}, {field: tool.name, string_value: w}], actions: [{action_type: DENY}]}]`,
			`rules[0].conditions r never-matches: this denial can never match: no tool.name is EQUALS "x" and EQUALS "w" at once`},
		{"an empty range", `
rules: [{rule_id: r, conditions: [{field: time.hour, operator: GREATER_THAN, int_value: 20}, {field: time.hour, operator: LESS_THAN, int_value: 6}], actions: [{action_type: WARN}]}]`,
			`rules[0].conditions r never-matches: the rule can never match`},
		{"alternatives that all fail", `
rules: [{rule_id: r, conditions: [{field: model.id, string_value: a}, {condition_type: LOGICAL, logical_operator: OR, nested_conditions: [{field: model.id, string_value: b}, {field: model.id, operator: NOT_IN, values: [a, c]}]}], actions: [{action_type: DENY}]}]`,
			`rules[0].conditions r never-matches`},
		{"a prefix that the value has not", `
rules: [{rule_id: r, conditions: [{field: tool.name, string_value: send}, {condition_type: STARTS_WITH, field: tool.name, string_value: read}], actions: [{action_type: DENY}]}]`,
			`rules[0].conditions r never-matches`},
		{"a model that the scope leaves out", `
scope: {model_ids: [a]}
rules: [{rule_id: r, conditions: [{field: model.id, string_value: b}], actions: [{action_type: DENY}]}]`,
			`rules[0].conditions r never-matches: this denial can never match: no model.id is in the policy's scope and EQUALS "b" at once`},
		{"a denial of everything", `rules: [{rule_id: r, actions: [{action_type: DENY}]}]`, `rules[0] r denies-everything`},
		{"no action", `rules: [{rule_id: r, conditions: [{field: tool.name, string_value: x}], actions: []}]`, `rules[0].actions r no-actions`},
		{"nothing enabled", `rules: [{rule_id: r, enabled: false, actions: [{action_type: DENY}]}]`, `rules  nothing-enabled`},
		{"the same condition twice", `
rules: [{rule_id: r, conditions: [{field: tool.name, string_value: x}, {field: tool.name, string_value: x}], actions: [{action_type: DENY}]}]`,
			`rules[0].conditions[1] r duplicate-condition`},
		{"no failure mode for what a caller may leave out", `
rules: [{rule_id: r, conditions: [{field: action.args.amount, operator: GREATER_THAN, int_value: 5}], actions: [{action_type: DENY}]}]`,
			`failure_mode  missing-failure-mode`},
		{"a denial that only warns", `
enforcement: WARN
rules: [{rule_id: r, conditions: [{field: tool.name, string_value: x}], actions: [{action_type: DENY}]}]`,
			`enforcement  deny-is-weakened: rule "r" denies, and at this level that only warns`},
		{"rego: a field that does not exist", "rego: |\n  package fulcrum.policy\n\n  deny contains \"x\" if input.tool.nmae == \"y\"\n", `rego:3:22  unknown-field: input.tool.nmae does not exist`},
		{"rego: a rule that nothing uses", "rego: |\n  package fulcrum.policy\n\n  deny contains \"x\" if input.tool.name == \"y\"\n\n  helper if input.agent.id == \"a\"\n", `rego:5:1  unused-rule: helper`},
		{"rego: two names at once", "rego: |\n  package fulcrum.policy\n\n  deny contains \"x\" if {\n    input.tool.name == \"y\"\n    \"z\" == input.tool.name\n  }\n", `rego:5:3  never-matches`},
		{"rego: never", "rego: |\n  package fulcrum.policy\n\n  deny contains \"x\" if {\n    false\n  }\n", `rego:4:3  never-matches`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var all []string
			for _, p := range policy.NewCompiler(nil).Validate(policyOf(t, tt.policy)) {
				at := p.Field
				if p.Line > 0 {
					at = fmt.Sprintf("%s:%d:%d", p.Field, p.Line, p.Column)
				}
				line := fmt.Sprintf("%s %s %s: %s", at, p.Rule, p.Check, p.Message)
				if strings.HasPrefix(line, tt.want) && p.Warning {
					return
				}
				all = append(all, line)
			}
			t.Errorf("no %q in:\n%s", tt.want, strings.Join(all, "\n"))
		})
	}
}

func TestLintIsSilentOnWhatIsMeant(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"several roles at once":         `rules: [{rule_id: r, conditions: [{field: user.roles, string_value: x}, {field: user.roles, string_value: w}], actions: [{action_type: DENY}]}]`,
		"office hours":                  `rules: [{rule_id: r, conditions: [{field: time.hour, operator: GREATER_EQUAL, int_value: 9}, {field: time.hour, operator: LESS_THAN, int_value: 17}], actions: [{action_type: WARN}]}]`,
		"a later rule that is stronger": `rules: [{rule_id: a, conditions: [{field: tool.name, string_value: x}], actions: [{action_type: WARN}]}, {rule_id: b, conditions: [{field: tool.name, string_value: x}, {field: agent.id, string_value: z}], actions: [{action_type: DENY}]}]`,
		"a helper and any argument":     "failure_mode: DENY\nrego: |\n  package fulcrum.policy\n\n  deny contains \"x\" if big\n\n  big if fulcrum.num(input, \"action.args.amount\") > 3\n\n  warn contains \"y\" if input.attribute.region == \"eu\"\n\n  warn contains \"z\" if input.budget[\"team\"].used_percent > 80\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if problems := policy.NewCompiler(nil).Validate(policyOf(t, text)); len(problems) > 0 {
				t.Errorf("problems: %v", problems)
			}
		})
	}
}

// What lint says never matches never does, on any policies and facts.
func TestWhatNeverMatchesNeverDoes(t *testing.T) {
	t.Parallel()
	compiler := policy.NewCompiler(nil)
	said := 0
	rapid.Check(t, func(t *rapid.T) {
		b := bundles().Draw(t, "bundle")
		for _, p := range b.GetPolicies() {
			never := map[string]bool{}
			for _, problem := range compiler.Validate(p) {
				if problem.Check == "never-matches" || problem.Check == "unreachable-rule" {
					never[problem.Rule] = true
				}
			}
			if len(never) == 0 {
				continue
			}
			said++
			set, err := compiler.Compile(b.GetTenantId(), &configv1.PolicyBundle{TenantId: b.GetTenantId(), Version: 1, Policies: []*policyv1.Policy{p}})
			if set == nil {
				t.Fatal(err)
			}
			for range 5 {
				got, err := set.Evaluate(t.Context(), policy.Request{Facts: facts().Draw(t, "facts")})
				if err != nil {
					t.Fatal(err)
				}
				for _, r := range got.GetResults() {
					for _, m := range r.GetMatchedRules() {
						if r.GetPolicyId() == p.GetPolicyId() && never[m.GetRuleId()] {
							t.Fatalf("rule %q matched: %v", m.GetRuleId(), p)
						}
					}
				}
			}
		}
	})
	t.Logf("%d policies with such rules", said)
}
