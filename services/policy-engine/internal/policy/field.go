package policy

import (
	"fmt"
	"strings"

	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	policyenginev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policyengine/v1"
)

// kind is a set of value types. A condition states the kinds it can compare; a
// fact of another kind makes it an error.
type kind uint8

const (
	text kind = 1 << iota
	number
	boolean
	texts // a list of strings
	list  // a list of anything
)

func (k kind) String() string {
	var names []string
	for i, name := range []string{"string", "number", "boolean", "list of strings", "list"} {
		if k&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, " or ")
}

// source is where a field's value comes from.
type source uint8

const (
	userID source = iota
	userRoles
	modelID
	toolName
	toolNames
	workflowID
	tenantID
	envelopeID
	phaseType
	inputText
	outputText
	outside // the answer to a question, by its key
	agentID
	agentTeam
	actionKind
	actionName
	actionResource
	actionArg
	attribute
	estimateCost
	estimateTokens
	estimateInput
	estimateOutput
	estimateCalls
	estimateSeconds
	budgetUsed
	budgetLeft
	timeHour
	timeWeekday
	history // what a counter or a mark has counted, by its name
)

// field is a parsed field name. Two conditions on the same field have equal ones.
type field struct {
	source source
	key    string // attribute, argument path or budget; "" elsewhere
	items  bool   // the list at the path is meant, not a scalar
}

// named are the fields that have just a name, and the kinds each can have.
var named = map[string]struct {
	source source
	kinds  kind
}{
	"user.id":                    {userID, text},
	"user.role":                  {userRoles, texts},
	"user.roles":                 {userRoles, texts},
	"model.id":                   {modelID, text},
	"tool.name":                  {toolName, text},
	"tool.names":                 {toolNames, texts},
	"workflow.id":                {workflowID, text},
	"tenant.id":                  {tenantID, text},
	"envelope.id":                {envelopeID, text},
	"phase.type":                 {phaseType, text},
	"input.text":                 {inputText, text},
	"output.text":                {outputText, text},
	"agent.id":                   {agentID, text},
	"agent.team":                 {agentTeam, text},
	"action.kind":                {actionKind, text},
	"action.name":                {actionName, text},
	"action.resource":            {actionResource, text},
	"estimate.cost_usd":          {estimateCost, number},
	"estimate.tokens":            {estimateTokens, number},
	"estimate.input_tokens":      {estimateInput, number},
	"estimate.max_output_tokens": {estimateOutput, number},
	"estimate.tool_calls":        {estimateCalls, number},
	"estimate.seconds":           {estimateSeconds, number},
	"time.hour":                  {timeHour, number},
	"time.weekday":               {timeWeekday, text | number},
}

// parseField finds a field by the name that conditions use. It returns the kinds
// its value can have.
func parseField(name string) (field, kind, error) {
	if f, ok := named[name]; ok {
		return field{source: f.source}, f.kinds, nil
	}
	path, items := strings.CutSuffix(name, "[]")
	scalars := text | number | boolean
	if items {
		scalars = texts | list
	}
	if key, ok := strings.CutPrefix(path, "attribute."); ok && key != "" {
		return field{attribute, key, items}, scalars, nil
	}
	if key, ok := strings.CutPrefix(path, "action.args."); ok && key != "" {
		return field{actionArg, key, items}, scalars, nil
	}
	if key, ok := strings.CutPrefix(name, "budget."); ok {
		for suffix, from := range map[string]source{usedSuffix: budgetUsed, leftSuffix: budgetLeft} {
			if name, ok := strings.CutSuffix(key, suffix); ok && name != "" {
				return field{source: from, key: name}, number, nil
			}
		}
	}
	if key, ok := strings.CutPrefix(name, "history."); ok && key != "" {
		return field{source: history, key: key}, number, nil
	}
	if name == "" {
		return field{}, 0, fmt.Errorf("field is missing")
	}
	return field{}, 0, fmt.Errorf("unknown field %q", name)
}

// moment is what the phase and the action say about which facts there can be.
// All false means that nothing is known.
type moment struct {
	tool, llm     bool // it is about a tool call, or about a model call
	before, after bool // the call
	around        bool // an execution begins or ends, and no action is at hand
}

// momentOf reads the facts. Without a phase the action tells, and without an
// action what is named: a context with tools and no model is of a tool call.
func momentOf(phase policyv1.ExecutionPhase, f *policyenginev1.Facts) moment {
	action := f.GetAction() != nil
	llm := f.GetAction().GetKind() == governancev1.ActionKind_ACTION_KIND_LLM_CALL
	switch phase {
	case policyv1.ExecutionPhase_EXECUTION_PHASE_PRE_EXECUTION:
		return moment{tool: action && !llm, llm: llm, before: true, around: !action}
	case policyv1.ExecutionPhase_EXECUTION_PHASE_POST_EXECUTION:
		return moment{tool: action && !llm, llm: llm, after: true, around: !action}
	case policyv1.ExecutionPhase_EXECUTION_PHASE_PRE_TOOL_CALL:
		return moment{tool: true, before: true}
	case policyv1.ExecutionPhase_EXECUTION_PHASE_POST_TOOL_CALL:
		return moment{tool: true, after: true}
	case policyv1.ExecutionPhase_EXECUTION_PHASE_PRE_LLM_CALL:
		return moment{llm: true, before: true}
	case policyv1.ExecutionPhase_EXECUTION_PHASE_POST_LLM_CALL:
		return moment{llm: true, after: true}
	}
	tools, model := len(f.GetToolNames()) > 0, f.GetModelId() != ""
	return moment{tool: tools && !model, llm: model && !tools}
}

// has says whether a fact of a source can exist at all. What cannot exist does
// not match and is no error: an LLM call has no tool. What can exist and was not
// given is unknown, and that is an error.
func (m moment) has(s source) bool {
	switch s {
	case toolName, toolNames:
		return !m.llm && !m.around
	case modelID, inputText:
		return !m.tool && !m.around
	case outputText:
		return !m.before
	case actionKind, actionName, actionResource:
		return !m.around
	case actionArg:
		return !m.llm && !m.around
	case estimateCost, estimateTokens, estimateInput, estimateOutput, estimateCalls, estimateSeconds:
		return !m.after && !m.around
	}
	return true
}
