package policy

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"google.golang.org/protobuf/types/known/structpb"

	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	policyenginev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policyengine/v1"
)

// view reads one request's facts by field.
type view struct {
	facts  *policyenginev1.Facts
	tenant string
	phase  policyv1.ExecutionPhase
	moment moment
	model  string
	tools  []string
	local  time.Time // in the tenant's zone; zero when the time is unknown

	answers Answers
}

func (s *Set) view(f *policyenginev1.Facts) *view {
	v := &view{facts: f, tenant: s.tenant, phase: f.GetPhase(), model: f.GetModelId(), tools: f.GetToolNames()}
	a := f.GetAction()
	llm := a.GetKind() == governancev1.ActionKind_ACTION_KIND_LLM_CALL
	if v.model == "" {
		v.model = a.GetModel()
	}
	switch {
	case llm && v.model == "":
		v.model = a.GetName()
	case !llm && len(v.tools) == 0 && a.GetName() != "":
		// Whatever kind an agent says it is, its name is what rules forbid.
		v.tools = []string{a.GetName()}
	}
	if v.phase == policyv1.ExecutionPhase_EXECUTION_PHASE_UNSPECIFIED && a != nil {
		v.phase = policyv1.ExecutionPhase_EXECUTION_PHASE_PRE_TOOL_CALL
		if llm {
			v.phase = policyv1.ExecutionPhase_EXECUTION_PHASE_PRE_LLM_CALL
		}
	}
	v.moment = momentOf(v.phase, f)
	if f.GetTimeUnixNano() != 0 {
		v.local = time.Unix(0, f.GetTimeUnixNano()).In(s.zone)
	}
	return v
}

// state is what is known of a needed fact.
type state uint8

const (
	known state = iota
	unknown
	inapplicable
)

// value returns the fact in a kind that n can use. tool is the one tool that is
// being judged.
func (v *view) value(n need, tool string) (*ast.Term, state) {
	if n.kinds == 0 {
		return nil, unknown
	}
	t := v.lookup(n, tool)
	if t != nil && n.spike != (spike{}) {
		if t = v.spiking(n, t); t == nil {
			return nil, unknown
		}
	}
	switch {
	case t != nil:
		return t, known
	case v.absent(n.field.source) && !v.moment.has(n.field.source):
		return nil, inapplicable
	}
	return nil, unknown
}

// absent is whether nothing at all was given for s, rather than something that
// does not compare.
func (v *view) absent(s source) bool {
	if s == actionArg {
		return v.facts.GetAction().GetArguments() == nil
	}
	return true
}

func (v *view) lookup(n need, tool string) *ast.Term {
	f := v.facts
	switch n.field.source {
	case userID:
		return textTerm(f.GetUserId())
	case userRoles:
		return textsTerm(f.GetUserRoles())
	case modelID:
		return textTerm(v.model)
	case toolName:
		return textTerm(tool)
	case toolNames:
		return textsTerm(v.tools)
	case workflowID:
		return textTerm(f.GetWorkflowId())
	case tenantID:
		return textTerm(v.tenant)
	case envelopeID:
		return textTerm(f.GetEnvelopeId())
	case phaseType:
		if v.phase == policyv1.ExecutionPhase_EXECUTION_PHASE_UNSPECIFIED {
			return nil
		}
		return textTerm(short(v.phase))
	case inputText:
		return givenText(f.InputText)
	case outputText:
		return givenText(f.OutputText)
	case agentID:
		return textTerm(f.GetAgentId())
	case agentTeam:
		return textTerm(f.GetAgentTeam())
	case actionKind:
		if f.GetAction().GetKind() == governancev1.ActionKind_ACTION_KIND_UNSPECIFIED {
			return nil
		}
		return textTerm(short(f.GetAction().GetKind()))
	case actionName:
		return textTerm(f.GetAction().GetName())
	case actionResource:
		return textTerm(f.GetAction().GetResource())
	case outside:
		if yes, ok := v.answers[n.field.key]; ok {
			return ast.InternedTerm(yes)
		}
	case actionArg:
		return jsonTerm(follow(f.GetAction().GetArguments(), n.field.key), n)
	case attribute:
		if s, ok := f.GetAttributes()[n.field.key]; ok {
			return attributeTerm(s, n)
		}
		return jsonTerm(follow(f.GetExtra(), n.field.key), n)
	case budgetUsed:
		if p, ok := f.GetBudgetUsedPercent()[n.field.key]; ok {
			t, _ := floatTerm(p)
			return t
		}
	case budgetLeft:
		if usd, ok := f.GetBudgetRemainingUsd()[n.field.key]; ok {
			t, _ := floatTerm(usd)
			return t
		}
	case history:
		if n, ok := f.GetHistory()[n.field.key]; ok {
			t, _ := floatTerm(n)
			return t
		}
	case timeHour:
		if !v.local.IsZero() {
			return intTerm(int64(v.local.Hour()))
		}
	case timeWeekday:
		if !v.local.IsZero() {
			return weekdayTerm(v.local.Weekday(), n)
		}
	default:
		return estimateTerm(f.GetEstimate(), n.field.source)
	}
	return nil
}

func weekdayTerm(d time.Weekday, n need) *ast.Term {
	if n.kinds&text != 0 {
		return ast.StringTerm(strings.ToLower(d.String()))
	}
	return intTerm(int64(d+6)%7 + 1) // Monday is 1
}

