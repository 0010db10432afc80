package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/telemetry"
	busv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/bus/v1"
)

// Publisher is what a relay needs of a Bus.
type Publisher interface {
	// PublishAll publishes the events in order and returns, for each, nil once
	// JetStream has it, or why not: a fault.Invalid will be the same next time,
	// anything else may go away.
	PublishAll(ctx context.Context, events []*busv1.Event) []error
}

// Publish publishes one event and returns when JetStream has it. Its id makes
// a repetition within the dedupe window no event.
func (b *Bus) Publish(ctx context.Context, e *busv1.Event) error {
	return b.PublishAll(ctx, []*busv1.Event{e})[0]
}

// PublishAll implements Publisher. The whole batch is in flight at once. A
// stream that is gone is made again: the store may have been lost.
func (b *Bus) PublishAll(ctx context.Context, events []*busv1.Event) []error {
	errs := make([]error, len(events))
	acks := make([]jetstream.PubAckFuture, len(events))
	for i, e := range events {
		msg, err := message(ctx, e)
		if err == nil && !b.conn.IsConnected() {
			// Otherwise the client would buffer it, and time it out much later.
			err = errors.New("not connected to nats")
		}
		if err == nil {
			acks[i], err = b.js.PublishMsgAsync(msg, jetstream.WithMsgID(e.GetEventId()))
		}
		errs[i] = err
	}
	gone := false
	for i, ack := range acks {
		if errs[i] == nil {
			errs[i] = await(ctx, ack)
		}
		if errs[i] != nil {
			gone = gone || errors.Is(errs[i], jetstream.ErrNoStreamResponse)
			errs[i] = refused(events[i].GetEventId(), errs[i])
		}
	}
	if gone {
		if err := b.EnsureStreams(ctx); err != nil {
			b.log.LogAttrs(ctx, slog.LevelWarn, "streams are gone and cannot be made again", slog.Any("err", err))
		}
	}
	return errs
}

func await(ctx context.Context, ack jetstream.PubAckFuture) error {
	select {
	case <-ack.Ok():
		return nil
	case err := <-ack.Err():
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// refused tells what will never be accepted from what may be next time.
func refused(id string, err error) error {
	for _, never := range []error{nats.ErrMaxPayload, nats.ErrBadSubject} {
		if errors.Is(err, never) {
			return fault.New(fault.Invalid, "event %s cannot be published: %v", id, never)
		}
	}
	return fmt.Errorf("publish %s: %w", id, err)
}

func message(ctx context.Context, e *busv1.Event) (*nats.Msg, error) {
	data, err := proto.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("encode event %s: %w", e.GetEventId(), err)
	}
	msg := &nats.Msg{Subject: Subject(e), Data: data, Header: nats.Header{}}
	telemetry.Inject(ctx, msg.Header)
	if e.GetTraceId() != "" && len(msg.Header["traceparent"]) == 0 && e.GetSpanId() != "" {
		// The relay has no trace of its own: the event's goes on.
		msg.Header["traceparent"] = []string{"00-" + e.GetTraceId() + "-" + e.GetSpanId() + "-01"}
	}
	return msg, nil
}
