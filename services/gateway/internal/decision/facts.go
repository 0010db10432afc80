package decision

import (
	"slices"
	"strings"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	"github.com/fulcrum-io/fulcrum/pkg/money"
	budgetv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/budget/v1"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	policyenginev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policyengine/v1"

	"github.com/fulcrum-io/fulcrum/services/gateway/internal/envelope"
)

// actor is on whose behalf an action happens, after credential, envelope and
// request have had their say. What the credential is bound to always wins.
type actor struct {
	agentID string
	team    string
	userID  string
	roles   []string
}

func actorOf(who identity.Principal, env *envelope.Envelope, user *governancev1.EndUser) (actor, error) {
	a := actor{agentID: who.AgentID, team: who.Team, userID: who.UserID, roles: who.Roles}
	if env != nil {
		if a.agentID != "" && env.AgentID != "" && a.agentID != env.AgentID {
			return actor{}, fault.New(fault.Denied, "this credential acts as agent %s, and the envelope belongs to another", a.agentID).
				WithReason("AGENT_MISMATCH").WithViolation("envelope_id", "belongs to another agent")
		}
		a.agentID = first(a.agentID, env.AgentID)
		a.team = first(a.team, env.Team)
	}
	if a.userID != "" && user.GetUserId() != "" && a.userID != user.GetUserId() {
		return actor{}, fault.New(fault.Denied, "this credential acts for user %s only", a.userID).
			WithReason("USER_MISMATCH").WithViolation("principal.user_id", "differs from the credential's user")
	}
	a.userID = first(a.userID, user.GetUserId())
	if env != nil {
		a.userID = first(a.userID, env.UserID)
	}
	// A credential that is one person's has that person's roles and no others.
	if who.UserID == "" {
		a.roles = append(slices.Clone(a.roles), user.GetRoles()...)
	}
	return a, nil
}

// facts is what the policies are asked about.
func facts(now int64, a actor, env *envelope.Envelope, req *governancev1.AuthorizeRequest) *policyenginev1.Facts {
	action := req.GetAction()
	f := &policyenginev1.Facts{
		Phase:        phaseBefore(action.GetKind()),
		AgentId:      a.agentID,
		AgentTeam:    a.team,
		UserId:       a.userID,
		UserRoles:    a.roles,
		ModelId:      modelOf(action),
		Attributes:   req.GetAttributes(),
		Action:       action,
		Estimate:     req.GetEstimate(),
		TimeUnixNano: now,
	}
	if action.GetKind() != governancev1.ActionKind_ACTION_KIND_LLM_CALL {
		f.ToolNames = []string{action.GetName()}
	}
	if action.GetInputText() != "" {
		f.InputText = proto.String(action.GetInputText())
	}
	inEnvelope(f, env)
	return f
}

// inEnvelope adds what an envelope says. Its metadata was given when it was
// opened, so an action cannot contradict it.
func inEnvelope(f *policyenginev1.Facts, env *envelope.Envelope) {
	if env == nil {
		return
	}
	f.EnvelopeId = env.ID.String()
	f.WorkflowId = env.WorkflowID
	f.AllowedTools = env.Governance.GetAllowedTools()
	f.AllowedModels = env.Governance.GetAllowedModels()
	if len(env.Metadata) == 0 {
		return
	}
	both := make(map[string]string, len(env.Metadata)+len(f.Attributes))
	for _, m := range []map[string]string{f.Attributes, env.Metadata} {
		for k, v := range m {
			both[k] = v
		}
	}
	f.Attributes = both
}

func phaseBefore(kind governancev1.ActionKind) policyv1.ExecutionPhase {
	if kind == governancev1.ActionKind_ACTION_KIND_LLM_CALL {
		return policyv1.ExecutionPhase_EXECUTION_PHASE_PRE_LLM_CALL
	}
	return policyv1.ExecutionPhase_EXECUTION_PHASE_PRE_TOOL_CALL
}

func phaseAfter(kind governancev1.ActionKind) policyv1.ExecutionPhase {
	if kind == governancev1.ActionKind_ACTION_KIND_LLM_CALL {
		return policyv1.ExecutionPhase_EXECUTION_PHASE_POST_LLM_CALL
	}
	return policyv1.ExecutionPhase_EXECUTION_PHASE_POST_TOOL_CALL
}

// modelOf is the model that an action uses: for LLM calls its name will do.
func modelOf(a *governancev1.Action) string {
	if a.GetModel() == "" && a.GetKind() == governancev1.ActionKind_ACTION_KIND_LLM_CALL {
		return a.GetName()
	}
	return a.GetModel()
}

// worstCase is what an action may cost at most, by the caller's estimate.
func worstCase(action *governancev1.Action, e *governancev1.Estimate) (*governancev1.Amounts, error) {
	cost, err := money.FromUSD(e.GetCostUsd())
	if err != nil {
		return nil, fault.Field("estimate.cost_usd", "is not an amount of money: %v", err)
	}
	amounts := &governancev1.Amounts{
		CostNano:     int64(cost),
		InputTokens:  e.GetInputTokens(),
		OutputTokens: e.GetMaxOutputTokens(),
		ToolCalls:    e.GetToolCalls(),
		Seconds:      e.GetSeconds(),
	}
	switch action.GetKind() {
	case governancev1.ActionKind_ACTION_KIND_LLM_CALL:
		amounts.LlmCalls = 1
	case governancev1.ActionKind_ACTION_KIND_TOOL_CALL:
		amounts.ToolCalls = max(amounts.GetToolCalls(), 1)
	}
	return amounts, nil
}

func nothing(a *governancev1.Amounts) bool {
	return a.GetCostNano()|a.GetInputTokens()|a.GetOutputTokens()|a.GetLlmCalls()|a.GetToolCalls()|a.GetSeconds() == 0
}

// subject is what the budgets of an action are found by.
func subject(a actor, keyID, model, workflowID string, env *envelope.Envelope) *budgetv1.Subject {
	s := &budgetv1.Subject{
		Team: a.team, AgentId: a.agentID, UserId: a.userID, WorkflowId: workflowID, ApiKeyId: keyID, Model: model,
	}
	if env != nil {
		s.EnvelopeId = env.ID.String()
		s.AncestorEnvelopeIds = texts(env.Ancestors)
	}
	return s
}

func texts(ids []uuid.UUID) []string {
	out := make([]string, len(ids))
	for i, id := range ids {
		out[i] = id.String()
	}
	return out
}

func first(texts ...string) string {
	i := slices.IndexFunc(texts, func(s string) bool { return s != "" })
	if i < 0 {
		return ""
	}
	return texts[i]
}

// Name is the short form of an enum value: "DENY" of DECISION_DENY.
func Name(d governancev1.Decision) string { return strings.TrimPrefix(d.String(), "DECISION_") }

// KindName is the short form of an action's kind: "TOOL_CALL".
func KindName(k governancev1.ActionKind) string {
	return strings.TrimPrefix(k.String(), "ACTION_KIND_")
}
