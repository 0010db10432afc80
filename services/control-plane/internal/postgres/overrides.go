package postgres

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/controldb"
	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	costv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/cost/v1"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/budget"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/change"
)

// CreateOverride implements budget.Overrides.
func (s *Store) CreateOverride(ctx context.Context, by identity.Principal, o budget.Override, once change.Once) (*costv1.BudgetOverride, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return nil, fmt.Errorf("new override id: %w", err)
	}
	content, err := proto.MarshalOptions{Deterministic: true}.Marshal(&costv1.BudgetOverride{Limits: o.Limits, Suspended: o.Suspended})
	if err != nil {
		return nil, fmt.Errorf("marshal override: %w", err)
	}
	stored := &costv1.BudgetOverride{
		OverrideId: id.String(), BudgetId: o.Budget.String(), Limits: o.Limits, Suspended: o.Suspended, Reason: o.Reason, CreatedBy: by.Actor(),
	}
	_, err = s.create(ctx, by, by.Tenant, once, []kind{budgets}, stored, func(ctx context.Context, q *controldb.Queries) (told, error) {
		if _, err := q.Budget(ctx, controldb.BudgetParams{TenantID: by.Tenant, ID: o.Budget}); err != nil {
			return told{}, missing(err, "budget", o.Budget.String())
		}
		live, err := q.BudgetOverrides(ctx, controldb.BudgetOverridesParams{
			TenantID: by.Tenant, BudgetID: o.Budget, BeforeID: uuid.Max, Lim: budget.MaxOverrides,
		})
		if err != nil {
			return told{}, fmt.Errorf("count overrides: %w", err)
		}
		if len(live) >= budget.MaxOverrides {
			return told{}, fault.New(fault.Exhausted, "a budget has at most %d overrides in force or to come", budget.MaxOverrides).
				WithReason("TOO_MANY_OVERRIDES").WithHint("Revoke one that is not needed any more.")
		}
		now, err := q.Clock(ctx)
		if err != nil {
			return told{}, fmt.Errorf("read the clock: %w", err)
		}
		from, until := o.Span(now)
		if !until.After(from) || !until.After(now) {
			return told{}, fault.Field("ends_at", "must be later than its start and than now").WithReason("OVERRIDE_INVALID")
		}
		created, err := q.InsertBudgetOverride(ctx, controldb.InsertBudgetOverrideParams{
			TenantID: by.Tenant, ID: id, BudgetID: o.Budget, StartsAt: from, EndsAt: until, Content: content, Reason: o.Reason, CreatedBy: by.Actor(),
		})
		if err != nil {
			return told{}, fmt.Errorf("insert override: %w", err)
		}
		stored.StartsAt, stored.EndsAt, stored.CreatedAt = timestamppb.New(from), timestamppb.New(until), timestamppb.New(created)
		return fact(change.Fact{
			Type: "budget_override_created", Action: "budget.override", Resource: "budget:" + o.Budget.String(), After: stored,
		}), nil
	})
	return stored, err
}

// Overrides implements budget.Overrides.
func (s *Store) Overrides(ctx context.Context, tenant, of uuid.UUID, ended bool, before uuid.UUID, limit int) (page []*costv1.BudgetOverride, err error) {
	err = s.db.Read(ctx, tenant, func(ctx context.Context, tx db.Tx) error {
		rows, err := controldb.New(tx).BudgetOverrides(ctx, controldb.BudgetOverridesParams{
			TenantID: tenant, BudgetID: of, Ended: ended, BeforeID: before, Lim: int32(limit),
		})
		if err != nil {
			return fmt.Errorf("list overrides: %w", err)
		}
		for _, row := range rows {
			o, err := overrideOf(controldb.BudgetOverrideRow(row))
			if err != nil {
				return err
			}
			page = append(page, o)
		}
		return nil
	})
	return page, err
}

// RevokeOverride implements budget.Overrides.
func (s *Store) RevokeOverride(ctx context.Context, by identity.Principal, of, id uuid.UUID, reason string) (o *costv1.BudgetOverride, err error) {
	_, err = s.change(ctx, by, by.Tenant, []kind{budgets}, func(ctx context.Context, q *controldb.Queries) (told, error) {
		read := func() (*costv1.BudgetOverride, error) {
			row, err := q.BudgetOverride(ctx, controldb.BudgetOverrideParams{TenantID: by.Tenant, BudgetID: of, ID: id})
			if err != nil {
				return nil, missing(err, "override", id.String())
			}
			return overrideOf(row)
		}
		before, err := read()
		if err != nil {
			return told{}, err
		}
		n, err := q.RevokeBudgetOverride(ctx, controldb.RevokeBudgetOverrideParams{
			TenantID: by.Tenant, BudgetID: of, ID: id, RevokedBy: by.Actor(), RevokeReason: reason,
		})
		switch {
		case err != nil:
			return told{}, fmt.Errorf("revoke override: %w", err)
		case n == 0 && before.GetRevokedAt() != nil:
			o = before
			return told{}, errUnchanged
		case n == 0:
			return told{}, fault.New(fault.Precondition, "the override ended by itself").WithReason("OVERRIDE_ENDED")
		}
		if o, err = read(); err != nil {
			return told{}, err
		}
		return fact(change.Fact{
			Type: "budget_override_revoked", Action: "budget.override.revoke", Resource: "budget:" + of.String(), Before: before, After: o,
		}), nil
	})
	return o, err
}

// overridden adds to budgets what stands in for them now or later.
func overridden(ctx context.Context, q *controldb.Queries, tenant uuid.UUID, list ...*costv1.Budget) error {
	rows, err := q.LiveOverrides(ctx, tenant)
	if err != nil {
		return fmt.Errorf("read overrides: %w", err)
	}
	of := make(map[string][]*costv1.BudgetOverride)
	for _, row := range rows {
		o, err := overrideOf(controldb.BudgetOverrideRow(row))
		if err != nil {
			return err
		}
		of[o.GetBudgetId()] = append(of[o.GetBudgetId()], o)
	}
	for _, b := range list {
		b.Overrides = of[b.GetBudgetId()]
	}
	return nil
}

func overrideOf(row controldb.BudgetOverrideRow) (*costv1.BudgetOverride, error) {
	o := &costv1.BudgetOverride{}
	if err := proto.Unmarshal(row.Content, o); err != nil {
		return nil, fmt.Errorf("read override %s: %w", row.ID, err)
	}
	o.OverrideId, o.BudgetId, o.Reason, o.CreatedBy = row.ID.String(), row.BudgetID.String(), row.Reason, row.CreatedBy
	o.StartsAt, o.EndsAt, o.CreatedAt = timestamppb.New(row.StartsAt), timestamppb.New(row.EndsAt), timestamppb.New(row.CreatedAt)
	if row.RevokedAt != nil {
		o.RevokedAt, o.RevokedBy, o.RevokeReason = timestamppb.New(*row.RevokedAt), row.RevokedBy, row.RevokeReason
	}
	return o, nil
}
