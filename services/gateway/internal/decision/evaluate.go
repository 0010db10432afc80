package decision

import (
	"context"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/fulcrum-io/fulcrum/pkg/identity"
	busv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/bus/v1"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	policyenginev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policyengine/v1"

	"github.com/fulcrum-io/fulcrum/services/gateway/internal/envelope"
)

// Question is what EvaluatePolicy and EvaluatePolicies ask.
type Question struct {
	PolicyIDs  []string // empty: all active policies
	Context    *policyv1.EvaluationContext
	StopOnDeny bool
	DryRun     bool
}

// Answer is what they hear.
type Answer struct {
	DecisionID string // "" for a dry run
	At         time.Time
	Result     *policyenginev1.EvaluateResponse
}

// Evaluate judges a context by the policies. Nothing is held. Unless it is a
// dry run, the answer is recorded before it is given, and it moves the envelope
// it names as an action in it would.
func (p *Pipeline) Evaluate(ctx context.Context, who identity.Principal, q Question) (*Answer, error) {
	began := time.Now()
	c := q.Context
	env, now, err := p.environment(ctx, who, c.GetEnvelopeId())
	if err != nil {
		return nil, err
	}
	a, err := actorOf(who, env, &governancev1.EndUser{UserId: c.GetUserId(), Roles: c.GetUserRoles()})
	if err != nil {
		return nil, err
	}
	f := contextFacts(c, a, env, now)
	id, req := newID(), &policyenginev1.EvaluateRequest{Facts: f, PolicyIds: q.PolicyIDs, StopOnDeny: q.StopOnDeny}
	if !q.DryRun && len(q.PolicyIDs) == 0 {
		req.SampleKey = id.String() // a shadow is compared with the decision of all policies
	}
	acting := &counted{
		who: who, actor: actor{agentID: f.GetAgentId(), team: f.GetAgentTeam(), userID: f.GetUserId()}, env: env,
		workflow: f.GetWorkflowId(), tool: first(f.GetToolNames()...),
	}
	result, err := p.verdict(ctx, acting, req)
	if err != nil {
		return nil, err
	}
	answer := &Answer{At: now, Result: result}
	if q.DryRun {
		return answer, nil
	}
	entry := evaluationEntry(id, who, env, f, result, now, time.Since(began))
	answer.DecisionID = entry.Decision.ID.String()
	if len(q.PolicyIDs) == 0 && Acts(result.GetDecision()) { // some policies might allow what all of them would not
		entry.Learns = acting.learned(result)
	}
	if _, err := p.record(ctx, entry); err != nil {
		return nil, unrecorded(err)
	}
	p.observe(ctx, MethodEvaluate, result.GetDecision(), time.Since(began))
	return answer, nil
}

// environment is the envelope that a context names and the database's time.
// Published clients put what they like into envelope_id; what is no id of ours
// is only a fact for policies.
func (p *Pipeline) environment(ctx context.Context, who identity.Principal, envelopeID string) (*envelope.Envelope, time.Time, error) {
	id := parse(envelopeID)
	if id == uuid.Nil {
		return nil, time.Now(), nil
	}
	ld, err := p.Store.Load(ctx, who.Tenant, Query{Envelope: id})
	return ld.Envelope, ld.Now, err
}

