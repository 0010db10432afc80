package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	busv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/bus/v1"
)

// The streams. Subjects are <prefix>.<tenant>.<type or kind>.
const (
	EventsStream     = "FULCRUM_EVENTS"
	ConfigStream     = "FULCRUM_CONFIG"
	AdvisoriesStream = "FULCRUM_ADVISORIES"

	eventsPrefix = "fulcrum.events"
	configPrefix = "fulcrum.config"
)

// dedupe is how long JetStream drops a message whose id it has seen. Beyond it
// the consumers' inbox takes over.
const dedupe = 2 * time.Minute

// maxMessage is NATS's own default for a payload, so no server needs a setting.
const maxMessage = 1 << 20

func streams() []jetstream.StreamConfig {
	return []jetstream.StreamConfig{
		{
			Name: EventsStream, Subjects: []string{eventsPrefix + ".*.>"},
			Description: "every event of every tenant, on its way to the consumers",
			// What all consumers have taken is gone; what one has not is kept.
			Storage: jetstream.FileStorage, Retention: jetstream.InterestPolicy,
			// Full means refuse, not forget: what is refused stays in the outbox.
			MaxBytes: 1 << 30, Discard: jetstream.DiscardNew,
			MaxMsgSize: maxMessage, Duplicates: dedupe,
		},
		{
			Name: ConfigStream, Subjects: []string{configPrefix + ".*.*"},
			Description: "the newest configuration change per tenant and kind",
			Storage:     jetstream.FileStorage, MaxMsgsPerSubject: 1, MaxMsgSize: maxMessage, Duplicates: dedupe,
		},
		{
			Name: AdvisoriesStream,
			Subjects: []string{
				"$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.>",
				"$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.>",
			},
			Description: "messages that JetStream gave up on",
			Storage:     jetstream.FileStorage, MaxAge: 7 * 24 * time.Hour, MaxBytes: 256 << 20,
		},
	}
}

// standing are the consumers whose interest keeps an event in EventsStream:
// what is published without interest is dropped.
var standing = []string{"event-processor", "audit", "immune"}

// EnsureStreams creates the streams or brings them up to date.
func (b *Bus) EnsureStreams(ctx context.Context) error {
	for _, cfg := range streams() {
		if cfg.Name == EventsStream {
			if err := b.openEvents(ctx, cfg); err != nil {
				return err
			}
		}
		if _, err := b.js.CreateOrUpdateStream(ctx, cfg); err != nil {
			return fmt.Errorf("stream %s: %w", cfg.Name, err)
		}
	}
	return nil
}

// openEvents sees to it that the events' stream and its consumers exist. Until
// they all do, the stream takes no events: one that came too early would be
// dropped, and the same again for as long as JetStream remembers its id.
func (b *Bus) openEvents(ctx context.Context, cfg jetstream.StreamConfig) error {
	cfg.Subjects = []string{"fulcrum.not-open-yet"}
	if _, err := b.js.CreateStream(ctx, cfg); err != nil && !errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
		return fmt.Errorf("stream %s: %w", cfg.Name, err)
	}
	for _, name := range standing {
		_, err := b.js.CreateConsumer(ctx, EventsStream, Consumer{Durable: name}.defaults().config())
		if err != nil && !errors.Is(err, jetstream.ErrConsumerExists) {
			return fmt.Errorf("consumer %s: %w", name, err)
		}
	}
	return nil
}

// awaitStreams ensures the streams, for as long as it takes.
func (b *Bus) awaitStreams(ctx context.Context) error {
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		once, cancel := context.WithTimeout(ctx, 5*time.Second)
		err := b.EnsureStreams(once)
		cancel()
		if err == nil {
			return nil
		}
		b.log.LogAttrs(ctx, slog.LevelWarn, "jetstream is not ready", slog.Any("err", err))
		if err := sleep(ctx, wait); err != nil {
			return err
		}
	}
}

// Subject is where an event travels. What callers name freely is made a token.
func Subject(e *busv1.Event) string {
	prefix := eventsPrefix
	if e.GetStream() == busv1.Stream_STREAM_CONFIG {
		prefix = configPrefix
	}
	return prefix + "." + e.GetTenantId() + "." + token(e.GetType())
}

func token(s string) string {
	if s == "" {
		return "_"
	}
	if len(s) > 128 {
		s = s[:128]
	}
	return strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', r == '_', r == '-':
			return r
		}
		return '_'
	}, s)
}

// tenantOf is the second token of a subject's three: who may be in the payload.
func tenantOf(subject string) string {
	parts := strings.SplitN(subject, ".", 4)
	if len(parts) < 4 {
		return ""
	}
	return parts[2]
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
