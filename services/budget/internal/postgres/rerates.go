package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/budgetdb"
	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/money"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/events"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/price"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/rerate"
)

var _ rerate.Store = (*Store)(nil)

// Charges implements rerate.Store.
func (s *Store) Charges(ctx context.Context, r rerate.Request, id uuid.UUID, limit int) (charges []rerate.Charge, err error) {
	arg := budgetdb.ChargesOfParams{TenantID: r.Tenant, RerateID: id, FromTime: r.From, UntilTime: r.Until, Model: r.Model, Lim: int32(limit)}
	err = s.db.Read(ctx, r.Tenant, func(ctx context.Context, tx db.Tx) error {
		rows, err := budgetdb.New(tx).ChargesOf(ctx, arg)
		for _, row := range rows {
			charges = append(charges, rerate.Charge{
				ID: row.ReservationID, Model: row.Model, Version: row.CurrentVersion, PricedAt: row.PricedAt.UTC(),
				Cost: money.Nano(row.CurrentNano), Corrected: row.Corrected,
				Usage: price.Usage{
					Input: row.InputTokens, Cached: row.CachedTokens, CacheWrite: row.CacheWriteTokens,
					Output: row.OutputTokens, Reasoning: row.ReasoningTokens, Calls: row.LlmCalls,
				},
			})
		}
		return err
	})
	return charges, unreadable("read the charges of a period", err)
}

// BudgetsOf implements rerate.Store.
func (s *Store) BudgetsOf(ctx context.Context, tenant uuid.UUID, charges []uuid.UUID) (map[uuid.UUID][]string, error) {
	out := make(map[uuid.UUID][]string)
	if len(charges) == 0 {
		return out, nil
	}
	err := s.db.Read(ctx, tenant, func(ctx context.Context, tx db.Tx) error {
		rows, err := budgetdb.New(tx).PartsOfCharges(ctx, budgetdb.PartsOfChargesParams{TenantID: tenant, Ids: charges})
		for _, row := range rows {
			out[row.ReservationID] = append(out[row.ReservationID], row.BudgetID)
		}
		return err
	})
	return out, unreadable("read the budgets of charges", err)
}

// Begin implements rerate.Store.
func (s *Store) Begin(ctx context.Context, r rerate.Request, hash [32]byte) (id uuid.UUID, done *rerate.Report, err error) {
	if id, err = uuid.NewV7(); err != nil {
		return id, nil, fmt.Errorf("new rerate id: %w", err)
	}
	err = s.db.WithTenant(ctx, r.Tenant, func(ctx context.Context, tx db.Tx) error {
		q := budgetdb.New(tx)
		if _, err := q.BeginRerate(ctx, budgetdb.BeginRerateParams{
			TenantID: r.Tenant, ID: id, IdempotencyKey: r.Key, RequestHash: hash[:], CreatedBy: r.By,
		}); err != nil {
			return err
		}
		row, err := q.RerateByKey(ctx, budgetdb.RerateByKeyParams{TenantID: r.Tenant, IdempotencyKey: r.Key})
		if err != nil {
			return err
		}
		if [32]byte(row.RequestHash) != hash {
			return fault.New(fault.Conflict, "this idempotency key was used for another re-rating").WithReason("IDEMPOTENCY_KEY_REUSED").
				WithHint("Send a new key with a new request; repeat a key only with the same body.")
		}
		id = row.ID
		if row.Report != nil {
			done, err = readReport(r.Tenant, row.ID, row.CreatedAt, row.Report)
		}
		return err
	})
	return id, done, unreadable("begin a re-rating", err)
}

// Corrected implements rerate.Store.
func (s *Store) Corrected(ctx context.Context, tenant, id uuid.UUID) (models, budgets []rerate.Line, err error) {
	err = s.db.Read(ctx, tenant, func(ctx context.Context, tx db.Tx) error {
		q := budgetdb.New(tx)
		rows, err := q.CorrectedByModel(ctx, budgetdb.CorrectedByModelParams{TenantID: tenant, RerateID: id})
		for _, r := range rows {
			models = append(models, rerate.Line{Model: r.Model, Charges: r.Charges, Old: money.Nano(r.OldNano), New: money.Nano(r.NewNano)})
		}
		if err != nil {
			return err
		}
		drawn, err := q.CorrectedByBudget(ctx, budgetdb.CorrectedByBudgetParams{TenantID: tenant, RerateID: id})
		for _, r := range drawn {
			budgets = append(budgets, rerate.Line{Model: r.Model, Budget: r.BudgetID, Charges: r.Charges, Old: money.Nano(r.OldNano), New: money.Nano(r.NewNano)})
		}
		return err
	})
	return models, budgets, unreadable("add up corrections", err)
}

