package api

import (
	"context"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/rpc"
	eventstorev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/eventstore/v1"
	"github.com/fulcrum-io/fulcrum/services/event-processor/internal/journal"
)

const (
	// streamPage is how many events are read at a time, and so held in memory.
	streamPage = 200
	// streamSpan is how many positions one statement looks through: a filter
	// that matches little would otherwise run into the statement timeout.
	streamSpan = 20_000
)

// StreamEvents implements eventstorev1.EventStoreServiceServer. Positions become
// visible in order, so reading on from the last one misses and repeats nothing.
func (s *Events) StreamEvents(req *eventstorev1.StreamEventsRequest, stream grpc.ServerStreamingServer[eventstorev1.StreamEventsResponse]) error {
	ctx := stream.Context()
	tenant, err := caller(ctx, readEvents, req.GetTenantId())
	if err != nil {
		return err
	}
	// Listening starts before the head is read: what comes in between wakes us.
	listener, err := s.hub.Listen(tenant)
	if err != nil {
		return err
	}
	defer listener.Close()
	head, err := s.reader.Head(ctx, tenant)
	if err != nil {
		return err
	}
	cursor, err := s.start(ctx, tenant, req, head)
	if err != nil {
		return err
	}
	// The client knows by it that events from now on will come.
	if err := stream.SendHeader(metadata.MD{}); err != nil {
		return err
	}

	f := follower{reader: s.reader, tenant: tenant, filter: streamFilter(req), stream: stream, cursor: cursor}
	for upTo := head; ; {
		if err := f.sendUpTo(ctx, upTo); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-rpc.Draining(ctx):
			return fault.New(fault.Down, "this instance is stopping").
				WithHint("Open the stream again with start_sequence one above the last stream_sequence received.")
		case <-listener.Wake():
			upTo = max(upTo, listener.Position())
		}
	}
}

// start returns the position behind which a stream begins.
func (s *Events) start(ctx context.Context, tenant uuid.UUID, req *eventstorev1.StreamEventsRequest, head int64) (int64, error) {
	switch from := req.GetStartPosition().(type) {
	case *eventstorev1.StreamEventsRequest_StartSequence:
		if from.StartSequence < 0 {
			return 0, fault.Field("start_sequence", "must not be negative")
		}
		return max(0, from.StartSequence-1), nil
	case *eventstorev1.StreamEventsRequest_StartTime:
		t, err := at(from.StartTime, "start_time")
		if err != nil {
			return 0, err
		}
		return s.reader.StoredBefore(ctx, tenant, t)
	}
	return head, nil
}

func streamFilter(req *eventstorev1.StreamEventsRequest) journal.Filter {
	return journal.Filter{
		Execution: journal.Text(req.GetExecutionId()), Workflow: journal.Text(req.GetWorkflowId()), Type: journal.Text(req.GetEventType()),
		Labels: texts(req.GetLabels()),
	}
}

// follower sends a tenant's matching events in the order of their positions.
type follower struct {
	reader journal.Reader
	tenant uuid.UUID
	filter journal.Filter
	stream grpc.ServerStreamingServer[eventstorev1.StreamEventsResponse]
	cursor int64 // everything up to it is sent
}

func (f *follower) sendUpTo(ctx context.Context, upTo int64) error {
	for f.cursor < upTo {
		select {
		case <-rpc.Draining(ctx):
			return nil
		default:
		}
		end := min(upTo, f.cursor+streamSpan)
		events, err := f.reader.After(ctx, f.tenant, f.filter, f.cursor, end, streamPage)
		if err != nil {
			return err
		}
		for _, e := range events {
			s, err := stored(f.tenant, e)
			if err != nil {
				return err
			}
			if err := f.stream.Send(&eventstorev1.StreamEventsResponse{Event: s}); err != nil {
				return err
			}
			f.cursor = e.Position
		}
		if len(events) < streamPage {
			f.cursor = end
		}
	}
	return nil
}
