package decision

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fulcrum-io/fulcrum/pkg/identity"
	busv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/bus/v1"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"

	"github.com/fulcrum-io/fulcrum/services/gateway/internal/approval"
	"github.com/fulcrum-io/fulcrum/services/gateway/internal/envelope"
)

// entry is everything that an Authorize leaves behind.
func (a *ask) entry() (*Entry, error) {
	e := &Entry{Tenant: a.who.Tenant, Claim: &a.claim, Moves: a.moves, Ask: a.request, Use: a.use, Takes: a.takes}
	acts := Acts(a.resp.GetDecision())
	if acts {
		e.Learns = a.acting().learned(a.result)
	}
	env := uuid.Nil
	switch {
	case a.env == nil:
	case a.inline && acts:
		// An envelope that opens with its first action is running at once; one
		// whose first action is refused does not open.
		a.env.Status = envelope.Running
		e.Open = a.env
		env, a.claim.OpenEnvelope = a.env.ID, a.env.Parent
		a.resp.EnvelopeId = a.env.ID.String()
	case !a.inline:
		env = a.env.ID
		if acts {
			a.claim.OpenEnvelope = a.env.ID
			if a.env.Status == envelope.Authorized {
				e.Moves = append(e.Moves, envelope.Move{Envelope: a.env.ID, To: envelope.Running, Reason: "its first action was authorized"})
			}
		}
	}
	response, err := proto.Marshal(a.resp)
	if err != nil {
		return nil, fmt.Errorf("write decision %s: %w", a.id, err)
	}
	a.claim.Response = response
	approvalID := idOf(a.request)
	if a.use != nil {
		approvalID = a.use.Approval
	}
	e.Decision = &Record{
		ID: a.id, DecidedAt: a.now, Method: MethodAuthorize, Envelope: env, KeyID: a.who.KeyID, Team: a.actor.team,
		Reservation: a.reservation, Approval: approvalID, Facts: a.facts, Result: a.result, Response: a.resp,
	}
	a.latency.TotalUs = time.Since(a.began).Microseconds()
	event := decisionEvent(a.who, e.Decision)
	event.Latency = &a.latency
	if a.env != nil {
		event.ExecutionId = a.env.ExecutionID
	}
	e.Events = append(e.Events, event)
	if e.Open != nil {
		e.Events = append(e.Events, openedEvent(a.who, e.Open))
	}
	if a.request != nil {
		e.Events = append(e.Events, requestedEvent(event, a.request, a.now))
	}
	if a.use != nil {
		e.Events = append(e.Events, approvalEvent(event, "approval_consumed", a.use.Approval))
	}
	if a.refused != "" {
		refused := approvalEvent(event, "approval_refused", a.grant.ID)
		refused.Labels["reason"] = a.refused
		e.Events = append(e.Events, refused)
	}
	return e, nil
}

// decisionEvent says what was decided, and for what it takes to explain it,
// where to look: prompts and arguments stay in the decision itself.
func decisionEvent(who identity.Principal, d *Record) *busv1.Event {
	r, f := d.Response, d.Facts
	event := newEvent(who, "decision_made", d.DecidedAt)
	event.EventId = d.ID.String() // so the audit log proves a decision by its id
	event.Action = string(d.Method)
	event.Resource = resource(f.GetAction())
	event.Decision = Name(r.GetDecision())
	event.PolicyVersion = r.GetPolicySetVersion()
	event.WorkflowId = f.GetWorkflowId()
	event.AgentId, event.Team, event.UserId = f.GetAgentId(), f.GetAgentTeam(), f.GetUserId()
	if d.Envelope != uuid.Nil {
		event.EnvelopeId = d.Envelope.String()
	}
	facts := map[string]any{
		"decision_id":        d.ID.String(),
		"method":             string(d.Method),
		"message":            r.GetMessage(),
		"phase":              f.GetPhase().String(),
		"policy_set_version": r.GetPolicySetVersion(),
		"reasons":            reasonList(r.GetReasons()),
		"degraded":           r.GetDegraded(),
	}
	put := func(key, value string) {
		if value != "" {
			facts[key] = value
		}
	}
	if f.GetAction() != nil {
		put("action_kind", KindName(f.GetAction().GetKind()))
		put("action_name", f.GetAction().GetName())
		put("action_mark", mark(f.GetAction()))
	}
	put("model", f.GetModelId())
	put("price_version", r.GetPriceVersion())
	put("reservation_id", r.GetHold().GetReservationId())
	put("refused_by", r.GetRefusedBy().GetId())
	if h := r.GetHold(); h != nil {
		facts["held_cost_nano"] = fmt.Sprint(h.GetAmounts().GetCostNano()) // text: a JSON number is a double
	}
	if d.Approval != uuid.Nil {
		facts["approval_id"] = d.Approval.String()
	}
	if d.Parent != uuid.Nil {
		facts["parent_decision_id"] = d.Parent.String()
	}
	if args := f.GetAction().GetArguments(); audited(r.GetObligations()) && args != nil {
		if size := proto.Size(args); size <= maxArguments {
			facts["arguments"] = args.AsMap()
		} else {
			facts["arguments_omitted_bytes"] = size
		}
	}
	event.Payload = payload(facts)
	return event
}

