package api

import (
	"context"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fulcrum-io/fulcrum/pkg/identity"
	costv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/cost/v1"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/budget"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/page"
)

// CreateBudgetOverride implements costv1.CostServiceServer.
func (s *Budgets) CreateBudgetOverride(ctx context.Context, req *costv1.CreateBudgetOverrideRequest) (*costv1.CreateBudgetOverrideResponse, error) {
	by, err := identity.From(ctx)
	if err != nil {
		return nil, err
	}
	key, err := once(ctx, costv1.CostService_CreateBudgetOverride_FullMethodName, req)
	if err != nil {
		return nil, err
	}
	of, err := id("budget_id", req.GetBudgetId())
	if err != nil {
		return nil, err
	}
	o, err := s.service.Override(ctx, by, budget.Override{
		Budget: of, Limits: req.GetLimits(), Suspended: req.Suspended, Reason: req.GetReason(),
		StartsAt: moment(req.GetStartsAt()), EndsAt: moment(req.GetEndsAt()), For: req.GetDuration().AsDuration().Truncate(time.Second),
	}, key)
	if err != nil {
		return nil, err
	}
	return &costv1.CreateBudgetOverrideResponse{Override: o}, nil
}

// ListBudgetOverrides implements costv1.CostServiceServer.
func (s *Budgets) ListBudgetOverrides(ctx context.Context, req *costv1.ListBudgetOverridesRequest) (*costv1.ListBudgetOverridesResponse, error) {
	by, err := identity.From(ctx)
	if err != nil {
		return nil, err
	}
	of, err := id("budget_id", req.GetBudgetId())
	if err != nil {
		return nil, err
	}
	size, err := page.Size(req.GetPageSize())
	if err != nil {
		return nil, err
	}
	ended := map[bool]string{true: "all"}[req.GetIncludeEnded()]
	list := page.List{Tenant: by.Tenant, Kind: "overrides", Filter: []string{of.String(), ended}}
	before := uuid.Max
	if _, err := page.Read(list, req.GetPageToken(), &before); err != nil {
		return nil, err
	}
	all, err := s.service.Overrides(ctx, by.Tenant, of, req.GetIncludeEnded(), before, size+1)
	if err != nil {
		return nil, err
	}
	all, next, err := page.Cut(list, all, size, func(o *costv1.BudgetOverride) any { return o.GetOverrideId() })
	if err != nil {
		return nil, err
	}
	return &costv1.ListBudgetOverridesResponse{Overrides: all, NextPageToken: next}, nil
}

// RevokeBudgetOverride implements costv1.CostServiceServer.
func (s *Budgets) RevokeBudgetOverride(ctx context.Context, req *costv1.RevokeBudgetOverrideRequest) (*costv1.RevokeBudgetOverrideResponse, error) {
	by, err := identity.From(ctx)
	if err != nil {
		return nil, err
	}
	of, err := id("budget_id", req.GetBudgetId())
	if err != nil {
		return nil, err
	}
	one, err := id("override_id", req.GetOverrideId())
	if err != nil {
		return nil, err
	}
	o, err := s.service.Revoke(ctx, by, of, one, req.GetReason())
	if err != nil {
		return nil, err
	}
	return &costv1.RevokeBudgetOverrideResponse{Override: o}, nil
}

// moment is nil for "not said".
func moment(t *timestamppb.Timestamp) *time.Time {
	if t == nil {
		return nil
	}
	at := t.AsTime()
	return &at
}
