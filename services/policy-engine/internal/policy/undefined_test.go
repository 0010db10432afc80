package policy_test

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	policyenginev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policyengine/v1"

	"github.com/fulcrum-io/fulcrum/services/policy-engine/internal/policy"
	"github.com/fulcrum-io/fulcrum/services/policy-engine/internal/workload"
)

// values are what an agent can send for one argument, by their type; nil is
// nothing at all.
var values = map[string]*structpb.Value{
	"missing": nil,
	"null":    structpb.NewNullValue(),
	"boolean": structpb.NewBoolValue(true),
	"number":  structpb.NewNumberValue(5000),
	"text":    structpb.NewStringValue("5000"),
	"list":    structpb.NewListValue(&structpb.ListValue{Values: []*structpb.Value{structpb.NewStringValue("drop table"), structpb.NewNumberValue(5000)}}),
	"object":  structpb.NewStructValue(&structpb.Struct{Fields: map[string]*structpb.Value{"v": structpb.NewNumberValue(5000)}}),
}

// comparisons are every condition type with every operator it takes, on values
// of every type they can have, by the type they compare.
func comparisons() map[string]map[string]*policyv1.PolicyCondition {
	const arg = "action.args.v"
	all := map[string]map[string]*policyv1.PolicyCondition{"number": {}, "text": {}, "boolean": {}}
	add := func(kind string, c *policyv1.PolicyCondition) {
		c.Field = arg
		all[kind][fmt.Sprintf("%s %s %s", c.GetConditionType(), c.GetOperator(), kind)] = c
	}
	number := &policyv1.PolicyCondition_IntValue{IntValue: 1000}
	text := &policyv1.PolicyCondition_StringValue{StringValue: "drop"}
	boolean := &policyv1.PolicyCondition_BoolValue{BoolValue: false}
	numbers := &policyv1.PolicyCondition_ListValue{ListValue: &structpb.ListValue{Values: []*structpb.Value{structpb.NewNumberValue(1), structpb.NewNumberValue(1000)}}}
	for _, n := range policyv1.ConditionOperator_value {
		op := policyv1.ConditionOperator(n)
		for kind := range policyv1.ConditionType_name {
			c := &policyv1.PolicyCondition{ConditionType: policyv1.ConditionType(kind), Operator: op}
			with := func(kind string, change func(*policyv1.PolicyCondition)) {
				c := proto.CloneOf(c)
				if change(c); !slices.ContainsFunc(policy.NewCompiler(nil).Validate(denying(c)), func(p policy.Problem) bool { return !p.Warning }) {
					add(kind, c)
				}
			}
			with("number", func(c *policyv1.PolicyCondition) { c.Field, c.Value = arg, number })
			if op != 0 {
				with("number", func(c *policyv1.PolicyCondition) { c.Field, c.Value = arg, numbers })
			}
			with("text", func(c *policyv1.PolicyCondition) { c.Field, c.Value = arg, text })
			with("text", func(c *policyv1.PolicyCondition) { c.Field, c.Values = arg, []string{"drop", "table"} })
			with("boolean", func(c *policyv1.PolicyCondition) { c.Field, c.Value = arg, boolean })
		}
	}
	return all
}

// denying is a policy that denies when the conditions hold.
func denying(conditions ...*policyv1.PolicyCondition) *policyv1.Policy {
	return &policyv1.Policy{PolicyId: "p", Rules: []*policyv1.PolicyRule{{
		RuleId: "r", Enabled: true, Conditions: conditions,
		Actions: []*policyv1.PolicyAction{{ActionType: policyv1.ActionType_ACTION_TYPE_DENY}},
	}}}
}

// forms are the ways in which a deny rule can speak of c, and of nothing else
// that could decide it.
func forms(c *policyv1.PolicyCondition) map[string]*policyv1.Policy {
	logical := func(op policyv1.LogicalOperator, kids ...*policyv1.PolicyCondition) *policyv1.PolicyCondition {
		return &policyv1.PolicyCondition{ConditionType: policyv1.ConditionType_CONDITION_TYPE_LOGICAL, LogicalOperator: op, NestedConditions: kids}
	}
	isTrue := &policyv1.PolicyCondition{Field: "tool.name", Value: &policyv1.PolicyCondition_StringValue{StringValue: "send_email"}}
	isFalse := &policyv1.PolicyCondition{Field: "tool.name", Value: &policyv1.PolicyCondition_StringValue{StringValue: "another"}}
	negated := proto.CloneOf(c)
	negated.Negate = true
	return map[string]*policyv1.Policy{
		"alone":           denying(c),
		"negated":         denying(negated),
		"beside another":  denying(isTrue, c),
		"and":             denying(logical(policyv1.LogicalOperator_LOGICAL_OPERATOR_AND, isTrue, c)),
		"or":              denying(logical(policyv1.LogicalOperator_LOGICAL_OPERATOR_OR, isFalse, c)),
		"not":             denying(logical(policyv1.LogicalOperator_LOGICAL_OPERATOR_NOT, isFalse, c)),
		"twice":           denying(c, negated),
		"not of negation": denying(logical(policyv1.LogicalOperator_LOGICAL_OPERATOR_NOT, negated)),
	}
}

