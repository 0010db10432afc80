package policy_test

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	configv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/config/v1"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	policyenginev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policyengine/v1"

	"github.com/fulcrum-io/fulcrum/services/policy-engine/internal/policy"
)

// What others say is a fact: asked for once, before the evaluation, and unknown
// when it did not come.
func TestAnswersFromOutsideAreFacts(t *testing.T) {
	t.Parallel()
	ask := &policyv1.PolicyCondition{ConditionType: policyv1.ConditionType_CONDITION_TYPE_SEMANTIC, SemanticIntent: "asks for secrets"}
	call := &policyv1.PolicyCondition{ConditionType: policyv1.ConditionType_CONDITION_TYPE_EXTERNAL_CALL, Value: &policyv1.PolicyCondition_StringValue{StringValue: "https://checks.example/x"}}
	negated := proto.CloneOf(ask)
	negated.Negate = true
	other := denying(ask)
	other.PolicyId, other.Scope = "elsewhere", &policyv1.PolicyScope{AgentIds: []string{"another"}}
	for _, tt := range []struct {
		name  string
		with  []*policyv1.PolicyCondition
		say   []bool // to the questions, in order; none: no answers
		want  governancev1.Decision
		asked int
	}{
		{"yes", []*policyv1.PolicyCondition{ask}, []bool{true}, governancev1.Decision_DECISION_DENY, 1},
		{"no", []*policyv1.PolicyCondition{ask}, []bool{false}, governancev1.Decision_DECISION_ALLOW, 1},
		{"nothing", []*policyv1.PolicyCondition{ask}, nil, governancev1.Decision_DECISION_DENY, 1},
		{"no, negated", []*policyv1.PolicyCondition{negated}, []bool{false}, governancev1.Decision_DECISION_DENY, 1},
		{"nothing, negated", []*policyv1.PolicyCondition{negated}, nil, governancev1.Decision_DECISION_DENY, 1},
		{"asked once", []*policyv1.PolicyCondition{ask, ask}, []bool{true}, governancev1.Decision_DECISION_DENY, 1},
		{"both", []*policyv1.PolicyCondition{ask, call}, []bool{true, true}, governancev1.Decision_DECISION_DENY, 2},
		{"one of both", []*policyv1.PolicyCondition{ask, call}, []bool{true, false}, governancev1.Decision_DECISION_ALLOW, 2},
		{"a false one decides", []*policyv1.PolicyCondition{ask, {Field: "agent.id", Value: text("nobody")}}, nil, governancev1.Decision_DECISION_ALLOW, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := policy.NewCompiler(nil).WithBackends(policy.Backends{Semantic: true, External: true})
			set, err := c.Compile("t", &configv1.PolicyBundle{TenantId: "t", Version: 1, Policies: []*policyv1.Policy{denying(tt.with...), other}})
			if err != nil {
				t.Fatal(err)
			}
			r := policy.Request{Facts: &policyenginev1.Facts{AgentId: "a", InputText: proto.String("what is the password?")}, Answers: policy.Answers{}}
			questions := set.Questions(r)
			if len(questions) != tt.asked || questions[0].Text != "what is the password?" {
				t.Fatalf("questions: %v", questions)
			}
			for i, yes := range tt.say {
				r.Answers[questions[i].Key()] = yes
			}
			got, err := set.Evaluate(t.Context(), r)
			if err != nil {
				t.Fatal(err)
			}
			if got.GetDecision() != tt.want {
				t.Errorf("decided %s: %v", got.GetDecision(), got.GetResults())
			}
		})
	}
}

func TestConditionsThatAskAreChecked(t *testing.T) {
	t.Parallel()
	c := policy.NewCompiler(nil).WithBackends(policy.Backends{Semantic: true, External: true})
	external := func(url string) *policyv1.PolicyCondition {
		return &policyv1.PolicyCondition{ConditionType: policyv1.ConditionType_CONDITION_TYPE_EXTERNAL_CALL, Value: text(url)}
	}
	many := make([]*policyv1.PolicyCondition, 17)
	for i := range many {
		many[i] = external("https://x.example/" + strings.Repeat("a", i))
	}
	for want, conditions := range map[string][]*policyv1.PolicyCondition{
		"needs a semantic_intent":        {{ConditionType: policyv1.ConditionType_CONDITION_TYPE_SEMANTIC}},
		"only a string":                  {{ConditionType: policyv1.ConditionType_CONDITION_TYPE_SEMANTIC, SemanticIntent: "x", Field: "time.hour"}},
		"https URL":                      {external("http://x.example/")},
		"https URL without a user":       {external("https://u:p@x.example/")},
		"at most 16":                     many,
		`unknown field "no.such.things"`: {{ConditionType: policyv1.ConditionType_CONDITION_TYPE_SEMANTIC, SemanticIntent: "x", Field: "no.such.things"}},
	} {
		found := false
		for _, p := range c.Validate(denying(conditions...)) {
			found = found || strings.Contains(p.Message, want)
		}
		if !found {
			t.Errorf("%q is not said of %v", want, conditions)
		}
	}
}
