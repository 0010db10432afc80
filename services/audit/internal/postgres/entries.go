package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/auditdb"
	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/services/audit/internal/leaf"
	"github.com/fulcrum-io/fulcrum/services/audit/internal/trail"
)

// Entries implements trail.Store.
func (s *Store) Entries(ctx context.Context, tenant uuid.UUID, start int64, limit int) ([]trail.Entry, error) {
	var out []trail.Entry
	err := s.db.Read(ctx, tenant, func(ctx context.Context, tx db.Tx) error {
		rows, err := auditdb.New(tx).Leaves(ctx, auditdb.LeavesParams{TenantID: tenant, StartIndex: start, Lim: int32(limit)})
		if err != nil {
			return fmt.Errorf("read leaves from %d: %w", start, err)
		}
		out = make([]trail.Entry, len(rows))
		for i, r := range rows {
			if out[i], err = entry(auditdb.LeafByEventRow(r)); err != nil {
				return fmt.Errorf("leaf %d: %w", r.Index, err)
			}
		}
		return nil
	})
	return out, err
}

// EntryOf implements trail.Store.
func (s *Store) EntryOf(ctx context.Context, tenant, event uuid.UUID) (trail.Entry, error) {
	var e trail.Entry
	err := s.db.Read(ctx, tenant, func(ctx context.Context, tx db.Tx) error {
		r, err := auditdb.New(tx).LeafByEvent(ctx, auditdb.LeafByEventParams{TenantID: tenant, EventID: event})
		if err != nil {
			return err
		}
		e, err = entry(r)
		return err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return e, fault.New(fault.NotFound, "event %s is not in the audit log", event).
			WithReason("AUDIT_NOT_SEQUENCED").WithHint("a new event is sequenced within seconds").WithRetry(time.Second)
	}
	return e, err
}

// entry takes the facts from the hashed bytes; the columns beside them only
// serve queries.
func entry(r auditdb.LeafByEventRow) (trail.Entry, error) {
	l, err := leaf.Decode(r.Leaf)
	if err != nil {
		return trail.Entry{}, err
	}
	l.Index = r.Index // where it is stored; what it says is in Bytes
	return trail.Entry{Leaf: l, Bytes: r.Leaf, Payload: r.Payload, Salt: r.Salt}, nil
}
