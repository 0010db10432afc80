package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/eventsdb"
	"github.com/fulcrum-io/fulcrum/services/event-processor/internal/journal"
)

// Execution implements journal.Reader.
func (s *Store) Execution(ctx context.Context, tenant uuid.UUID, key string) (journal.Execution, error) {
	var e journal.Execution
	err := s.db.Read(ctx, tenant, func(ctx context.Context, tx db.Tx) error {
		row, err := eventsdb.New(tx).Execution(ctx, eventsdb.ExecutionParams{TenantID: tenant, ExecutionKey: key})
		if err != nil {
			return err
		}
		e = journal.Execution{Events: row.LastSequence, Started: row.StartedAt}
		if row.EndedAt != nil {
			e.Ended = *row.EndedAt
		}
		return nil
	})
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return e, fmt.Errorf("read execution: %w", err)
	}
	return e, nil
}

// Totals implements journal.Reader. Months whose events were forgotten are left
// out: nothing of them is as young as the oldest event that is kept.
func (s *Store) Totals(ctx context.Context, tenant uuid.UUID) (journal.Totals, error) {
	t := journal.Totals{ByType: map[string]int64{}}
	err := s.filtered(ctx, tenant, func(ctx context.Context, q *eventsdb.Queries) error {
		oldest, err := q.OldestStored(ctx, tenant)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		oldest = oldest.UTC()
		since := time.Date(oldest.Year(), oldest.Month(), 1, 0, 0, 0, 0, time.UTC)
		rows, err := q.Totals(ctx, eventsdb.TotalsParams{TenantID: tenant, Since: since})
		for _, r := range rows {
			if t.Events == 0 {
				t.Oldest, t.Newest = r.Oldest, r.Newest
			}
			t.Events, t.Bytes, t.ByType[r.Type] = t.Events+r.Events, t.Bytes+r.Bytes, r.Events
			t.Oldest, t.Newest = earlier(t.Oldest, r.Oldest), later(t.Newest, r.Newest)
		}
		return err
	})
	if err != nil {
		return t, fmt.Errorf("read totals: %w", err)
	}
	return t, nil
}

// Head implements journal.Reader.
func (s *Store) Head(ctx context.Context, tenant uuid.UUID) (int64, error) {
	heads, err := s.Heads(ctx, []uuid.UUID{tenant})
	return heads[tenant], err
}

// Heads returns the last position of each tenant that has one.
func (s *Store) Heads(ctx context.Context, tenants []uuid.UUID) (map[uuid.UUID]int64, error) {
	heads := make(map[uuid.UUID]int64, len(tenants))
	err := s.db.ReadTenants(ctx, tenants, func(ctx context.Context, tx db.Tx) error {
		rows, err := eventsdb.New(tx).Heads(ctx, tenants)
		for _, r := range rows {
			heads[r.TenantID] = r.LastSequence
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read heads: %w", err)
	}
	return heads, nil
}

// StoredBefore implements journal.Reader.
func (s *Store) StoredBefore(ctx context.Context, tenant uuid.UUID, t time.Time) (position int64, err error) {
	err = s.db.Read(ctx, tenant, func(ctx context.Context, tx db.Tx) error {
		position, err = eventsdb.New(tx).SequenceBefore(ctx, eventsdb.SequenceBeforeParams{TenantID: tenant, StoredBefore: t})
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("find a position by time: %w", err)
	}
	return position, nil
}
