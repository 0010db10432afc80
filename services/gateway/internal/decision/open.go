package decision

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	costv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/cost/v1"
	envelopev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/envelope/v1"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	policyenginev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policyengine/v1"

	"github.com/fulcrum-io/fulcrum/services/gateway/internal/approval"
	"github.com/fulcrum-io/fulcrum/services/gateway/internal/envelope"
)

// newEnvelopeInput is everything a new envelope is made of. field names its
// governance in the caller's request.
type newEnvelopeInput struct {
	id          uuid.UUID
	who         identity.Principal
	parent      *envelope.Envelope
	now         time.Time
	field       string
	agentID     string
	userID      string
	workflowID  string
	executionID string
	budgetID    string
	adapterType string
	metadata    map[string]string
	trace       map[string]string
	governance  *envelopev1.GovernanceContext
}

// newEnvelope puts an envelope together. What the credential is bound to wins;
// a request that says otherwise is refused.
func newEnvelope(in newEnvelopeInput) (*envelope.Envelope, error) {
	if in.who.AgentID != "" && in.agentID != "" && in.agentID != in.who.AgentID {
		return nil, fault.New(fault.Denied, "this credential acts as agent %s only", in.who.AgentID).
			WithReason("AGENT_MISMATCH").WithViolation("agent_id", "differs from the credential's agent")
	}
	governance := proto.CloneOf(in.governance)
	if governance == nil {
		governance = new(envelopev1.GovernanceContext)
	}
	e := &envelope.Envelope{
		ID: in.id, Root: in.id, Status: envelope.Pending, Version: 1,
		AgentID: first(in.who.AgentID, in.agentID), Team: in.who.Team, UserID: first(in.who.UserID, in.userID), KeyID: in.who.KeyID,
		WorkflowID: in.workflowID, ExecutionID: first(in.executionID, in.id.String()),
		BudgetID: first(in.budgetID, governance.GetBudgetId()), AdapterType: in.adapterType,
		Metadata: in.metadata, Trace: in.trace, Governance: governance,
		CreatedAt: in.now, UpdatedAt: in.now,
	}
	if seconds := governance.GetTimeoutSeconds(); seconds > 0 {
		e.ExpiresAt = in.now.Add(time.Duration(seconds) * time.Second)
	}
	if in.parent != nil {
		if err := e.Under(in.parent, in.field); err != nil {
			return nil, err
		}
	}
	return e, e.Limit(in.field)
}

// Opening is a request for a new envelope.
type Opening struct {
	AgentID, WorkflowID, ExecutionID, BudgetID, AdapterType string

	Parent     uuid.UUID
	Metadata   map[string]string
	Trace      map[string]string
	Governance *envelopev1.GovernanceContext
}

// Open creates an envelope and judges it by the PRE_EXECUTION policies and its
// budget: it comes back AUTHORIZED, ended with the reason, or PENDING while it
// waits for an approval.
func (p *Pipeline) Open(ctx context.Context, who identity.Principal, in Opening) (*envelope.Envelope, error) {
	began := time.Now()
	ld, err := p.Store.Load(ctx, who.Tenant, Query{Envelope: in.Parent})
	if err != nil {
		return nil, err
	}
	if in.Parent != uuid.Nil && ld.Envelope == nil {
		return nil, envelope.ErrNotFound(in.Parent)
	}
	env, err := newEnvelope(newEnvelopeInput{
		id: newID(), who: who, parent: ld.Envelope, now: ld.Now, field: "governance", agentID: in.AgentID, workflowID: in.WorkflowID,
		executionID: in.ExecutionID, budgetID: in.BudgetID, adapterType: in.AdapterType,
		metadata: in.Metadata, trace: in.Trace, governance: in.Governance,
	})
	if err != nil {
		return nil, err
	}
	f := &policyenginev1.Facts{
		Phase: policyv1.ExecutionPhase_EXECUTION_PHASE_PRE_EXECUTION, AgentId: env.AgentID, AgentTeam: env.Team,
		UserId: env.UserID, UserRoles: who.Roles, TimeUnixNano: ld.Now.UnixNano(),
		// What published clients say about the execution before it begins.
		ModelId: first(in.Metadata["model_name"], in.Metadata["model_id"]),
	}
	if tool := in.Metadata["tool_name"]; tool != "" {
		f.ToolNames = []string{tool}
	}
	inEnvelope(f, env)
	id := newID()
	result, err := p.remembering(ctx, openedBy(who, env), &policyenginev1.EvaluateRequest{Facts: f, SampleKey: id.String()})
	if err != nil {
		return nil, err
	}
	resp := &governancev1.AuthorizeResponse{
		DecisionId: id.String(), Decision: result.GetDecision(), Reasons: result.GetReasons(), Obligations: result.GetObligations(),
		PolicySetVersion: result.GetPolicySetVersion(), EvaluatedUs: result.GetEvaluatedUs(), Degraded: result.GetDegraded(),
		EnvelopeId: env.ID.String(),
	}
	entry := &Entry{Tenant: who.Tenant, Open: env}
	if err := p.admit(ctx, who, env, resp, result, entry); err != nil {
		return nil, err
	}
	if env.Sliced() && !env.Status.Final() {
		if err := p.takeSlice(ctx, who, env, resp, entry); err != nil {
			return nil, err
		}
	}
	opening := &opening{who: who, env: env, facts: f, result: result, resp: resp, entry: entry, now: ld.Now}
	opening.count()
	if err := p.recordOpening(ctx, opening); err != nil {
		return nil, err
	}
	p.observe(ctx, MethodOpen, resp.GetDecision(), time.Since(began))
	return env, nil
}

