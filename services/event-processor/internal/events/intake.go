package events

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/pkg/bus"
	"github.com/fulcrum-io/fulcrum/services/event-processor/internal/journal"
)

// Name is this service's in the inbox and on the bus.
const Name = "event-processor"

// Intake records what the bus delivers. Safe for concurrent use.
type Intake struct {
	Recorder journal.Recorder
	Bury     func(context.Context, bus.Dead) error
	// Stored is told where each tenant's journal ends after a commit.
	Stored func(heads map[uuid.UUID]int64)
	Meter  *Meter
	Log    *slog.Logger
	// AfterCommit, if set, runs between a commit and its acks. Tests fail here.
	AfterCommit func() error
}

// Consumer is how the bus shall deliver to i, in batches of at most so many.
func (i *Intake) Consumer(batch int) bus.Consumer {
	return bus.Consumer{Durable: Name, Batch: batch, Handle: i.handle, Bury: i.bury, AfterCommit: i.AfterCommit}
}

// handle records a batch in one transaction. One event that cannot be read
// fails all: the bus then offers them one by one, and the bad one fails alone.
func (i *Intake) handle(ctx context.Context, batch []bus.Message) error {
	facts := make([]journal.Fact, len(batch))
	for n, m := range batch {
		f, err := fact(m.Event)
		if err != nil {
			return fmt.Errorf("read event: %w", err)
		}
		facts[n] = f
	}
	receipt, err := i.Recorder.Record(ctx, facts)
	if err != nil {
		return fmt.Errorf("record %d events: %w", len(facts), err)
	}
	i.Stored(receipt.Heads)
	i.Meter.batch(ctx, len(batch), receipt.Fresh, time.Now())
	return nil
}

func (i *Intake) bury(ctx context.Context, dead bus.Dead) error {
	if err := i.Bury(ctx, dead); err != nil {
		return err
	}
	i.Meter.buried.Add(ctx, 1)
	return nil
}

// Advisory notes that JetStream gave a message up. The reconciler sends the
// event again, because no inbox has it; a dead letter is one already.
func (i *Intake) Advisory(ctx context.Context, a bus.Advisory) error {
	level := slog.LevelWarn
	if a.Kind == "terminated" {
		level = slog.LevelInfo // we did that, and said why
	}
	i.Log.LogAttrs(ctx, level, "jetstream gave a message up",
		slog.String("kind", a.Kind), slog.String("stream", a.Stream), slog.String("consumer", a.Consumer),
		slog.Uint64("stream_sequence", a.StreamSequence), slog.Int("deliveries", a.Deliveries), slog.String("reason", a.Reason))
	i.Meter.givenUp(ctx, a)
	return nil
}
