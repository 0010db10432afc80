package api

import (
	"context"
	"math"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fulcrum-io/fulcrum/pkg/bus"
	eventstorev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/eventstore/v1"
	"github.com/fulcrum-io/fulcrum/services/event-processor/internal/journal"
)

// countLimit is how far matching events are counted; a total at the limit
// means "at least so many".
const countLimit = 10_000

// QueryEvents implements eventstorev1.EventStoreServiceServer. Pages follow the
// positions of events, so what is stored meanwhile neither repeats nor hides any.
func (s *Events) QueryEvents(ctx context.Context, req *eventstorev1.QueryEventsRequest) (*eventstorev1.QueryEventsResponse, error) {
	tenant, err := caller(ctx, readEvents, req.GetTenantId())
	if err != nil {
		return nil, err
	}
	f, err := filter(req)
	if err != nil {
		return nil, err
	}
	size, err := pageSize(req.GetLimit())
	if err != nil {
		return nil, err
	}
	l := list{tenant: tenant, kind: "query", filter: f,
		descending: req.GetOrder() != eventstorev1.QueryEventsRequest_ORDER_DIRECTION_ASCENDING}
	from, later, err := l.place(req.GetPageToken())
	if err != nil {
		return nil, err
	}
	if !later {
		if from.total, err = s.reader.Count(ctx, tenant, f, countLimit); err != nil {
			return nil, err
		}
	}

	var events []journal.Event
	switch {
	case !l.descending:
		events, err = s.reader.After(ctx, tenant, f, from.last, math.MaxInt64, size+1)
	case !later:
		events, err = s.reader.Before(ctx, tenant, f, math.MaxInt64, size+1)
	default:
		events, err = s.reader.Before(ctx, tenant, f, from.last, size+1)
	}
	if err != nil {
		return nil, err
	}
	resp := &eventstorev1.QueryEventsResponse{TotalCount: small(from.total)}
	if len(events) > size {
		events = events[:size]
		resp.NextPageToken = l.token(place{events[size-1].Position, from.total})
	}
	resp.Events, err = storedAll(tenant, events)
	return resp, err
}

func filter(req *eventstorev1.QueryEventsRequest) (f journal.Filter, err error) {
	f = journal.Filter{
		Execution: journal.Text(req.GetExecutionId()), Workflow: journal.Text(req.GetWorkflowId()), Type: journal.Text(req.GetEventType()),
		Labels: texts(req.GetLabels()),
	}
	if f.From, err = at(req.GetStartTime(), "start_time"); err != nil {
		return f, err
	}
	f.To, err = at(req.GetEndTime(), "end_time")
	return f, err
}

// GetExecutionEvents implements eventstorev1.EventStoreServiceServer. An
// execution that nothing was stored of yet is an empty one.
func (s *Events) GetExecutionEvents(ctx context.Context, req *eventstorev1.GetExecutionEventsRequest) (*eventstorev1.GetExecutionEventsResponse, error) {
	tenant, err := caller(ctx, readEvents, "")
	if err != nil {
		return nil, err
	}
	f := journal.Filter{Execution: journal.Text(req.GetExecutionId()), Type: journal.Text(req.GetEventType())}
	if f.From, err = at(req.GetStartTime(), "start_time"); err != nil {
		return nil, err
	}
	if f.To, err = at(req.GetEndTime(), "end_time"); err != nil {
		return nil, err
	}
	size, err := pageSize(req.GetLimit())
	if err != nil {
		return nil, err
	}
	l := list{tenant: tenant, kind: "execution", filter: f}
	from, _, err := l.place(req.GetPageToken())
	if err != nil {
		return nil, err
	}
	execution, err := s.reader.Execution(ctx, tenant, f.Execution)
	if err != nil {
		return nil, err
	}
	events, err := s.reader.OfExecution(ctx, tenant, f, from.last, size+1)
	if err != nil {
		return nil, err
	}
	resp := &eventstorev1.GetExecutionEventsResponse{
		ExecutionStartedAt: timestamp(execution.Started), ExecutionEndedAt: timestamp(execution.Ended), TotalEventCount: small(execution.Events),
	}
	if len(events) > size {
		events = events[:size]
		resp.NextPageToken = l.token(place{last: events[size-1].Sequence})
	}
	resp.Events, err = storedAll(tenant, events)
	return resp, err
}

// GetEventStoreStats implements eventstorev1.EventStoreServiceServer.
func (s *Events) GetEventStoreStats(ctx context.Context, req *eventstorev1.GetEventStoreStatsRequest) (*eventstorev1.GetEventStoreStatsResponse, error) {
	tenant, err := caller(ctx, readEvents, req.GetTenantId())
	if err != nil {
		return nil, err
	}
	t, err := s.reader.Totals(ctx, tenant)
	if err != nil {
		return nil, err
	}
	resp := &eventstorev1.GetEventStoreStatsResponse{TotalEvents: t.Events, EventsByType: t.ByType, StorageBytes: t.Bytes}
	if t.Events > 0 {
		resp.OldestEvent, resp.NewestEvent = timestamppb.New(t.Oldest), timestamppb.New(t.Newest)
		resp.Streams = []*eventstorev1.GetEventStoreStatsResponse_StreamInfo{{
			StreamName: bus.EventsStream, MessageCount: t.Events, Bytes: t.Bytes,
			FirstTimestamp: resp.OldestEvent, LastTimestamp: resp.NewestEvent,
		}}
	}
	return resp, nil
}
