package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/eventsdb"
	"github.com/fulcrum-io/fulcrum/services/event-processor/internal/journal"
)

// filtered runs fn in a transaction whose statements are planned for the
// filters that they are given.
func (s *Store) filtered(ctx context.Context, tenant uuid.UUID, fn func(context.Context, *eventsdb.Queries) error) error {
	return s.db.WithTenant(ctx, tenant, func(ctx context.Context, tx db.Tx) error {
		q := eventsdb.New(tx)
		if err := q.PlanForTheseValues(ctx); err != nil {
			return err
		}
		return fn(ctx, q)
	})
}

// After implements journal.Reader.
func (s *Store) After(ctx context.Context, tenant uuid.UUID, f journal.Filter, after, upTo int64, limit int) (out []journal.Event, err error) {
	labels, err := labelsOf(f)
	if err != nil {
		return nil, err
	}
	err = s.filtered(ctx, tenant, func(ctx context.Context, q *eventsdb.Queries) error {
		rows, err := q.EventsAfter(ctx, eventsdb.EventsAfterParams{
			TenantID: tenant, After: after, UpTo: upTo, ExecutionKey: f.Execution, WorkflowID: f.Workflow, Type: f.Type,
			FromTime: optional(f.From), ToTime: optional(f.To), Labels: labels, Lim: int32(limit),
		})
		if err != nil {
			return fmt.Errorf("read events after %d: %w", after, err)
		}
		out, err = collect(rows, func(r eventsdb.EventsAfterRow) eventsdb.EventsAfterRow { return r })
		return err
	})
	return out, err
}

// Before implements journal.Reader.
func (s *Store) Before(ctx context.Context, tenant uuid.UUID, f journal.Filter, before int64, limit int) (out []journal.Event, err error) {
	labels, err := labelsOf(f)
	if err != nil {
		return nil, err
	}
	err = s.filtered(ctx, tenant, func(ctx context.Context, q *eventsdb.Queries) error {
		rows, err := q.EventsBefore(ctx, eventsdb.EventsBeforeParams{
			TenantID: tenant, Before: before, ExecutionKey: f.Execution, WorkflowID: f.Workflow, Type: f.Type,
			FromTime: optional(f.From), ToTime: optional(f.To), Labels: labels, Lim: int32(limit),
		})
		if err != nil {
			return fmt.Errorf("read events before %d: %w", before, err)
		}
		out, err = collect(rows, func(r eventsdb.EventsBeforeRow) eventsdb.EventsAfterRow { return eventsdb.EventsAfterRow(r) })
		return err
	})
	return out, err
}

// Count implements journal.Reader.
func (s *Store) Count(ctx context.Context, tenant uuid.UUID, f journal.Filter, limit int) (n int64, err error) {
	labels, err := labelsOf(f)
	if err != nil {
		return 0, err
	}
	err = s.filtered(ctx, tenant, func(ctx context.Context, q *eventsdb.Queries) error {
		n, err = q.CountEvents(ctx, eventsdb.CountEventsParams{
			TenantID: tenant, ExecutionKey: f.Execution, WorkflowID: f.Workflow, Type: f.Type,
			FromTime: optional(f.From), ToTime: optional(f.To), Labels: labels, Lim: int32(limit),
		})
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("count events: %w", err)
	}
	return n, nil
}

// OfExecution implements journal.Reader.
func (s *Store) OfExecution(ctx context.Context, tenant uuid.UUID, f journal.Filter, after int64, limit int) (out []journal.Event, err error) {
	err = s.filtered(ctx, tenant, func(ctx context.Context, q *eventsdb.Queries) error {
		rows, err := q.ExecutionEvents(ctx, eventsdb.ExecutionEventsParams{
			TenantID: tenant, ExecutionKey: f.Execution, After: after, Type: f.Type,
			FromTime: optional(f.From), ToTime: optional(f.To), Lim: int32(limit),
		})
		if err != nil {
			return fmt.Errorf("read events of an execution: %w", err)
		}
		out, err = collect(rows, func(r eventsdb.ExecutionEventsRow) eventsdb.EventsAfterRow { return eventsdb.EventsAfterRow(r) })
		return err
	})
	return out, err
}

func labelsOf(f journal.Filter) ([]byte, error) {
	if len(f.Labels) == 0 {
		return []byte("{}"), nil
	}
	return json.Marshal(f.Labels)
}

func optional(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// collect reads rows of the three queries, which return the same columns.
func collect[R any](rows []R, same func(R) eventsdb.EventsAfterRow) ([]journal.Event, error) {
	out := make([]journal.Event, len(rows))
	for i, row := range rows {
		r := same(row)
		out[i] = journal.Event{
			Position: r.StreamSequence, StoredAt: r.StoredAt, ID: r.EventID, Sequence: r.SequenceNumber, Type: r.Type, OccurredAt: r.OccurredAt,
			ExecutionID: r.ExecutionID, EnvelopeID: r.EnvelopeID, WorkflowID: r.WorkflowID,
			TraceID: r.TraceID, SpanID: r.SpanID, Payload: r.Payload,
		}
		if err := json.Unmarshal(r.Labels, &out[i].Labels); err != nil {
			return nil, fmt.Errorf("read labels of event %s: %w", r.EventID, err)
		}
	}
	return out, nil
}
