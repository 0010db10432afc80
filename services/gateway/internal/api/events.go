package api

import (
	"context"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	busv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/bus/v1"
	eventsv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/events/v1"
	eventstorev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/eventstore/v1"

	"github.com/fulcrum-io/fulcrum/services/gateway/internal/decision"
	"github.com/fulcrum-io/fulcrum/services/gateway/internal/envelope"
)

// Events is fulcrum.eventstore.v1.EventStoreService: it takes events in itself
// and asks the event processor for what is stored.
type Events struct {
	eventstorev1.UnimplementedEventStoreServiceServer
	recorder decision.Recorder
	stored   eventstorev1.EventStoreServiceClient
	limits   Counter
}

// NewEvents returns the service over its parts.
func NewEvents(recorder decision.Recorder, stored eventstorev1.EventStoreServiceClient, limits Counter) *Events {
	return &Events{recorder: recorder, stored: stored, limits: limits}
}

// PublishEvent implements EventStoreService: when it answers, the event is
// durable and on its way to the store.
func (s *Events) PublishEvent(ctx context.Context, req *eventstorev1.PublishEventRequest) (*eventstorev1.PublishEventResponse, error) {
	ids, at, err := s.publish(ctx, "event", []*eventstorev1.EventPayload{req.GetEvent()})
	if err != nil {
		return nil, err
	}
	return &eventstorev1.PublishEventResponse{EventId: ids[0], StoredAt: at}, nil
}

