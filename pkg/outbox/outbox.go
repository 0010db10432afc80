// Package outbox tells others what a service has changed: events are committed
// with the change, and a relay carries them to JetStream afterwards, at least
// once and in order. The inbox on the other side makes it exactly one effect.
package outbox

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/outboxdb"
	busv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/bus/v1"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
)

// maxEvent leaves room for headers in a NATS message of the usual limit, 1 MiB.
const maxEvent = 1000 << 10

// Append writes events in tx, so that they exist exactly if the change does. The
// transaction has to see their tenants. What is missing is filled in, in the
// event itself: event_id, stream (events), occurred_at, the trace of ctx. The
// same event id again is the same event. fault.Invalid: nothing was written.
func Append(ctx context.Context, tx db.Tx, events ...*busv1.Event) error {
	if len(events) == 0 {
		return nil
	}
	p := outboxdb.AppendEventsParams{
		Tenants:  make([]uuid.UUID, len(events)),
		EventIds: make([]uuid.UUID, len(events)),
		Writers:  make([]string, len(events)),
		Streams:  make([]int16, len(events)),
		Types:    make([]string, len(events)),
		Events:   make([][]byte, len(events)),
	}
	for i, e := range events {
		tenant, id, err := complete(ctx, e)
		if err != nil {
			return fmt.Errorf("append event %d of %d: %w", i+1, len(events), err)
		}
		data, err := proto.Marshal(e)
		if err != nil {
			return fmt.Errorf("append event %s: %w", id, err)
		}
		if len(data) > maxEvent {
			return fault.New(fault.Invalid, "the event has %d bytes; %d are the most", len(data), maxEvent).WithReason("EVENT_TOO_LARGE")
		}
		p.Tenants[i], p.EventIds[i], p.Events[i] = tenant, id, data
		p.Writers[i], p.Streams[i], p.Types[i] = e.GetWriter(), int16(e.GetStream()), e.GetType()
	}
	if err := outboxdb.New(tx).AppendEvents(ctx, p); err != nil {
		return fmt.Errorf("append %d events: %w", len(events), err)
	}
	return nil
}

func complete(ctx context.Context, e *busv1.Event) (tenant, id uuid.UUID, err error) {
	if tenant, err = uuid.Parse(e.GetTenantId()); err != nil || tenant == uuid.Nil {
		return tenant, id, fault.Field("tenant_id", "is not a UUID")
	}
	if e.EventId == "" {
		e.EventId = uuid.Must(uuid.NewV7()).String()
	}
	if id, err = uuid.Parse(e.EventId); err != nil || id == uuid.Nil {
		return tenant, id, fault.Field("event_id", "is not a UUID")
	}
	// The canonical form, since the tenant is compared with the subject's.
	e.TenantId, e.EventId = tenant.String(), id.String()
	if e.GetType() == "" || e.GetWriter() == "" {
		return tenant, id, fault.Field("type", "an event names its type and its writer")
	}
	if e.Stream == busv1.Stream_STREAM_UNSPECIFIED {
		e.Stream = busv1.Stream_STREAM_EVENTS
	}
	if e.OccurredAt == nil {
		e.OccurredAt = timestamppb.Now()
	}
	if s := trace.SpanContextFromContext(ctx); e.TraceId == "" && s.IsValid() {
		e.TraceId, e.SpanId = s.TraceID().String(), s.SpanID().String()
	}
	return tenant, id, nil
}