// Finish implements rerate.Store. Of several that finish the same, the first
// stores its report and tells of it.
func (s *Store) Finish(ctx context.Context, r rerate.Report) (done *rerate.Report, err error) {
	raw, err := json.Marshal(stored(r))
	if err != nil {
		return nil, fmt.Errorf("write the report of a re-rating: %w", err)
	}
	err = s.db.WithTenant(ctx, r.Tenant, func(ctx context.Context, tx db.Tx) error {
		q := budgetdb.New(tx)
		n, err := q.FinishRerate(ctx, budgetdb.FinishRerateParams{TenantID: r.Tenant, ID: r.ID, Report: raw})
		if err != nil {
			return err
		}
		row, err := q.Rerate(ctx, budgetdb.RerateParams{TenantID: r.Tenant, ID: r.ID})
		if err != nil {
			return err
		}
		if done, err = readReport(r.Tenant, row.ID, row.CreatedAt, row.Report); err != nil || n == 0 {
			return err
		}
		return s.Outbox(ctx, tx, events.Rerated(*done))
	})
	if err == nil && s.Committed != nil {
		s.Committed(nil, 1)
	}
	return done, unreadable("store the report of a re-rating", err)
}

// Rerate returns the report of one that is finished, or a NotFound fault.
func (s *Store) Rerate(ctx context.Context, tenant, id uuid.UUID) (done *rerate.Report, err error) {
	err = s.db.Read(ctx, tenant, func(ctx context.Context, tx db.Tx) error {
		row, err := budgetdb.New(tx).Rerate(ctx, budgetdb.RerateParams{TenantID: tenant, ID: id})
		if errors.Is(err, pgx.ErrNoRows) {
			return fault.New(fault.NotFound, "there is no finished re-rating %s", id).WithReason("RERATE_NOT_FOUND")
		}
		if err != nil {
			return err
		}
		done, err = readReport(tenant, row.ID, row.CreatedAt, row.Report)
		return err
	})
	return done, unreadable("read a re-rating", err)
}

// Rerates returns up to limit finished ones older than before, latest first.
func (s *Store) Rerates(ctx context.Context, tenant, before uuid.UUID, limit int) (all []rerate.Report, err error) {
	err = s.db.Read(ctx, tenant, func(ctx context.Context, tx db.Tx) error {
		rows, err := budgetdb.New(tx).Rerates(ctx, budgetdb.ReratesParams{TenantID: tenant, BeforeID: before, Lim: int32(limit)})
		if err != nil {
			return err
		}
		for _, row := range rows {
			r, err := readReport(tenant, row.ID, row.CreatedAt, row.Report)
			if err != nil {
				return err
			}
			all = append(all, *r)
		}
		return nil
	})
	return all, unreadable("read re-ratings", err)
}

// storedReport is a report as the column report has it.
type storedReport struct {
	From, Until                    time.Time
	Model, Version, By             string
	Models, Budgets                []rerate.Line
	Total                          rerate.Line
	Unchanged, LeftAlone, Unpriced int64
}

func stored(r rerate.Report) storedReport {
	return storedReport{r.From, r.Until, r.Model, r.Version, r.By, r.Models, r.Budgets, r.Total, r.Unchanged, r.LeftAlone, r.Unpriced}
}

func readReport(tenant, id uuid.UUID, at time.Time, raw []byte) (*rerate.Report, error) {
	var s storedReport
	if err := json.Unmarshal(raw, &s); err != nil {
		return nil, fmt.Errorf("read the report of re-rating %s: %w", id, err)
	}
	return &rerate.Report{
		ID: id, At: at.UTC(), Total: s.Total, Models: s.Models, Budgets: s.Budgets, Unchanged: s.Unchanged, LeftAlone: s.LeftAlone, Unpriced: s.Unpriced,
		Request: rerate.Request{Tenant: tenant, From: s.From, Until: s.Until, Model: s.Model, Version: s.Version, By: s.By},
	}, nil
}
