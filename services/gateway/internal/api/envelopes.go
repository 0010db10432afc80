package api

import (
	"context"
	"strings"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/propagation"
	"google.golang.org/grpc"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	costv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/cost/v1"
	envelopev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/envelope/v1"
	eventsv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/events/v1"
	eventstorev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/eventstore/v1"

	"github.com/fulcrum-io/fulcrum/services/gateway/internal/decision"
	"github.com/fulcrum-io/fulcrum/services/gateway/internal/envelope"
	"github.com/fulcrum-io/fulcrum/services/gateway/internal/postgres"
)

// Envelopes is fulcrum.envelope.v1.EnvelopeService.
type Envelopes struct {
	envelopev1.UnimplementedEnvelopeServiceServer
	pipeline *decision.Pipeline
	store    *postgres.Store
	cost     costv1.CostServiceClient
	events   eventstorev1.EventStoreServiceClient
	killed   func() // something was ended whose holds are to be given back
}

// NewEnvelopes returns the service over its parts. cost and events only enrich
// what is read: while they are away, an envelope comes without.
func NewEnvelopes(p *decision.Pipeline, store *postgres.Store, cost costv1.CostServiceClient, events eventstorev1.EventStoreServiceClient, killed func()) *Envelopes {
	return &Envelopes{pipeline: p, store: store, cost: cost, events: events, killed: killed}
}

// CreateEnvelope implements EnvelopeService.
func (s *Envelopes) CreateEnvelope(ctx context.Context, req *envelopev1.CreateEnvelopeRequest) (*envelopev1.CreateEnvelopeResponse, error) {
	who, err := identity.From(ctx)
	if err != nil {
		return nil, err
	}
	e, err := s.pipeline.Open(ctx, who, decision.Opening{
		AgentID: req.GetAgentId(), WorkflowID: req.GetWorkflowId(), ExecutionID: req.GetExecutionId(), BudgetID: req.GetBudgetId(),
		AdapterType: req.GetAdapterType(), Parent: orNil(req.GetParentEnvelopeId()), Metadata: req.GetMetadata(),
		Trace: traceOf(ctx), Governance: req.GetGovernance(),
	})
	if err != nil {
		return nil, err
	}
	return &envelopev1.CreateEnvelopeResponse{Envelope: envelopeOf(who.Tenant, e)}, nil
}

// GetEnvelope implements EnvelopeService.
func (s *Envelopes) GetEnvelope(ctx context.Context, req *envelopev1.GetEnvelopeRequest) (*envelopev1.GetEnvelopeResponse, error) {
	tenant, err := identity.Tenant(ctx)
	if err != nil {
		return nil, err
	}
	e, err := s.store.Envelope(ctx, tenant, uuid.MustParse(req.GetEnvelopeId()))
	if err != nil {
		return nil, err
	}
	out := envelopeOf(tenant, e)
	s.enrich(ctx, e, out)
	return &envelopev1.GetEnvelopeResponse{Envelope: out}, nil
}

// enrichment is how long reading an envelope waits for what is nice to have.
const enrichment = 500 * time.Millisecond

// recent is how many events come with an envelope.
const recent = 50

// enrich adds cost and latest events, if their services answer in time.
func (s *Envelopes) enrich(ctx context.Context, e *envelope.Envelope, out *envelopev1.ExecutionEnvelope) {
	ctx, cancel := context.WithTimeout(ctx, enrichment)
	defer cancel()
	costs := make(chan *envelopev1.CostSummary, 1)
	go func() {
		resp, err := s.cost.GetCostSummary(ctx, &costv1.GetCostSummaryRequest{EnvelopeId: out.GetEnvelopeId()})
		if err != nil {
			resp = nil // it is not there, or not now
		}
		costs <- resp.GetCostSummary()
	}()
	resp, err := s.events.QueryEvents(ctx, &eventstorev1.QueryEventsRequest{
		ExecutionId: e.ExecutionID, Limit: recent, Order: eventstorev1.QueryEventsRequest_ORDER_DIRECTION_DESCENDING,
	})
	if err == nil {
		for _, stored := range resp.GetEvents() {
			if stored.GetEnvelopeId() == out.GetEnvelopeId() {
				out.Events = append([]*eventsv1.FulcrumEvent{normalised(stored)}, out.Events...)
			}
		}
	}
	out.Cost = <-costs
}

// UpdateEnvelopeStatus implements EnvelopeService.
func (s *Envelopes) UpdateEnvelopeStatus(ctx context.Context, req *envelopev1.UpdateEnvelopeStatusRequest) (*envelopev1.UpdateEnvelopeStatusResponse, error) {
	to := envelope.FromProto(req.GetStatus())
	if !to.Settable() {
		return nil, fault.New(fault.Precondition, "%s follows from decisions: nobody can set it", to).
			WithReason("ENVELOPE_STATUS_NOT_SETTABLE").WithViolation("status", "must be RUNNING, PAUSED, COMPLETED, FAILED or TERMINATED")
	}
	out, _, err := s.move(ctx, req.GetEnvelopeId(), to, req.GetReason())
	if err != nil {
		return nil, err
	}
	return &envelopev1.UpdateEnvelopeStatusResponse{Envelope: out}, nil
}

// TerminateEnvelope implements EnvelopeService.
func (s *Envelopes) TerminateEnvelope(ctx context.Context, req *envelopev1.TerminateEnvelopeRequest) (*envelopev1.TerminateEnvelopeResponse, error) {
	out, below, err := s.move(ctx, req.GetEnvelopeId(), envelope.Terminated, req.GetReason())
	if err != nil {
		return nil, err
	}
	resp := &envelopev1.TerminateEnvelopeResponse{Envelope: out}
	for _, id := range below {
		resp.TerminatedDescendantIds = append(resp.TerminatedDescendantIds, id.String())
	}
	return resp, nil
}