func estimateTerm(e *governancev1.Estimate, s source) *ast.Term {
	if e == nil {
		return nil
	}
	switch s {
	case estimateCost:
		t, _ := floatTerm(e.GetCostUsd())
		return t
	case estimateTokens:
		return intTerm(saturated(e.GetInputTokens(), e.GetMaxOutputTokens()))
	case estimateInput:
		return intTerm(e.GetInputTokens())
	case estimateOutput:
		return intTerm(e.GetMaxOutputTokens())
	case estimateCalls:
		return intTerm(e.GetToolCalls())
	case estimateSeconds:
		return intTerm(e.GetSeconds())
	}
	return nil
}

func saturated(a, b int64) int64 {
	if a > math.MaxInt64-max(b, 0) {
		return math.MaxInt64
	}
	return a + b
}

// textTerm is nil for the empty string: an absent string is unknown.
func textTerm(s string) *ast.Term {
	if s == "" {
		return nil
	}
	return ast.StringTerm(s)
}

// givenText takes an empty text for one, when it was given.
func givenText(s *string) *ast.Term {
	if s == nil {
		return nil
	}
	return ast.StringTerm(*s)
}

func textsTerm(ss []string) *ast.Term {
	if len(ss) == 0 {
		return nil
	}
	terms := make([]*ast.Term, len(ss))
	for i, s := range ss {
		terms[i] = ast.StringTerm(s)
	}
	return ast.ArrayTerm(terms...)
}

// attributeTerm reads an attribute. Attributes are text on the wire, so one that
// is compared with a number or a boolean is read as that, if it is one.
func attributeTerm(s string, n need) *ast.Term {
	switch {
	case n.kinds&text != 0:
		return ast.StringTerm(s)
	case n.kinds&number != 0:
		if num, ok := fromText(s); ok {
			return numberTerm(num)
		}
	case n.kinds&boolean != 0:
		if s == "true" || s == "false" {
			return ast.InternedTerm(s == "true")
		}
	}
	return nil
}

// jsonTerm returns v if it is of a kind that n can use: no value is converted.
func jsonTerm(v *structpb.Value, n need) *ast.Term {
	switch k := v.GetKind().(type) {
	case *structpb.Value_StringValue:
		if n.kinds&text != 0 {
			return ast.StringTerm(k.StringValue)
		}
	case *structpb.Value_NumberValue:
		if n.kinds&number != 0 {
			t, _ := floatTerm(k.NumberValue)
			return t
		}
	case *structpb.Value_BoolValue:
		if n.kinds&boolean != 0 {
			return ast.InternedTerm(k.BoolValue)
		}
	case *structpb.Value_ListValue:
		if n.kinds&list == 0 && (n.kinds&texts == 0 || !allText(k.ListValue)) {
			return nil
		}
		b := converter{left: maxFacts}
		if t := b.value(v, 0); b.err == nil {
			return t
		}
	}
	return nil
}

func allText(l *structpb.ListValue) bool {
	return !slices.ContainsFunc(l.GetValues(), func(v *structpb.Value) bool {
		_, ok := v.GetKind().(*structpb.Value_StringValue)
		return !ok
	})
}

// follow finds the value at a dotted path, where a key may itself hold dots and
// a number steps into a list. It returns nil when the path leads nowhere.
func follow(s *structpb.Struct, path string) *structpb.Value {
	if s == nil {
		return nil
	}
	if v, ok := s.GetFields()[path]; ok {
		return v
	}
	key, rest, ok := strings.Cut(path, ".")
	if !ok {
		return nil
	}
	v := s.GetFields()[key]
	for l := v.GetListValue(); l != nil && rest != ""; l = v.GetListValue() {
		key, rest, _ = strings.Cut(rest, ".")
		i, err := strconv.Atoi(key)
		if err != nil || i < 0 || i >= len(l.GetValues()) {
			return nil
		}
		v = l.GetValues()[i]
	}
	if rest == "" {
		return v
	}
	return follow(v.GetStructValue(), rest)
}

// explain says in what way n is not known. It names no value.
func (v *view) explain(n need, tool string) string {
	if n.kinds == 0 {
		return "a condition cannot be evaluated"
	}
	if n.spike != (spike{}) && v.lookup(n, tool) != nil {
		return fmt.Sprintf("what %s was before is unknown", n.field)
	}
	any := need{field: n.field, kinds: text | number | boolean | texts | list}
	if v.lookup(any, tool) == nil {
		return fmt.Sprintf("%s is unknown", n.field)
	}
	return fmt.Sprintf("%s is not a %s", n.field, n.kinds)
}

// String returns the name that conditions use.
func (f field) String() string {
	suffix := ""
	if f.items {
		suffix = "[]"
	}
	switch f.source {
	case attribute:
		return "attribute." + f.key + suffix
	case outside:
		return "the answer from outside"
	case actionArg:
		return "action.args." + f.key + suffix
	case budgetUsed:
		return "budget." + f.key + usedSuffix
	case budgetLeft:
		return "budget." + f.key + leftSuffix
	case history:
		return "history." + f.key
	case userRoles:
		return "user.roles"
	}
	for name, n := range named {
		if n.source == f.source {
			return name
		}
	}
	return "field " + strconv.Itoa(int(f.source))
}
