// Package postgres keeps the journal and its telemetry in PostgreSQL.
package postgres

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/eventsdb"
	"github.com/fulcrum-io/fulcrum/pkg/outbox"
	"github.com/fulcrum-io/fulcrum/services/event-processor/internal/journal"
	"github.com/fulcrum-io/fulcrum/services/event-processor/internal/webhook"
)

// Store implements journal.Recorder, journal.Reader and agents.Source.
type Store struct {
	db       *db.DB
	consumer string // whose inbox it is
	writer   webhook.Writer
}

// New returns a Store in d that takes in as consumer.
func New(d *db.DB, consumer string) *Store { return &Store{db: d, consumer: consumer} }

// Telling returns s whose messages to endpoints are written by w.
func (s *Store) Telling(w webhook.Writer) *Store {
	told := *s
	told.writer = w
	return &told
}

// Record implements journal.Recorder in one transaction over the tenants of the
// batch. Its locks come in one order for all: inbox rows, heads, executions,
// totals, endpoints, each by key.
func (s *Store) Record(ctx context.Context, facts []journal.Fact) (journal.Receipt, error) {
	var receipt journal.Receipt
	err := s.db.WithTenants(ctx, tenants(facts), func(ctx context.Context, tx db.Tx) error {
		fresh, err := s.fresh(ctx, tx, facts)
		if err != nil || len(fresh) == 0 {
			receipt = journal.Receipt{}
			return err
		}
		b := &batch{q: eventsdb.New(tx), facts: fresh}
		for _, step := range []struct {
			name string
			do   func(context.Context) error
		}{
			{"advance heads", b.position}, {"advance executions", b.number}, {"insert events", b.insert}, {"add totals", b.count},
			{"ingest costs", b.costs}, {"ingest decisions", b.decisions}, {"ingest counters", b.counters},
			{"ingest executions", b.executions}, {"queue webhooks", func(ctx context.Context) error { return b.queue(ctx, s.writer) }},
		} {
			if err := step.do(ctx); err != nil {
				return fmt.Errorf("%s: %w", step.name, err)
			}
		}
		receipt = journal.Receipt{Fresh: fresh, Heads: b.heads}
		return nil
	})
	return receipt, err
}

// fresh returns the facts that are not in the journal, in their order, each once.
func (s *Store) fresh(ctx context.Context, tx db.Tx, facts []journal.Fact) ([]journal.Fact, error) {
	keys := make([]outbox.Key, len(facts))
	for i, f := range facts {
		keys[i] = outbox.Key{Tenant: f.Tenant, Event: f.ID}
	}
	fresh, err := outbox.InboxAll(ctx, tx, s.consumer, keys)
	if err != nil || len(fresh) == 0 {
		return nil, err
	}
	var p eventsdb.KnownEventsParams
	for k := range fresh {
		p.TenantIds, p.EventIds = append(p.TenantIds, k.Tenant), append(p.EventIds, k.Event)
	}
	known, err := eventsdb.New(tx).KnownEvents(ctx, p)
	if err != nil {
		return nil, fmt.Errorf("look for known events: %w", err)
	}
	for _, k := range known {
		delete(fresh, outbox.Key{Tenant: k.TenantID, Event: k.EventID})
	}
	var out []journal.Fact
	for i, f := range facts {
		if fresh[keys[i]] {
			out = append(out, f)
			delete(fresh, keys[i]) // the same event may be twice in a batch
		}
	}
	return out, nil
}

// tenants lists whose facts they are, in order.
func tenants(facts []journal.Fact) []uuid.UUID {
	var out []uuid.UUID
	for _, f := range facts {
		out = append(out, f.Tenant)
	}
	slices.SortFunc(out, compare)
	return slices.Compact(out)
}

func compare(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) }

// batch is fresh facts on their way into the tables.
type batch struct {
	q     *eventsdb.Queries
	facts []journal.Fact

	heads     map[uuid.UUID]int64     // the last position of each tenant
	storedAt  map[uuid.UUID]time.Time // by the database, never running backwards
	positions []int64                 // of facts
	sequences []int64                 // of facts
}
