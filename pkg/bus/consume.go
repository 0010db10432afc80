package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/metric"

	"github.com/fulcrum-io/fulcrum/pkg/telemetry"
	busv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/bus/v1"
)

// Message is one delivered event.
type Message struct {
	Event          *busv1.Event
	StreamSequence uint64
	Deliveries     int // this one included
}

// Dead is a message that will not be delivered again, and why.
type Dead struct {
	Consumer   string
	Subject    string
	Tenant     string // of the subject, which the publisher's rights vouch for
	Data       []byte // as received; perhaps not an event
	Event      *busv1.Event
	Headers    map[string][]string
	Deliveries int
	Err        error
}

// Consumer says what to consume and how.
type Consumer struct {
	Durable string // the same name in every instance that shares the work
	Stream  string // EventsStream if empty

	Batch      int           // messages handled together; 256
	MaxDeliver int           // tries before a message is dead; 5
	AckWait    time.Duration // before an unanswered message comes again; 10 s
	Retry      time.Duration // before a failed message comes again, doubling; 200 ms
	Linger     time.Duration // how long a batch that is not full waits for more; 20 ms

	// Handle takes a batch in one transaction: nil means committed. It may be
	// called again with the same messages, together or one by one.
	Handle func(context.Context, []Message) error
	// Bury keeps a dead message for people. Until it succeeds the message is
	// not given up.
	Bury func(context.Context, Dead) error
	// Meter, if set, measures fulcrum.bus.pending: messages not acked yet.
	Meter metric.MeterProvider
	// AfterCommit, if set, runs between Handle and the acks. Tests fail here.
	AfterCommit func() error
}

func (c Consumer) defaults() Consumer {
	if c.Stream == "" {
		c.Stream = EventsStream
	}
	c.Batch = orElse(c.Batch, 256)
	c.MaxDeliver = orElse(c.MaxDeliver, 5)
	c.AckWait = orElse(c.AckWait, 10*time.Second)
	c.Retry = orElse(c.Retry, 200*time.Millisecond)
	c.Linger = orElse(c.Linger, 20*time.Millisecond)
	return c
}

func (c Consumer) config() jetstream.ConsumerConfig {
	return jetstream.ConsumerConfig{
		Durable: c.Durable, AckPolicy: jetstream.AckExplicitPolicy, AckWait: c.AckWait,
		// We count tries ourselves and bury; JetStream's own limit is the net
		// below, whose advisories are kept in AdvisoriesStream.
		MaxDeliver: c.MaxDeliver * 4, MaxAckPending: c.Batch * 8,
	}
}

func orElse[T int | time.Duration](v, def T) T {
	if v == 0 {
		return def
	}
	return v
}

// Consume delivers messages to c.Handle until ctx ends. NATS being away is
// waited out. A message is acked only after Handle returned nil.
func (b *Bus) Consume(ctx context.Context, c Consumer) error {
	c = c.defaults()
	for {
		err := b.consume(ctx, c)
		if ctx.Err() != nil {
			return nil
		}
		b.log.LogAttrs(ctx, slog.LevelWarn, "consumer starts again", slog.String("consumer", c.Durable), slog.Any("err", err))
		if sleep(ctx, time.Second) != nil {
			return nil
		}
	}
}

func (b *Bus) consume(ctx context.Context, c Consumer) error {
	if err := b.awaitStreams(ctx); err != nil {
		return err
	}
	consumer, err := b.js.CreateOrUpdateConsumer(ctx, c.Stream, c.config())
	if err != nil {
		return fmt.Errorf("consumer %s: %w", c.Durable, err)
	}
	messages, err := consumer.Messages(jetstream.PullMaxMessages(c.Batch), jetstream.PullExpiry(10*time.Second), jetstream.PullHeartbeat(time.Second))
	if err != nil {
		return fmt.Errorf("consumer %s: %w", c.Durable, err)
	}
	defer context.AfterFunc(ctx, messages.Stop)()
	unwatch, err := watchPending(c, consumer)
	if err != nil {
		return err
	}
	defer unwatch()
	return batches(messages, c.Batch, c.Linger, func(batch []jetstream.Msg) { b.take(ctx, c, batch) })
}

// batches hands over what has come, after a short wait for more: consumers are
// not on the path of a decision, and a batch costs them one commit whatever its
// size. It ends when the iterator does.
func batches(messages jetstream.MessagesContext, limit int, linger time.Duration, take func([]jetstream.Msg)) error {
	defer messages.Stop()
	queue := make(chan jetstream.Msg, limit)
	ended := make(chan error, 1)
	go func() {
		defer close(queue)
		for {
			msg, err := messages.Next()
			if err != nil {
				ended <- err
				return
			}
			queue <- msg
		}
	}()
	for msg := range queue {
		batch := []jetstream.Msg{msg}
		enough := time.NewTimer(linger)
		for more := true; more && len(batch) < limit; {
			select {
			case msg, ok := <-queue:
				if more = ok; ok {
					batch = append(batch, msg)
				}
			case <-enough.C:
				more = false
			}
		}
		enough.Stop()
		take(batch)
	}
	return <-ended
}

// take handles a batch together and, if that fails, message by message, so
// that one bad message fails alone.
func (b *Bus) take(ctx context.Context, c Consumer, batch []jetstream.Msg) {
	good := make([]delivery, 0, len(batch))
	for _, msg := range batch {
		d, err := decode(msg)
		if err == nil && d.message.Deliveries > 2*c.MaxDeliver {
			err = errors.New("delivered again and again without an answer: whoever handled it did not live to say why")
		}
		if err != nil {
			b.bury(ctx, c, d, err) // no later try will read it better
			continue
		}
		good = append(good, d)
	}
	if len(good) == 0 || b.persist(ctx, c, good) == nil {
		return
	}
	for _, d := range good {
		if ctx.Err() != nil {
			return // they come again
		}
		if err := b.persist(ctx, c, []delivery{d}); err != nil {
			b.failed(ctx, c, d, err)
		}
	}
}

// persist handles a batch for as long as the failure is not the messages' own:
// while the database is away, they are kept here instead of going round.
func (b *Bus) persist(ctx context.Context, c Consumer, ds []delivery) error {
	for wait := c.Retry; ; wait = min(2*wait, c.AckWait/3) {
		err := b.handle(ctx, c, ds)
		if err == nil || !temporary(err) || ctx.Err() != nil {
			return err
		}
		b.log.LogAttrs(ctx, slog.LevelWarn, "consumer waits", slog.String("consumer", c.Durable), slog.Any("err", err))
		for _, d := range ds {
			_ = d.msg.InProgress() // if it is lost, the message comes again
		}
		if sleep(ctx, wait) != nil {
			return err
		}
	}
}

func (b *Bus) handle(ctx context.Context, c Consumer, ds []delivery) error {
	messages := make([]Message, len(ds))
	for i, d := range ds {
		messages[i] = d.message
	}
	if err := safely(telemetry.Extract(ctx, ds[0].msg.Headers()), c.Handle, messages); err != nil {
		return err
	}
	if c.AfterCommit != nil && c.AfterCommit() != nil {
		return nil // committed; the acks are lost
	}
	for _, d := range ds {
		if err := d.msg.Ack(); err != nil {
			b.log.LogAttrs(ctx, slog.LevelWarn, "ack was lost", slog.String("consumer", c.Durable), slog.Any("err", err))
		}
	}
	return nil
}

func safely(ctx context.Context, do func(context.Context, []Message) error, messages []Message) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return do(ctx, messages)
}