// admit decides where the new envelope stands.
func (p *Pipeline) admit(ctx context.Context, who identity.Principal, env *envelope.Envelope, resp *governancev1.AuthorizeResponse,
	result *policyenginev1.EvaluateResponse, entry *Entry) error {
	if env.BudgetID != "" {
		if err := p.budgetFor(ctx, who, env, resp); err != nil {
			return err
		}
	}
	switch {
	case env.Status == envelope.BudgetExceeded:
	case resp.GetDecision() == deny:
		env.Status = envelope.PolicyViolation
	case resp.GetDecision() == requireApproval:
		return askToOpen(who, env, resp, result, entry)
	default:
		env.Status = envelope.Authorized
	}
	if env.Status.Final() {
		env.CompletedAt = env.CreatedAt
	}
	return nil
}

// budgetFor refuses an envelope whose named budget is unknown, spent or suspended.
func (p *Pipeline) budgetFor(ctx context.Context, who identity.Principal, env *envelope.Envelope, resp *governancev1.AuthorizeResponse) error {
	status, err := p.Ledger.Budget(ctx, env.BudgetID)
	switch {
	case err == nil:
	case ctx.Err() != nil:
		return ctx.Err()
	case fault.Is(err, fault.NotFound):
		return fault.New(fault.NotFound, "there is no budget %s", env.BudgetID).
			WithReason("BUDGET_NOT_FOUND").WithViolation("budget_id", "is no budget of this tenant")
	case fault.Is(err, fault.Invalid):
		return fault.Field("budget_id", "is not the id of a budget")
	default:
		resp.Degraded = true
		if !p.modes(ctx, who.Tenant).BudgetOpen {
			resp.Decision = deny
			resp.Reasons = append(resp.GetReasons(), ownReason("BUDGET_UNAVAILABLE", "failure mode",
				"the budget could not be asked, and this tenant's failure mode is to deny", deny))
		}
		return nil
	}
	if s := status.GetStatus(); s == costv1.BudgetStatusType_BUDGET_STATUS_TYPE_EXCEEDED || s == costv1.BudgetStatusType_BUDGET_STATUS_TYPE_SUSPENDED {
		env.Status, resp.Decision = envelope.BudgetExceeded, deny
		word := map[bool]string{true: "exceeded", false: "suspended"}[s == costv1.BudgetStatusType_BUDGET_STATUS_TYPE_EXCEEDED]
		resp.Reasons = append([]*governancev1.Reason{ownReason("BUDGET_EXCEEDED", "budget", "the budget "+env.BudgetID+" is "+word, deny)}, resp.GetReasons()...)
	}
	return nil
}

// askToOpen leaves the envelope pending until somebody approves of it.
func askToOpen(who identity.Principal, env *envelope.Envelope, resp *governancev1.AuthorizeResponse,
	result *policyenginev1.EvaluateResponse, entry *Entry) error {
	action := &governancev1.Action{Kind: governancev1.ActionKind_ACTION_KIND_OTHER, Name: "create_envelope"}
	digest, err := approval.Subject{
		Tenant: who.Tenant, Action: action, KeyID: who.KeyID, AgentID: env.AgentID, UserID: env.UserID, Envelope: env.ID,
		PolicySetVersion: result.GetPolicySetVersion(),
	}.Digest()
	if err != nil {
		return err
	}
	r := requestFrom(result)
	r.ID, r.Decision, r.Envelope, r.Digest = newID(), parse(resp.GetDecisionId()), env.ID, digest
	r.ActionKind, r.ActionName, r.OpensEnvelope = "OTHER", "create_envelope", true
	r.KeyID, r.AgentID, r.UserID = who.KeyID, env.AgentID, env.UserID
	r.Metadata = map[string]string{"action_name": "create_envelope", "workflow_id": env.WorkflowID, "agent_id": env.AgentID}
	for k, v := range env.Metadata {
		r.Metadata[fmt.Sprintf("metadata.%s", k)] = clip(v, 1024)
	}
	entry.Ask = r
	return nil
}
