// Package api speaks gRPC for the journal: it translates and decides nothing.
package api

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fulcrum-io/fulcrum/pkg/bus"
	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	agentv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/agent/v1"
	eventstorev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/eventstore/v1"
	"github.com/fulcrum-io/fulcrum/services/event-processor/internal/agents"
	"github.com/fulcrum-io/fulcrum/services/event-processor/internal/journal"
	"github.com/fulcrum-io/fulcrum/services/event-processor/internal/tail"
)

// The scopes that calls ask for.
const (
	readEvents = "event:read"
	readAgents = "agent:read"
	readCosts  = "cost:read"
)

// Events is the reading half of the published EventStoreService.
type Events struct {
	eventstorev1.UnimplementedEventStoreServiceServer
	reader journal.Reader
	hub    *tail.Hub
}

// NewEvents returns Events over r; hub wakes its streams.
func NewEvents(r journal.Reader, hub *tail.Hub) *Events { return &Events{reader: r, hub: hub} }

// Agents is what the published AgentService measures.
type Agents struct {
	agentv1.UnimplementedAgentServiceServer
	source agents.Source
}

// NewAgents returns Agents over s.
func NewAgents(s agents.Source) *Agents { return &Agents{source: s} }

// caller returns whose events a call is about. A request may repeat the tenant
// and may not name another.
func caller(ctx context.Context, scope, named string) (uuid.UUID, error) {
	p, err := identity.Allowed(ctx, scope)
	if err != nil {
		return uuid.Nil, err
	}
	if named == "" {
		return p.Tenant, nil
	}
	if id, err := uuid.Parse(named); err != nil || id != p.Tenant {
		return uuid.Nil, fault.New(fault.Denied, "tenant_id is not the tenant of this credential").
			WithReason("TENANT_MISMATCH").WithViolation("tenant_id", "is not the tenant of this credential").
			WithHint("Leave tenant_id out: the credential names the tenant.")
	}
	return p.Tenant, nil
}

// at is a time of a request; unset is the zero time.
func at(t *timestamppb.Timestamp, field string) (time.Time, error) {
	if t == nil {
		return time.Time{}, nil
	}
	if err := t.CheckValid(); err != nil {
		return time.Time{}, fault.Field(field, "is not a time between the years 1 and 9999")
	}
	return t.AsTime(), nil
}

func timestamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

func small(n int64) int32 { return int32(max(math.MinInt32, min(n, math.MaxInt32))) }

func stored(tenant uuid.UUID, e journal.Event) (*eventstorev1.StoredEvent, error) {
	payload := &structpb.Struct{}
	if err := payload.UnmarshalJSON(e.Payload); err != nil {
		return nil, fmt.Errorf("read payload of event %s: %w", e.ID, err)
	}
	return &eventstorev1.StoredEvent{
		EventId: e.ID.String(), ExecutionId: e.ExecutionID, EnvelopeId: e.EnvelopeID, TenantId: tenant.String(), WorkflowId: e.WorkflowID,
		EventType: e.Type, Timestamp: timestamppb.New(e.OccurredAt), SequenceNumber: e.Sequence, Payload: payload,
		TraceId: e.TraceID, SpanId: e.SpanID, Labels: e.Labels,
		StreamName: bus.EventsStream, StreamSequence: e.Position, StoredAt: timestamppb.New(e.StoredAt),
	}, nil
}

func storedAll(tenant uuid.UUID, events []journal.Event) ([]*eventstorev1.StoredEvent, error) {
	out := make([]*eventstorev1.StoredEvent, len(events))
	for i, e := range events {
		var err error
		if out[i], err = stored(tenant, e); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// texts makes a filter match what the journal keeps.
func texts(m map[string]string) map[string]string {
	out := make(map[string]string, len(m))
	for k, v := range m {
		out[journal.Text(k)] = journal.Text(v)
	}
	return out
}
