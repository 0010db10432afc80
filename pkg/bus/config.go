package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"

	busv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/bus/v1"
)

// WatchConfig calls changed with the newest change of every tenant for a kind,
// and then with each new one, in order, until ctx ends. Each instance gets all.
// A change is a notice: changed loads what it says is current. An error is
// logged, and the change is offered again after a while.
func (b *Bus) WatchConfig(ctx context.Context, kind string, changed func(context.Context, *busv1.Event) error) error {
	for {
		err := b.watchConfig(ctx, kind, changed)
		if ctx.Err() != nil {
			return nil
		}
		b.log.LogAttrs(ctx, slog.LevelWarn, "configuration watch starts again", slog.String("kind", kind), slog.Any("err", err))
		if sleep(ctx, time.Second) != nil {
			return nil
		}
	}
}

func (b *Bus) watchConfig(ctx context.Context, kind string, changed func(context.Context, *busv1.Event) error) error {
	if err := b.awaitStreams(ctx); err != nil {
		return err
	}
	consumer, err := b.js.OrderedConsumer(ctx, ConfigStream, jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{configPrefix + ".*." + token(kind)}, DeliverPolicy: jetstream.DeliverLastPerSubjectPolicy,
	})
	if err != nil {
		return fmt.Errorf("watch %s: %w", kind, err)
	}
	messages, err := consumer.Messages()
	if err != nil {
		return fmt.Errorf("watch %s: %w", kind, err)
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	defer messages.Stop()
	go func() {
		b.awaitNewStream(ctx)
		messages.Stop()
	}()
	for {
		msg, err := messages.Next()
		if err != nil {
			return fmt.Errorf("watch %s: %w", kind, err)
		}
		var e busv1.Event
		if err := proto.Unmarshal(msg.Data(), &e); err != nil || e.GetTenantId() != tenantOf(msg.Subject()) {
			b.log.LogAttrs(ctx, slog.LevelError, "configuration change is not one of ours", slog.String("subject", msg.Subject()), slog.Any("err", err))
			continue
		}
		if err := changed(ctx, &e); err != nil {
			return fmt.Errorf("take over %s of tenant %s: %w", kind, e.GetTenantId(), err)
		}
	}
}

// watchPeriod is how often a watch makes sure that its stream is the one it
// started on: after the store was lost it would wait for numbers long gone.
const watchPeriod = 5 * time.Second

// awaitNewStream returns when ConfigStream was made again, or ctx ended.
func (b *Bus) awaitNewStream(ctx context.Context) {
	var born time.Time
	for sleep(ctx, watchPeriod) == nil {
		s, err := b.js.Stream(ctx, ConfigStream)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			return
		}
		if err != nil {
			continue // away is not lost
		}
		created := s.CachedInfo().Created
		if !born.IsZero() && !created.Equal(born) {
			return
		}
		born = created
	}
}
