package bus

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Advisory is JetStream's own word that it gave a message up.
type Advisory struct {
	Kind           string // "max_deliveries" or "terminated"
	Stream         string
	Consumer       string
	StreamSequence uint64
	Deliveries     int
	Reason         string // of "terminated"
}

// Advisories calls fn with each advisory until ctx ends. One is acked after fn
// returned nil, else it comes again.
func (b *Bus) Advisories(ctx context.Context, durable string, fn func(context.Context, Advisory) error) error {
	for {
		err := b.advisories(ctx, durable, fn)
		if ctx.Err() != nil {
			return nil
		}
		b.log.LogAttrs(ctx, slog.LevelWarn, "advisories start again", slog.Any("err", err))
		if sleep(ctx, time.Second) != nil {
			return nil
		}
	}
}

func (b *Bus) advisories(ctx context.Context, durable string, fn func(context.Context, Advisory) error) error {
	if err := b.awaitStreams(ctx); err != nil {
		return err
	}
	consumer, err := b.js.CreateOrUpdateConsumer(ctx, AdvisoriesStream, jetstream.ConsumerConfig{
		Durable: durable, AckPolicy: jetstream.AckExplicitPolicy, AckWait: 30 * time.Second})
	if err != nil {
		return fmt.Errorf("consumer %s: %w", durable, err)
	}
	messages, err := consumer.Messages()
	if err != nil {
		return fmt.Errorf("consumer %s: %w", durable, err)
	}
	defer context.AfterFunc(ctx, messages.Stop)()
	return batches(messages, 1, 0, func(batch []jetstream.Msg) {
		msg := batch[0]
		a, err := readAdvisory(msg.Subject(), msg.Data())
		if err != nil {
			_ = msg.Term() // not an advisory; it will not become one
			return
		}
		if err := fn(ctx, a); err != nil {
			b.log.LogAttrs(ctx, slog.LevelWarn, "advisory was not taken", slog.Any("err", err))
			_ = msg.NakWithDelay(time.Second)
			return
		}
		_ = msg.Ack() // if it is lost, the advisory comes again
	})
}

// readAdvisory reads the fields that io.nats.jetstream.advisory.v1.max_deliver
// and .terminated share.
func readAdvisory(subject string, data []byte) (Advisory, error) {
	var body struct {
		Stream     string `json:"stream"`
		Consumer   string `json:"consumer"`
		StreamSeq  uint64 `json:"stream_seq"`
		Deliveries int    `json:"deliveries"`
		Reason     string `json:"reason"`
	}
	if err := json.Unmarshal(data, &body); err != nil {
		return Advisory{}, err
	}
	kind := "max_deliveries"
	if strings.Contains(subject, ".MSG_TERMINATED.") {
		kind = "terminated"
	}
	return Advisory{Kind: kind, Stream: body.Stream, Consumer: body.Consumer,
		StreamSequence: body.StreamSeq, Deliveries: body.Deliveries, Reason: body.Reason}, nil
}