// No agent gets past a deny rule that looks for a spike where nobody knows what was
// before.
func TestAMissingHistoryIsNeverASilentAllow(t *testing.T) {
	t.Parallel()
	c := &policyv1.PolicyCondition{ConditionType: policyv1.ConditionType_CONDITION_TYPE_STATISTICAL_SPIKE, Field: "action.args.v"}
	for form, p := range forms(c) {
		for name, h := range map[string]*policyv1.FieldStatistics{
			"none": nil, "fewer than none": {Samples: -1}, "no mean": {Samples: 50, Mean: math.NaN()}, "no deviation": {Samples: 50, Deviation: math.NaN()},
			"an endless mean": {Samples: 50, Mean: math.Inf(1)}, "an endless deviation": {Samples: 50, Deviation: math.Inf(1)}, "a negative deviation": {Samples: 50, Deviation: -1},
		} {
			b := workload.Bundle("t", 1, nil)
			b.Policies = []*policyv1.Policy{p}
			set, err := policy.NewCompiler(nil).Compile("t", b)
			if err != nil {
				t.Fatal(err)
			}
			f := workload.Call()
			f.GetAction().GetArguments().GetFields()["v"] = structpb.NewNumberValue(5000)
			f.Statistics = map[string]*policyv1.FieldStatistics{"p another": {Samples: 100}}
			if h != nil {
				f.Statistics["p action.args.v"] = h
			}
			r, err := set.Evaluate(t.Context(), policy.Request{Facts: f})
			if err != nil {
				t.Fatal(err)
			}
			if r.GetDecision() != governancev1.Decision_DECISION_DENY || r.GetResults()[0].GetOutcome() != policyenginev1.PolicyOutcome_POLICY_OUTCOME_FAILED {
				t.Errorf("%s, %s: %v", form, name, r)
			}
		}
	}
}

// No agent gets past a deny rule by sending an argument in another type, or
// none: whatever the comparison and wherever it stands in a rule.
func TestAMistypedArgumentIsNeverASilentAllow(t *testing.T) {
	t.Parallel()
	compiler := policy.NewCompiler(nil)
	checked := 0
	for kind, all := range comparisons() {
		if len(all) < 2 {
			t.Errorf("only %d comparisons with a %s", len(all), kind)
		}
		for name, c := range all {
			for form, p := range forms(c) {
				b := workload.Bundle("t", 1, nil)
				b.Policies = []*policyv1.Policy{p}
				set, err := compiler.Compile("t", b)
				if err != nil {
					t.Fatal(err)
				}
				for sent, v := range values {
					if sent == kind {
						continue
					}
					checked++
					f := workload.Call()
					f.Statistics = map[string]*policyv1.FieldStatistics{"p action.args.v": {Samples: 100, Mean: 10, Deviation: 1}}
					if v == nil {
						delete(f.GetAction().GetArguments().GetFields(), "v")
					} else {
						f.GetAction().GetArguments().GetFields()["v"] = v
					}
					r, err := set.Evaluate(t.Context(), policy.Request{Facts: f})
					if err != nil {
						t.Fatal(err)
					}
					if r.GetDecision() != governancev1.Decision_DECISION_DENY {
						t.Errorf("%s, %s, sent %s: decided %s", name, form, sent, r.GetDecision())
					}
				}
			}
		}
	}
	if checked < 1000 {
		t.Errorf("only %d combinations", checked)
	}
}

// The functions for typed access do the same for Rego.
func TestTypedAccessInRegoIsNeverASilentAllow(t *testing.T) {
	t.Parallel()
	for kind, condition := range map[string]string{
		"number": `fulcrum.num(input, "action.args.v") > 1000000`, "text": `fulcrum.text(input, "action.args.v") == "drop"`,
		"boolean": `fulcrum.bool(input, "action.args.v") == false`, "list": `"x" in fulcrum.list(input, "action.args.v")`,
	} {
		for _, form := range []string{"%s", "not %s", "count([1 | %s]) == 7"} {
			set, err := policy.NewCompiler(nil).Compile("t", regoBundle("package fulcrum.policy\n\ndeny contains \"no\" if "+fmt.Sprintf(form, condition)))
			if err != nil {
				t.Fatal(err)
			}
			for sent, v := range values {
				if sent == kind {
					continue
				}
				f := workload.Call()
				if v != nil {
					f.GetAction().GetArguments().GetFields()["v"] = v
				}
				r, err := set.Evaluate(t.Context(), policy.Request{Facts: f})
				if err != nil {
					t.Fatal(err)
				}
				if result := r.GetResults()[0]; r.GetDecision() != governancev1.Decision_DECISION_DENY || result.GetOutcome() != policyenginev1.PolicyOutcome_POLICY_OUTCOME_FAILED {
					t.Errorf("%s, %s, sent %s: decided %s", condition, form, sent, r.GetDecision())
				}
			}
		}
	}
}
