package policy_test

import (
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"
	"pgregory.net/rapid"

	configv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/config/v1"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"

	"github.com/fulcrum-io/fulcrum/services/policy-engine/internal/policy"
	"github.com/fulcrum-io/fulcrum/services/policy-engine/internal/workload"
)

// A condition means the same as a row of the table and as Rego.
func TestRowsAgreeWithRego(t *testing.T) {
	t.Parallel()
	rows, rules := policy.NewCompiler(nil), policy.NewCompiler(nil).WithoutRows()
	rapid.Check(t, func(t *rapid.T) {
		bundle := bundles().Draw(t, "bundle")
		compile := func(c *policy.Compiler) *policy.Set {
			set, err := c.Compile("t", bundle)
			if err != nil {
				t.Fatalf("a valid bundle does not compile: %v\n%s", err, protojson.Format(bundle))
			}
			return set
		}
		ours, theirs := compile(rows), compile(rules)
		for range questions {
			request := policy.Request{Facts: facts().Draw(t, "facts")}
			got, err := ours.Evaluate(t.Context(), request)
			if err != nil {
				t.Fatal(err)
			}
			want, err := theirs.Evaluate(t.Context(), request)
			if err != nil {
				t.Fatal(err)
			}
			if stoodStill(got) || stoodStill(want) {
				continue // TestEngineAgreesWithTheNaiveEvaluator asks again
			}
			if diff := cmp.Diff(summary(want), summary(got), cmpopts.EquateEmpty()); diff != "" {
				t.Fatalf("(-rego +rows)\n%s\nfacts %s\nbundle %s", diff, protojson.Format(request.Facts), protojson.Format(bundle))
			}
			for i, r := range got.GetResults() {
				if w := want.GetResults()[i]; w.GetError() != r.GetError() || len(w.GetReasons()) != len(r.GetReasons()) {
					t.Fatalf("policy %s: %q and %d reasons, in Rego %q and %d", r.GetPolicyId(), r.GetError(), len(r.GetReasons()), w.GetError(), len(w.GetReasons()))
				}
			}
		}
	})
}

// Rules that are found by the text of a fact are found among many, whether the
// fact is one text or a list, and are unsure when it is unknown.
func TestRowsAreFoundAmongMany(t *testing.T) {
	t.Parallel()
	var rules []*policyv1.PolicyRule
	for _, name := range []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j"} {
		for _, field := range []string{"tool.name", "tool.names", "user.roles"} {
			rules = append(rules, &policyv1.PolicyRule{
				RuleId: field + " " + name, Enabled: true, Conditions: []*policyv1.PolicyCondition{{Field: field, Value: text(name)}},
				Actions: []*policyv1.PolicyAction{{ActionType: policyv1.ActionType_ACTION_TYPE_DENY}},
			})
		}
	}
	b := &configv1.PolicyBundle{TenantId: "t", Version: 1, Policies: []*policyv1.Policy{{PolicyId: "p", Rules: rules}}}
	set, err := policy.NewCompiler(nil).Compile("t", b)
	if err != nil {
		t.Fatal(err)
	}
	f := workload.Call()
	f.ToolNames, f.UserRoles = []string{"c", "x", "h"}, []string{"i", "i"}
	got, err := set.Evaluate(t.Context(), policy.Request{Facts: f})
	if err != nil {
		t.Fatal(err)
	}
	found := summary(got).Policies[0].Rules
	if diff := cmp.Diff([]string{"tool.name c", "tool.names c", "tool.name h", "tool.names h", "user.roles i"}, found); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	f.UserRoles = nil
	if got, err = set.Evaluate(t.Context(), policy.Request{Facts: f}); err != nil {
		t.Fatal(err)
	}
	if r := got.GetResults()[0]; r.GetError() != `rule "user.roles a": user.roles is unknown` {
		t.Errorf("with no roles: %q", r.GetError())
	}
}

// What tells two tenants' rules apart may stand behind all that is said of them.
func TestTenantsShareOnlyWhatIsTheSame(t *testing.T) {
	t.Parallel()
	c, keep := policy.NewCompiler(nil), []*policy.Set{}
	matches := func(last *structpb.Value) bool {
		values := []*structpb.Value{structpb.NewStringValue(strings.Repeat("x", 300)), structpb.NewStringValue("a"), structpb.NewNumberValue(1), last}
		b := workload.Bundle("t", 1, []*policyv1.PolicyRule{{RuleId: "r", Enabled: true,
			Conditions: []*policyv1.PolicyCondition{{Field: "action.args.amount", ConditionType: policyv1.ConditionType_CONDITION_TYPE_IN_LIST,
				Value: &policyv1.PolicyCondition_ListValue{ListValue: listOf(values...)}}},
			Actions: []*policyv1.PolicyAction{{ActionType: policyv1.ActionType_ACTION_TYPE_DENY}}}})
		set, err := c.Compile("t", b)
		if err != nil {
			t.Fatal(err)
		}
		got, err := set.Evaluate(t.Context(), policy.Request{Facts: workload.Call()}) // whose amount is 120
		if err != nil {
			t.Fatal(err)
		}
		keep = append(keep, set) // a unit lasts as long as somebody holds it
		return got.GetDecision() == governancev1.Decision_DECISION_DENY
	}
	if matches(structpb.NewStringValue("120")) || !matches(structpb.NewNumberValue(120)) || matches(structpb.NewStringValue("120")) {
		t.Error("120 is \"120\"")
	}
	runtime.KeepAlive(keep)
}