// PublishEventBatch implements EventStoreService.
func (s *Events) PublishEventBatch(ctx context.Context, req *eventstorev1.PublishEventBatchRequest) (*eventstorev1.PublishEventBatchResponse, error) {
	who, err := identity.From(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.limits.Allow(ctx, who, len(req.GetEvents())/100); err != nil {
		return nil, err
	}
	ids, _, err := s.publish(ctx, "events", req.GetEvents())
	if err != nil {
		return nil, err
	}
	return &eventstorev1.PublishEventBatchResponse{PublishedCount: int32(len(ids)), EventIds: ids}, nil
}

func (s *Events) publish(ctx context.Context, field string, payloads []*eventstorev1.EventPayload) (ids []string, at *timestamppb.Timestamp, err error) {
	who, err := identity.From(ctx)
	if err != nil {
		return nil, nil, err
	}
	entry := &decision.Entry{Tenant: who.Tenant}
	at = timestamppb.Now()
	for i, p := range payloads {
		e := callersEvent(who, p, at)
		if proto.Size(e) > maxEvent {
			at := field
			if len(payloads) > 1 {
				at = fmt.Sprintf("%s[%d]", field, i)
			}
			return nil, nil, fault.Field(at, "is too large: an event may have %d bytes", maxEvent).WithReason("EVENT_TOO_LARGE")
		}
		entry.Events = append(entry.Events, e)
		ids = append(ids, e.GetEventId())
		entry.Moves = append(entry.Moves, closing(e)...)
	}
	if _, err := s.recorder.Record(ctx, entry); err != nil {
		return nil, nil, err
	}
	return ids, at, nil
}

// maxEvent is the largest event, below what the outbox takes: one too large must
// be refused here, before it makes others in its batch wait.
const maxEvent = 900 << 10

// callersEvent is what a caller publishes. It is stored as his: whatever type
// he gives it, it is never mistaken for a fact of ours.
func callersEvent(who identity.Principal, p *eventstorev1.EventPayload, now *timestamppb.Timestamp) *busv1.Event {
	e := &busv1.Event{
		EventId: uuid.Must(uuid.NewV7()).String(), TenantId: who.Tenant.String(), Stream: busv1.Stream_STREAM_EVENTS, Type: p.GetEventType(),
		Origin: busv1.Origin_ORIGIN_CALLER, Writer: "gateway", OccurredAt: p.GetTimestamp(), ExecutionId: p.GetExecutionId(),
		EnvelopeId: p.GetEnvelopeId(), WorkflowId: p.GetWorkflowId(), Actor: who.Actor(), Action: "publish_event",
		Payload: p.GetPayload(), Labels: p.GetLabels(), TraceId: p.GetTraceId(), SpanId: p.GetSpanId(),
		AgentId: who.AgentID, Team: who.Team, ApiKeyId: who.KeyID, UserId: who.UserID,
	}
	if e.OccurredAt == nil {
		e.OccurredAt = proto.CloneOf(now)
	}
	return e
}

// closing is how an event that ends an execution moves the envelope it names:
// published clients report the end and never ask for the move.
func closing(e *busv1.Event) []envelope.Move {
	id, err := uuid.Parse(e.GetEnvelopeId())
	if err != nil {
		return nil
	}
	to := map[string]envelope.Status{"execution_completed": envelope.Completed, "execution_failed": envelope.Failed}[e.GetType()]
	if to == "" {
		return nil
	}
	return []envelope.Move{
		{Envelope: id, To: envelope.Running, Reason: "reported by " + e.GetActor()},
		{Envelope: id, To: to, Reason: "reported by " + e.GetActor()},
	}
}

// QueryEvents implements EventStoreService.
func (s *Events) QueryEvents(ctx context.Context, req *eventstorev1.QueryEventsRequest) (*eventstorev1.QueryEventsResponse, error) {
	return s.stored.QueryEvents(ctx, req)
}

// GetExecutionEvents implements EventStoreService.
func (s *Events) GetExecutionEvents(ctx context.Context, req *eventstorev1.GetExecutionEventsRequest) (*eventstorev1.GetExecutionEventsResponse, error) {
	return s.stored.GetExecutionEvents(ctx, req)
}

// GetEventStoreStats implements EventStoreService.
func (s *Events) GetEventStoreStats(ctx context.Context, req *eventstorev1.GetEventStoreStatsRequest) (*eventstorev1.GetEventStoreStatsResponse, error) {
	return s.stored.GetEventStoreStats(ctx, req)
}

// StreamEvents implements EventStoreService.
func (s *Events) StreamEvents(req *eventstorev1.StreamEventsRequest, stream grpc.ServerStreamingServer[eventstorev1.StreamEventsResponse]) error {
	return s.Stream(stream.Context(), req, stream.Send)
}

// Stream is StreamEvents for any kind of stream.
func (s *Events) Stream(ctx context.Context, req *eventstorev1.StreamEventsRequest, send func(*eventstorev1.StreamEventsResponse) error) error {
	from, err := s.stored.StreamEvents(ctx, req)
	if err != nil {
		return err
	}
	return relay(ctx, from, send)
}

// normalised is a stored event in the form that envelopes carry.
func normalised(e *eventstorev1.StoredEvent) *eventsv1.FulcrumEvent {
	out := &eventsv1.FulcrumEvent{
		EventId: e.GetEventId(), EnvelopeId: e.GetEnvelopeId(), Timestamp: e.GetTimestamp(), EventType: typeOf(e.GetEventType()),
		Severity: eventsv1.EventSeverity_EVENT_SEVERITY_INFO, NativePayload: e.GetPayload(), TenantId: e.GetTenantId(), WorkflowId: e.GetWorkflowId(),
	}
	if e.GetTraceId() != "" {
		out.Trace = &eventsv1.TraceContext{TraceId: e.GetTraceId(), SpanId: e.GetSpanId()}
	}
	return out
}

// typeOf is the enum value of a wire event type; most words have none.
func typeOf(wire string) eventsv1.EventType {
	alias := map[string]string{
		"llm_call": "LLM_CALL_COMPLETED", "tool_call": "TOOL_INVOKED", "checkpoint_saved": "CHECKPOINT_CREATED", "decision_made": "POLICY_EVALUATED",
	}
	name := alias[wire]
	if name == "" {
		name = strings.ToUpper(wire)
	}
	if v, ok := eventsv1.EventType_value["EVENT_TYPE_"+name]; ok {
		return eventsv1.EventType(v)
	}
	return eventsv1.EventType_EVENT_TYPE_CUSTOM
}
