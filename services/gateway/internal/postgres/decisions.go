package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/gatewaydb"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	policyenginev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policyengine/v1"

	"github.com/fulcrum-io/fulcrum/services/gateway/internal/decision"
)

// DecisionFilter selects decisions; an empty field selects all.
type DecisionFilter struct {
	Envelope uuid.UUID
	AgentID  string
	Decision string // "DENY", ...
	PolicyID string // Evaluations only
	From, To time.Time
}

func (f DecisionFilter) times() (from, to time.Time) {
	from, to = f.From, f.To
	if from.IsZero() {
		from = time.Unix(0, 0)
	}
	if to.IsZero() {
		to = never
	}
	return from, to
}

// Decisions returns up to limit answers of Authorize after a position, newest first.
func (s *Store) Decisions(ctx context.Context, tenant uuid.UUID, f DecisionFilter, after Position, limit int) ([]decision.Record, error) {
	from, to := f.times()
	var rows []gatewaydb.ListDecisionsRow
	err := s.db.Read(ctx, tenant, func(ctx context.Context, tx db.Tx) (err error) {
		rows, err = gatewaydb.New(tx).ListDecisions(ctx, gatewaydb.ListDecisionsParams{
			TenantID: tenant, BeforeAt: after.At, BeforeID: after.ID, StartAt: from, EndAt: to, AnyEnvelope: f.Envelope == uuid.Nil,
			EnvelopeID: f.Envelope, AgentID: f.AgentID, Decision: f.Decision, Lim: int32(limit),
		})
		return err
	})
	if err != nil {
		return nil, away("list decisions", err)
	}
	list := make([]decision.Record, 0, len(rows))
	for _, r := range rows {
		d := decision.Record{
			ID: r.ID, DecidedAt: r.DecidedAt, Method: decision.Method(r.Method), KeyID: r.KeyID,
			Facts: new(policyenginev1.Facts), Response: new(governancev1.AuthorizeResponse),
		}
		if err := proto.Unmarshal(r.Input, d.Facts); err != nil {
			return nil, fmt.Errorf("read facts of decision %s: %w", r.ID, err)
		}
		if err := proto.Unmarshal(r.Response, d.Response); err != nil {
			return nil, fmt.Errorf("read answer of decision %s: %w", r.ID, err)
		}
		list = append(list, d)
	}
	return list, nil
}

// Evaluations returns up to limit decisions in which a policy had a part,
// newest first.
func (s *Store) Evaluations(ctx context.Context, tenant uuid.UUID, f DecisionFilter, after Position, limit int) ([]decision.Record, error) {
	from, to := f.times()
	var rows []gatewaydb.ListEvaluationsRow
	err := s.db.Read(ctx, tenant, func(ctx context.Context, tx db.Tx) (err error) {
		rows, err = gatewaydb.New(tx).ListEvaluations(ctx, gatewaydb.ListEvaluationsParams{
			TenantID: tenant, PolicyID: f.PolicyID, BeforeAt: after.At, BeforeID: after.ID, StartAt: from, EndAt: to, Lim: int32(limit),
		})
		return err
	})
	if err != nil {
		return nil, away("list evaluations", err)
	}
	list := make([]decision.Record, 0, len(rows))
	for _, r := range rows {
		d := decision.Record{ID: r.ID, DecidedAt: r.DecidedAt, Envelope: orZero(r.EnvelopeID), Facts: new(policyenginev1.Facts), Result: new(policyenginev1.EvaluateResponse)}
		if err := proto.Unmarshal(r.Input, d.Facts); err != nil {
			return nil, fmt.Errorf("read facts of decision %s: %w", r.ID, err)
		}
		if err := proto.Unmarshal(r.Result, d.Result); err != nil {
			return nil, fmt.Errorf("read result of decision %s: %w", r.ID, err)
		}
		list = append(list, d)
	}
	return list, nil
}
