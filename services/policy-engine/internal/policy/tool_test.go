package policy_test

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/types/known/structpb"

	configv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/config/v1"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	policyenginev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policyengine/v1"

	"github.com/fulcrum-io/fulcrum/services/policy-engine/internal/policy"
)

// A call is held against the tool's schema before any policy, and a tool that
// nobody registered means what the tenant says; no policy weakens either.
func TestToolsAreCheckedBeforePolicies(t *testing.T) {
	t.Parallel()
	const allow, warn, ask, deny = governancev1.Decision_DECISION_ALLOW, governancev1.Decision_DECISION_WARN, governancev1.Decision_DECISION_REQUIRE_APPROVAL, governancev1.Decision_DECISION_DENY
	allows := &policyv1.Policy{PolicyId: "p", Rules: []*policyv1.PolicyRule{{RuleId: "r", Enabled: true, Actions: []*policyv1.PolicyAction{{ActionType: policyv1.ActionType_ACTION_TYPE_ALLOW}}}}}
	call := func(name string, args map[string]any) *policyenginev1.Facts {
		f := &policyenginev1.Facts{Action: &governancev1.Action{Kind: governancev1.ActionKind_ACTION_KIND_TOOL_CALL, Name: name}}
		if args != nil {
			s, err := structpb.NewStruct(args)
			if err != nil {
				t.Fatal(err)
			}
			f.Action.Arguments = s
		}
		return f
	}
	otherKind := call("mystery", nil)
	otherKind.Action.Kind = governancev1.ActionKind_ACTION_KIND_OTHER
	after := call("mystery", nil)
	after.Phase = policyv1.ExecutionPhase_EXECUTION_PHASE_POST_TOOL_CALL
	model := &policyenginev1.Facts{Action: &governancev1.Action{Kind: governancev1.ActionKind_ACTION_KIND_LLM_CALL, Name: "gpt-4o"}}
	for _, tt := range []struct {
		name    string
		unknown governancev1.Decision
		facts   *policyenginev1.Facts
		want    governancev1.Decision
		rule    string
	}{
		{"fits", deny, call("pay", map[string]any{"amount": 1.0}), allow, ""},
		{"mistyped", allow, call("pay", map[string]any{"amount": "1"}), deny, "arguments"},
		{"null", allow, call("pay", map[string]any{"amount": nil}), deny, "arguments"},
		{"missing", allow, call("pay", map[string]any{}), deny, "arguments"},
		{"no arguments", allow, call("pay", nil), deny, "arguments"},
		{"takes anything", deny, call("echo", map[string]any{"x": 1.0}), allow, ""},
		{"unknown, no setting", governancev1.Decision_DECISION_UNSPECIFIED, call("mystery", nil), allow, ""},
		{"unknown, allowed", allow, call("mystery", nil), allow, ""},
		{"unknown, warned of", warn, call("mystery", nil), warn, "unknown_tool"},
		{"unknown, asked for", ask, call("mystery", nil), ask, "unknown_tool"},
		{"unknown, denied", deny, call("mystery", nil), deny, "unknown_tool"},
		{"unknown, under another kind", deny, otherKind, deny, "unknown_tool"},
		{"without a name", deny, &policyenginev1.Facts{Phase: policyv1.ExecutionPhase_EXECUTION_PHASE_PRE_TOOL_CALL}, deny, "unknown_tool"},
		{"after the call", deny, after, allow, ""},
		{"a model call", deny, model, allow, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			set, err := policy.NewCompiler(nil).Compile("t", &configv1.PolicyBundle{
				TenantId: "t", Version: 1, Policies: []*policyv1.Policy{allows},
				Settings: &configv1.TenantSettings{UnknownTool: tt.unknown, FailOpen: true},
				Tools:    []*configv1.ToolSchema{{Name: "pay", InputSchema: `{"required":["amount"],"properties":{"amount":{"type":"number"}}}`}, {Name: "echo"}},
			})
			if err != nil {
				t.Fatal(err)
			}
			r, err := set.Evaluate(t.Context(), policy.Request{Facts: tt.facts})
			if err != nil {
				t.Fatal(err)
			}
			if r.GetDecision() != tt.want || tt.rule != "" && r.GetReasons()[0].GetRuleId() != tt.rule {
				t.Errorf("decided %s by %v", r.GetDecision(), r.GetReasons())
			}
		})
	}
}

func TestASchemaThatCannotBeUsedDeniesItsTool(t *testing.T) {
	t.Parallel()
	set, err := policy.NewCompiler(nil).Compile("t", &configv1.PolicyBundle{
		TenantId: "t", Version: 1, Tools: []*configv1.ToolSchema{{Name: "pay", InputSchema: `{"type":"moneyy"}`}},
	})
	if err == nil || !strings.Contains(err.Error(), "tool pay: input_schema") {
		t.Errorf("Compile: %v", err)
	}
	r, err := set.Evaluate(t.Context(), policy.Request{Facts: &policyenginev1.Facts{Action: &governancev1.Action{Name: "pay"}}})
	if err != nil || r.GetDecision() != governancev1.Decision_DECISION_DENY {
		t.Errorf("Evaluate: %v, %v", r, err)
	}
}
