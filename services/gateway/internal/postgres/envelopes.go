package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/gatewaydb"
	"github.com/fulcrum-io/fulcrum/pkg/outbox"

	"github.com/fulcrum-io/fulcrum/services/gateway/internal/envelope"
)

// Envelope returns one envelope, or envelope.ErrNotFound.
func (s *Store) Envelope(ctx context.Context, tenant, id uuid.UUID) (*envelope.Envelope, error) {
	var row gatewaydb.GetEnvelopeRow
	err := s.db.Read(ctx, tenant, func(ctx context.Context, tx db.Tx) (err error) {
		row, err = gatewaydb.New(tx).GetEnvelope(ctx, gatewaydb.GetEnvelopeParams{TenantID: tenant, ID: id})
		return err
	})
	if none(err) {
		return nil, envelope.ErrNotFound(id)
	}
	if err != nil {
		return nil, away("load envelope", err)
	}
	return wholeEnvelope(row)
}

func wholeEnvelope(row gatewaydb.GetEnvelopeRow) (*envelope.Envelope, error) {
	e := &envelope.Envelope{
		ID: row.ID, Parent: orZero(row.ParentID), Root: row.RootID, Ancestors: row.Ancestors,
		Status: envelope.Status(row.Status), Reason: row.StatusReason, Version: row.Version,
		AgentID: row.AgentID, Team: row.Team, UserID: row.UserID, KeyID: row.KeyID, WorkflowID: row.WorkflowID, ExecutionID: row.ExecutionID,
		BudgetID: row.BudgetID, AdapterType: row.AdapterType,
		CreatedAt: row.CreatedAt, UpdatedAt: row.UpdatedAt, CompletedAt: orZero(row.CompletedAt), ExpiresAt: orZero(row.ExpiresAt), Overdue: row.Overdue,
	}
	if err := json.Unmarshal(row.TraceContext, &e.Trace); err != nil {
		return nil, fmt.Errorf("read trace of envelope %s: %w", e.ID, err)
	}
	return e, governed(e, row.Governance, row.Limits, row.Metadata)
}

// Filter selects envelopes; an empty field selects all.
type Filter struct {
	Status     envelope.Status
	WorkflowID string
	AgentID    string
}

// Position is where a page of a newest-first list begins: after this row.
type Position struct {
	At time.Time
	ID uuid.UUID
}

// Envelopes returns up to limit envelopes after a position, newest first.
func (s *Store) Envelopes(ctx context.Context, tenant uuid.UUID, f Filter, after Position, limit int) ([]*envelope.Envelope, error) {
	var rows []gatewaydb.ListEnvelopesRow
	err := s.db.Read(ctx, tenant, func(ctx context.Context, tx db.Tx) (err error) {
		rows, err = gatewaydb.New(tx).ListEnvelopes(ctx, gatewaydb.ListEnvelopesParams{
			TenantID: tenant, BeforeAt: after.At, BeforeID: after.ID, Status: string(f.Status), WorkflowID: f.WorkflowID, AgentID: f.AgentID,
			Lim: int32(limit),
		})
		return err
	})
	if err != nil {
		return nil, away("list envelopes", err)
	}
	list := make([]*envelope.Envelope, 0, len(rows))
	for _, row := range rows {
		e := &envelope.Envelope{
			ID: row.ID, Parent: orZero(row.ParentID), Status: envelope.Status(row.Status), Reason: row.StatusReason,
			AgentID: row.AgentID, Team: row.Team, WorkflowID: row.WorkflowID, ExecutionID: row.ExecutionID, BudgetID: row.BudgetID,
			AdapterType: row.AdapterType, CreatedAt: row.CreatedAt, UpdatedAt: row.UpdatedAt, CompletedAt: orZero(row.CompletedAt),
		}
		if err := json.Unmarshal(row.TraceContext, &e.Trace); err != nil {
			return nil, fmt.Errorf("read trace of envelope %s: %w", e.ID, err)
		}
		if err := governed(e, row.Governance, nil, row.Metadata); err != nil {
			return nil, err
		}
		list = append(list, e)
	}
	return list, nil
}

// Move moves an envelope, and with a forced end everything below it. The same
// status again changes nothing. It returns the descendants that it ended;
// envelope.ErrNotFound; or envelope.ErrMove, naming both statuses.
func (s *Store) Move(ctx context.Context, tenant uuid.UUID, actor string, m envelope.Move) (below []uuid.UUID, err error) {
	changed := false
	err = s.db.WithTenant(ctx, tenant, func(ctx context.Context, tx db.Tx) error {
		q, id := gatewaydb.New(tx), tenantID{tenant, m.Envelope}
		done, err := moveEnvelopes(ctx, q, []tenantID{id}, map[tenantID]step{id: {move: m, actor: actor}})
		if err != nil {
			return err
		}
		if changed = len(done.made) > 0; changed {
			below = done.below
			return outbox.Append(ctx, tx, done.events...)
		}
		row, err := q.GetEnvelope(ctx, gatewaydb.GetEnvelopeParams{TenantID: tenant, ID: m.Envelope})
		switch {
		case none(err):
			return envelope.ErrNotFound(m.Envelope)
		case err != nil:
			return err
		case row.Status == string(m.To):
			return nil
		}
		return envelope.ErrMove(m.Envelope, envelope.Status(row.Status), m.To)
	})
	if err == nil && changed {
		s.nudge()
	}
	return below, away("move envelope", err)
}