func contextFacts(c *policyv1.EvaluationContext, a actor, env *envelope.Envelope, now time.Time) *policyenginev1.Facts {
	f := &policyenginev1.Facts{
		WorkflowId: c.GetWorkflowId(), EnvelopeId: c.GetEnvelopeId(), Phase: phaseOf(c),
		AgentId: first(a.agentID, c.GetAgentId()), AgentTeam: first(a.team, c.GetAgentTeam()), UserId: a.userID, UserRoles: a.roles,
		ModelId: c.GetModelId(), ToolNames: c.GetToolNames(), Attributes: c.GetAttributes(), TimeUnixNano: now.UnixNano(),
	}
	if tools := c.GetToolNames(); len(tools) == 1 && f.GetPhase() == policyv1.ExecutionPhase_EXECUTION_PHASE_PRE_TOOL_CALL {
		f.Action = &governancev1.Action{Kind: governancev1.ActionKind_ACTION_KIND_TOOL_CALL, Name: tools[0]}
	}
	if c.GetInputText() != "" {
		f.InputText = proto.String(c.GetInputText())
	}
	if c.GetOutputText() != "" {
		f.OutputText = proto.String(c.GetOutputText())
	}
	if c.GetTimestamp() != nil {
		f.TimeUnixNano = c.GetTimestamp().AsTime().UnixNano()
	}
	workflow := f.GetWorkflowId()
	inEnvelope(f, env)
	f.WorkflowId = first(f.GetWorkflowId(), workflow)
	return f
}

// phaseOf is the phase that a context names. Published clients often name none;
// then what they ask about tells, so that policies of that phase apply.
func phaseOf(c *policyv1.EvaluationContext) policyv1.ExecutionPhase {
	switch {
	case c.GetPhase() != policyv1.ExecutionPhase_EXECUTION_PHASE_UNSPECIFIED:
		return c.GetPhase()
	case len(c.GetToolNames()) > 0:
		return policyv1.ExecutionPhase_EXECUTION_PHASE_PRE_TOOL_CALL
	case c.GetModelId() != "":
		return policyv1.ExecutionPhase_EXECUTION_PHASE_PRE_LLM_CALL
	}
	return policyv1.ExecutionPhase_EXECUTION_PHASE_UNSPECIFIED
}

// verdict is what the policies say, unless the envelope says it first.
func (p *Pipeline) verdict(ctx context.Context, c *counted, req *policyenginev1.EvaluateRequest) (*policyenginev1.EvaluateResponse, error) {
	env := c.env
	if env != nil && !env.Standing().Acts() {
		text := "the envelope is " + string(env.Standing())
		return &policyenginev1.EvaluateResponse{
			Decision: deny, Reasons: []*governancev1.Reason{ownReason("ENVELOPE_NOT_ACTIVE", "envelope", text, deny)},
		}, nil
	}
	return p.remembering(ctx, c, req)
}

func evaluationEntry(id uuid.UUID, who identity.Principal, env *envelope.Envelope, f *policyenginev1.Facts, result *policyenginev1.EvaluateResponse,
	now time.Time, took time.Duration) *Entry {
	resp := &governancev1.AuthorizeResponse{
		DecisionId: id.String(), Decision: result.GetDecision(), Reasons: result.GetReasons(), Obligations: result.GetObligations(),
		PolicySetVersion: result.GetPolicySetVersion(), EvaluatedUs: result.GetEvaluatedUs(), Degraded: result.GetDegraded(),
	}
	resp.Message = message(resp)
	e := &Entry{Tenant: who.Tenant, Decision: &Record{
		ID: parse(resp.GetDecisionId()), DecidedAt: now, Method: MethodEvaluate, KeyID: who.KeyID, Team: f.GetAgentTeam(),
		Facts: f, Result: result, Response: resp,
	}}
	executionID := ""
	if env != nil {
		e.Decision.Envelope, resp.EnvelopeId, executionID = env.ID, env.ID.String(), env.ExecutionID
		switch {
		case result.GetTerminateEnvelope():
			e.Moves = append(e.Moves, envelope.Move{Envelope: env.ID, To: envelope.PolicyViolation, Reason: resp.GetMessage()})
		case env.Status == envelope.Authorized && (result.GetDecision() == allow || result.GetDecision() == warn):
			e.Moves = append(e.Moves, envelope.Move{Envelope: env.ID, To: envelope.Running, Reason: "its first action was allowed"})
		}
	}
	event := decisionEvent(who, e.Decision)
	event.ExecutionId = executionID
	event.Latency = &busv1.LatencyFact{TotalUs: took.Microseconds(), EvaluateUs: result.GetEvaluatedUs()}
	e.Events = append(e.Events, event)
	return e
}