func (s *Envelopes) move(ctx context.Context, id string, to envelope.Status, reason string) (*envelopev1.ExecutionEnvelope, []uuid.UUID, error) {
	who, err := identity.From(ctx)
	if err != nil {
		return nil, nil, err
	}
	m := envelope.Move{Envelope: uuid.MustParse(id), To: to, Reason: reason}
	below, err := s.store.Move(ctx, who.Tenant, who.Actor(), m)
	if err != nil {
		return nil, nil, err
	}
	if to.Final() {
		s.killed()
	}
	e, err := s.store.Envelope(ctx, who.Tenant, m.Envelope)
	if err != nil {
		return nil, nil, err
	}
	return envelopeOf(who.Tenant, e), below, nil
}

// ListEnvelopes implements EnvelopeService.
func (s *Envelopes) ListEnvelopes(ctx context.Context, req *envelopev1.ListEnvelopesRequest) (*envelopev1.ListEnvelopesResponse, error) {
	tenant, err := identity.Tenant(ctx)
	if err != nil {
		return nil, err
	}
	after, err := position(req.GetPageToken())
	if err != nil {
		return nil, err
	}
	size := pageSize(req.GetPageSize(), 50, 1000)
	list, err := s.store.Envelopes(ctx, tenant, postgres.Filter{
		Status: envelope.FromProto(req.GetStatus()), WorkflowID: req.GetWorkflowId(), AgentID: req.GetAgentId(),
	}, after, size+1)
	if err != nil {
		return nil, err
	}
	resp := &envelopev1.ListEnvelopesResponse{}
	for i, e := range list {
		if i == size {
			last := list[size-1]
			resp.NextPageToken = token(postgres.Position{At: last.CreatedAt, ID: last.ID})
			break
		}
		resp.Envelopes = append(resp.Envelopes, envelopeOf(tenant, e))
	}
	return resp, nil
}

// WatchEnvelope implements EnvelopeService.
func (s *Envelopes) WatchEnvelope(req *envelopev1.WatchEnvelopeRequest, stream grpc.ServerStreamingServer[envelopev1.WatchEnvelopeResponse]) error {
	return s.Watch(stream.Context(), req, stream.Send)
}

// Watch is WatchEnvelope for any kind of stream.
func (s *Envelopes) Watch(ctx context.Context, req *envelopev1.WatchEnvelopeRequest, send func(*envelopev1.WatchEnvelopeResponse) error) error {
	tenant, err := identity.Tenant(ctx)
	if err != nil {
		return err
	}
	id, seen := uuid.MustParse(req.GetEnvelopeId()), int64(0)
	return poll(ctx, look, func(first bool) (done bool, err error) {
		e, err := s.store.Envelope(ctx, tenant, id)
		if err != nil {
			return false, skipOutage(err, first)
		}
		if e.Version == seen {
			return false, nil
		}
		seen = e.Version
		return e.Status.Final(), send(&envelopev1.WatchEnvelopeResponse{Envelope: envelopeOf(tenant, e)})
	})
}

// What an envelope's metadata says beside what its creator put there.
const (
	statusReason = "fulcrum.status_reason"
	agentID      = "fulcrum.agent_id"
)

func envelopeOf(tenant uuid.UUID, e *envelope.Envelope) *envelopev1.ExecutionEnvelope {
	out := &envelopev1.ExecutionEnvelope{
		EnvelopeId: e.ID.String(), TenantId: tenant.String(), WorkflowId: e.WorkflowID, ExecutionId: e.ExecutionID,
		Governance: e.Governance, Status: e.Status.Proto(), CreatedAt: stamp(e.CreatedAt), UpdatedAt: stamp(e.UpdatedAt),
		CompletedAt: stamp(e.CompletedAt), TraceContext: e.Trace, Metadata: make(map[string]string, len(e.Metadata)+2),
		Framework: &envelopev1.FrameworkContext{FrameworkType: framework(e.AdapterType)},
	}
	if e.Parent != uuid.Nil {
		out.ParentEnvelopeId = e.Parent.String()
	}
	for k, v := range e.Metadata {
		out.Metadata[k] = v
	}
	if e.Reason != "" {
		out.Metadata[statusReason] = e.Reason
	}
	if e.AgentID != "" {
		out.Metadata[agentID] = e.AgentID
	}
	if out.Governance != nil && out.Governance.GetBudgetId() == "" && e.BudgetID != "" {
		out.Governance.BudgetId = e.BudgetID
	}
	return out
}

// framework is what an adapter runs on.
func framework(adapter string) envelopev1.FrameworkType {
	switch a := strings.ToLower(adapter); {
	case a == "":
		return envelopev1.FrameworkType_FRAMEWORK_TYPE_UNSPECIFIED
	case strings.Contains(a, "lang"):
		return envelopev1.FrameworkType_FRAMEWORK_TYPE_LANGGRAPH
	case strings.Contains(a, "crew"):
		return envelopev1.FrameworkType_FRAMEWORK_TYPE_CREWAI
	case strings.Contains(a, "autogen"):
		return envelopev1.FrameworkType_FRAMEWORK_TYPE_AUTOGEN
	case strings.Contains(a, "microsoft"), strings.Contains(a, "semantic"):
		return envelopev1.FrameworkType_FRAMEWORK_TYPE_MICROSOFT
	case strings.Contains(a, "a2a"):
		return envelopev1.FrameworkType_FRAMEWORK_TYPE_A2A_PROXY
	}
	return envelopev1.FrameworkType_FRAMEWORK_TYPE_CUSTOM
}

// traceOf is the W3C trace of a call.
func traceOf(ctx context.Context) map[string]string {
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	return carrier
}
