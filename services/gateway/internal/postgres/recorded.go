package postgres

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/gatewaydb"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	policyenginev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policyengine/v1"

	"github.com/fulcrum-io/fulcrum/services/gateway/internal/simulation"
)

// shadowPrefix marks, among the policies of a decision, one that judged it from
// the shadow.
const shadowPrefix = "shadow:"

// Recorded implements simulation.Source.
func (s *Store) Recorded(ctx context.Context, tenant uuid.UUID, w simulation.Window, after simulation.Cursor, limit int) ([]simulation.Recorded, error) {
	if after.At.IsZero() {
		after = simulation.Cursor{At: never, ID: uuid.Max}
	}
	from, to := DecisionFilter{From: w.From, To: w.To}.times()
	var rows []gatewaydb.RecordedDecisionsRow
	err := s.db.Read(ctx, tenant, func(ctx context.Context, tx db.Tx) (err error) {
		q := gatewaydb.New(tx)
		if w.Shadow == "" {
			rows, err = q.RecordedDecisions(ctx, gatewaydb.RecordedDecisionsParams{
				TenantID: tenant, BeforeAt: after.At, BeforeID: after.ID, StartAt: from, EndAt: to, Lim: int32(limit),
			})
			return err
		}
		shadowed, err := q.ShadowedDecisions(ctx, gatewaydb.ShadowedDecisionsParams{
			TenantID: tenant, Shadow: shadowPrefix + w.Shadow, BeforeAt: after.At, BeforeID: after.ID, StartAt: from, EndAt: to, Lim: int32(limit),
		})
		for _, r := range shadowed {
			rows = append(rows, gatewaydb.RecordedDecisionsRow(r))
		}
		return err
	})
	if err != nil {
		return nil, away("read recorded decisions", err)
	}
	out := make([]simulation.Recorded, 0, len(rows))
	for _, r := range rows {
		result, facts := new(policyenginev1.EvaluateResponse), new(policyenginev1.Facts)
		if err := proto.Unmarshal(r.Input, facts); err != nil {
			return nil, fmt.Errorf("read facts of decision %s: %w", r.ID, err)
		}
		if err := proto.Unmarshal(r.Result, result); err != nil {
			return nil, fmt.Errorf("read result of decision %s: %w", r.ID, err)
		}
		out = append(out, simulation.Recorded{
			ID: r.ID, At: r.DecidedAt, Answered: governancev1.Decision(governancev1.Decision_value["DECISION_"+r.Decision]), Judged: result.GetDecision(),
			AgentID: r.AgentID, ActionKind: r.ActionKind, ActionName: r.ActionName, Model: r.Model, CostNano: r.CostNano,
			Facts: facts, Shadows: result.GetShadows(),
		})
	}
	return out, nil
}
