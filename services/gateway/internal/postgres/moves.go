package postgres

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fulcrum-io/fulcrum/db/gatewaydb"
	busv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/bus/v1"

	"github.com/fulcrum-io/fulcrum/services/gateway/internal/envelope"
)

type tenantID struct{ tenant, id uuid.UUID }

// step is a move and the entry that wants it.
type step struct {
	move  envelope.Move
	by    int
	actor string
}

// moves is what moveEnvelopes did.
type moves struct {
	made   map[tenantID]envelope.Move
	below  []uuid.UUID // descendants that were ended as well
	events []*busv1.Event
}

// moveEnvelopes makes the moves that are allowed, ends what is below envelopes
// that were ended by force, and cancels the approvals of what has ended. It
// returns what was done, with the events that tell of it.
func moveEnvelopes(ctx context.Context, q *gatewaydb.Queries, order []tenantID, want map[tenantID]step) (moves, error) {
	slices.SortFunc(order, func(a, b tenantID) int {
		if c := bytes.Compare(a.tenant[:], b.tenant[:]); c != 0 {
			return c
		}
		return bytes.Compare(a.id[:], b.id[:])
	})
	var p gatewaydb.MoveEnvelopesParams
	for _, id := range order {
		m := want[id].move
		p.TenantIds = append(p.TenantIds, id.tenant)
		p.Ids = append(p.Ids, id.id)
		p.Statuses = append(p.Statuses, string(m.To))
		p.Reasons = append(p.Reasons, m.Reason)
	}
	rows, err := q.MoveEnvelopes(ctx, p)
	if err != nil {
		return moves{}, fmt.Errorf("move %d envelopes: %w", len(order), err)
	}
	m := moves{made: make(map[tenantID]envelope.Move, len(rows))}
	var below gatewaydb.EndDescendantsParams
	var ended []tenantID
	for _, r := range rows {
		id := tenantID{r.TenantID, r.ID}
		m.made[id] = envelope.Move{Envelope: r.ID, To: envelope.Status(r.Status), Reason: r.StatusReason}
		m.events = append(m.events, movedEvent(movement{
			id: id, from: r.OldStatus, to: r.Status, reason: r.StatusReason, workflowID: r.WorkflowID, executionID: r.ExecutionID,
			agentID: r.AgentID, team: r.Team, keyID: r.KeyID, actor: want[id].actor,
		}))
		if envelope.Status(r.Status).Final() {
			ended = append(ended, id)
		}
		if envelope.Status(r.Status).Forced() {
			below.TenantIds = append(below.TenantIds, r.TenantID)
			below.Ids = append(below.Ids, r.ID)
			below.RootIds = append(below.RootIds, r.RootID)
			below.Reasons = append(below.Reasons, "its ancestor "+r.ID.String()+" was ended: "+r.Status)
		}
	}
	if len(below.Ids) > 0 {
		under, err := q.EndDescendants(ctx, below)
		if err != nil {
			return moves{}, fmt.Errorf("end descendants: %w", err)
		}
		for _, r := range under {
			id := tenantID{r.TenantID, r.ID}
			ended = append(ended, id)
			m.below = append(m.below, r.ID)
			m.events = append(m.events, movedEvent(movement{
				id: id, to: r.Status, reason: r.StatusReason, workflowID: r.WorkflowID, executionID: r.ExecutionID, agentID: r.AgentID, team: r.Team, keyID: r.KeyID,
			}))
		}
	}
	cancelled, err := cancelApprovals(ctx, q, ended)
	m.events = append(m.events, cancelled...)
	return m, err
}

// cancelApprovals ends the approvals of envelopes that have ended.
func cancelApprovals(ctx context.Context, q *gatewaydb.Queries, ended []tenantID) ([]*busv1.Event, error) {
	if len(ended) == 0 {
		return nil, nil
	}
	var p gatewaydb.CancelApprovalsParams
	for _, id := range ended {
		p.TenantIds = append(p.TenantIds, id.tenant)
		p.OfTenants = append(p.OfTenants, id.tenant)
		p.EnvelopeIds = append(p.EnvelopeIds, id.id)
	}
	rows, err := q.CancelApprovals(ctx, p)
	if err != nil {
		return nil, fmt.Errorf("cancel approvals: %w", err)
	}
	events := make([]*busv1.Event, 0, len(rows))
	for _, r := range rows {
		events = append(events, approvalEvent(r.TenantID, r.ID, r.EnvelopeID, "approval_cancelled", "system", asked{
			decision: r.DecisionID, kind: r.ActionKind, name: r.ActionName, digest: r.Digest, quorum: r.Quorum,
			key: r.RequestedByKey, agent: r.RequestedByAgent, user: r.RequestedByUser,
		}.facts()))
	}
	return events, nil
}

type movement struct {
	id                             tenantID
	from, to, reason               string
	workflowID, executionID, actor string
	agentID, team, keyID           string
}

func movedEvent(m movement) *busv1.Event {
	e := fact(m.id.tenant, "envelope_status_changed", m.actor)
	e.EnvelopeId, e.ExecutionId, e.WorkflowId = m.id.id.String(), m.executionID, m.workflowID
	e.AgentId, e.Team = m.agentID, m.team
	e.Action, e.Resource = "envelope.move", "envelope:"+m.id.id.String()
	e.Payload = facts(map[string]string{"from": m.from, "to": m.to, "reason": m.reason, "key_id": m.keyID})
	return e
}

// asked is what every event about an approval says of it.
type asked struct {
	decision         uuid.UUID
	kind, name       string
	digest           []byte
	quorum           int32
	key, agent, user string // who wants to act
}

func (a asked) facts() map[string]string {
	return map[string]string{
		"decision_id": a.decision.String(), "action_kind": a.kind, "action_name": a.name, "digest": hex.EncodeToString(a.digest),
		"quorum": strconv.Itoa(int(a.quorum)), "requested_by_key": a.key, "requested_by_agent": a.agent, "requested_by_user": a.user,
	}
}

func approvalEvent(tenant, id, env uuid.UUID, kind, actor string, more map[string]string) *busv1.Event {
	e := fact(tenant, kind, actor)
	e.Action, e.Resource = "approval", "approval:"+id.String()
	e.Labels = map[string]string{"approval_id": id.String()}
	if env != uuid.Nil {
		e.EnvelopeId = env.String()
	}
	e.Payload = facts(more)
	return e
}

// fact is a fact of the gateway's about a tenant.
func fact(tenant uuid.UUID, kind, actor string) *busv1.Event {
	if actor == "" {
		actor = "service:gateway"
	}
	return &busv1.Event{
		EventId: uuid.Must(uuid.NewV7()).String(), TenantId: tenant.String(), Stream: busv1.Stream_STREAM_EVENTS, Type: kind,
		Origin: busv1.Origin_ORIGIN_SYSTEM, Writer: "gateway", OccurredAt: timestamppb.New(time.Now()), Actor: actor,
	}
}

func facts(m map[string]string) *structpb.Struct {
	s := &structpb.Struct{Fields: make(map[string]*structpb.Value, len(m))}
	for k, v := range m {
		if v != "" {
			s.Fields[k] = structpb.NewStringValue(v)
		}
	}
	return s
}