// mark tells actions that are the same from others, for those who watch events
// and do not see arguments. Four bytes are enough for that, and too few to
// confirm a guess of what the arguments were.
func mark(a *governancev1.Action) string {
	body, err := proto.MarshalOptions{Deterministic: true}.Marshal(a)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:4])
}

// maxArguments is the size up to which arguments go into an event; larger ones
// are in the decision only.
const maxArguments = 256 << 10

// audited reports whether a rule asks to keep the action's arguments with the event.
func audited(obligations []*governancev1.Obligation) bool {
	for _, o := range obligations {
		if o.GetType() == "AUDIT" {
			return true
		}
	}
	return false
}

func reasonList(reasons []*governancev1.Reason) []any {
	out := make([]any, 0, len(reasons))
	for _, r := range reasons {
		out = append(out, map[string]any{
			"policy_id": r.GetPolicyId(), "policy_name": r.GetPolicyName(), "version": r.GetVersion(), "rule_id": r.GetRuleId(),
			"rule_name": r.GetRuleName(), "message": r.GetMessage(), "decision": Name(r.GetDecision()), "shadow": r.GetShadow(),
		})
	}
	return out
}

func approvalEvent(decision *busv1.Event, kind string, id uuid.UUID) *busv1.Event {
	event := proto.CloneOf(decision)
	event.EventId = newID().String()
	event.Type = kind
	event.Action = "approval"
	event.Latency = nil
	event.Labels = map[string]string{"approval_id": id.String()}
	return event
}

// requestedEvent says what a person is asked, to whoever tells people; arguments
// are not in it.
func requestedEvent(decision *busv1.Event, r *approval.Request, at time.Time) *busv1.Event {
	event := approvalEvent(decision, "approval_requested", r.ID)
	roles := make([]any, 0, len(r.Roles))
	for _, role := range r.Roles {
		roles = append(roles, role)
	}
	asked := payload(map[string]any{
		"approval_id": r.ID.String(), "decision_id": r.Decision.String(), "action_kind": r.ActionKind, "action_name": r.ActionName,
		"digest": hex.EncodeToString(r.Digest[:]), "quorum": strconv.Itoa(int(r.Quorum)), "roles": roles,
		"expires_at": at.Add(r.TTL).UTC().Format(time.RFC3339), "policy_id": r.PolicyID, "policy_name": r.PolicyName,
		"requested_by_key": r.KeyID, "requested_by_agent": r.AgentID, "requested_by_user": r.UserID,
	})
	if event.GetPayload() == nil {
		event.Payload = asked
	}
	for name, value := range asked.GetFields() {
		event.Payload.Fields[name] = value
	}
	return event
}

// newEvent is a fact of ours about what a caller did.
func newEvent(who identity.Principal, kind string, at time.Time) *busv1.Event {
	return &busv1.Event{
		EventId: newID().String(), TenantId: who.Tenant.String(), Stream: busv1.Stream_STREAM_EVENTS, Type: kind,
		Origin: busv1.Origin_ORIGIN_SYSTEM, Writer: "gateway", OccurredAt: timestamppb.New(at),
		Actor: who.Actor(), ApiKeyId: who.KeyID, AgentId: who.AgentID, Team: who.Team, UserId: who.UserID,
	}
}

func openedEvent(who identity.Principal, e *envelope.Envelope) *busv1.Event {
	event := newEvent(who, "envelope_created", e.CreatedAt)
	event.Action = "create_envelope"
	event.Resource = "envelope:" + e.ID.String()
	event.EnvelopeId, event.ExecutionId, event.WorkflowId = e.ID.String(), e.ExecutionID, e.WorkflowID
	event.AgentId, event.Team, event.UserId = e.AgentID, e.Team, e.UserID
	facts := map[string]any{"status": string(e.Status), "reason": e.Reason, "adapter_type": e.AdapterType}
	if e.Parent != uuid.Nil {
		facts["parent_envelope_id"] = e.Parent.String()
	}
	event.Payload = payload(facts)
	return event
}

// payload makes a Struct of facts. What has no place in one, such as text that
// is not UTF-8, is replaced rather than lost with the event.
func payload(facts map[string]any) *structpb.Struct {
	s, err := structpb.NewStruct(facts)
	if err == nil {
		return s
	}
	raw, err := json.Marshal(facts)
	if err != nil {
		return nil
	}
	s = new(structpb.Struct)
	if s.UnmarshalJSON(raw) != nil {
		return nil
	}
	return s
}

// resource names what an action touches.
func resource(a *governancev1.Action) string {
	if a == nil {
		return ""
	}
	kind := map[governancev1.ActionKind]string{
		governancev1.ActionKind_ACTION_KIND_TOOL_CALL:      "tool",
		governancev1.ActionKind_ACTION_KIND_LLM_CALL:       "model",
		governancev1.ActionKind_ACTION_KIND_DATA_ACCESS:    "data",
		governancev1.ActionKind_ACTION_KIND_MESSAGE:        "message",
		governancev1.ActionKind_ACTION_KIND_CODE_EXECUTION: "code",
	}[a.GetKind()]
	return first(kind, "other") + ":" + a.GetName()
}
