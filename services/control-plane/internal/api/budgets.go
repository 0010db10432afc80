package api

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	costv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/cost/v1"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/budget"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/page"
)

// Budgets is the part of CostService that keeps budgets. What is spent, and the
// status that follows from it, the gateway adds from the ledger.
type Budgets struct {
	costv1.UnimplementedCostServiceServer
	service *budget.Service
}

// NewBudgets returns Budgets over s.
func NewBudgets(s *budget.Service) *Budgets { return &Budgets{service: s} }

// CreateBudget implements costv1.CostServiceServer.
func (s *Budgets) CreateBudget(ctx context.Context, req *costv1.CreateBudgetRequest) (*costv1.CreateBudgetResponse, error) {
	by, err := identity.From(ctx)
	if err != nil {
		return nil, err
	}
	key, err := once(ctx, costv1.CostService_CreateBudget_FullMethodName, req)
	if err != nil {
		return nil, err
	}
	if req.GetBudget() == nil {
		return nil, fault.Field("budget", "is required")
	}
	status := req.GetBudget().GetStatus()
	b := budget.Content(req.GetBudget())
	b.Status = status
	b, err = s.service.Create(ctx, by, b, key)
	if err != nil {
		return nil, err
	}
	return &costv1.CreateBudgetResponse{Budget: b}, nil
}

// GetBudget implements costv1.CostServiceServer.
func (s *Budgets) GetBudget(ctx context.Context, req *costv1.GetBudgetRequest) (*costv1.GetBudgetResponse, error) {
	by, err := identity.From(ctx)
	if err != nil {
		return nil, err
	}
	u, err := id("budget_id", req.GetBudgetId())
	if err != nil {
		return nil, err
	}
	b, err := s.service.Budget(ctx, by.Tenant, u)
	if err != nil {
		return nil, err
	}
	return &costv1.GetBudgetResponse{Budget: b}, nil
}

// UpdateBudget implements costv1.CostServiceServer.
func (s *Budgets) UpdateBudget(ctx context.Context, req *costv1.UpdateBudgetRequest) (*costv1.UpdateBudgetResponse, error) {
	by, err := identity.From(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := id("budget.budget_id", req.GetBudget().GetBudgetId()); err != nil {
		return nil, err
	}
	b, err := s.service.Update(ctx, by, req.GetBudget(), req.GetUpdateMask())
	if err != nil {
		return nil, err
	}
	return &costv1.UpdateBudgetResponse{Budget: b}, nil
}

// DeleteBudget implements costv1.CostServiceServer.
func (s *Budgets) DeleteBudget(ctx context.Context, req *costv1.DeleteBudgetRequest) (*costv1.DeleteBudgetResponse, error) {
	by, err := identity.From(ctx)
	if err != nil {
		return nil, err
	}
	u, err := id("budget_id", req.GetBudgetId())
	if err != nil {
		return nil, err
	}
	if err := s.service.Delete(ctx, by, u); err != nil {
		return nil, err
	}
	return &costv1.DeleteBudgetResponse{Success: true}, nil
}

// ListBudgets implements costv1.CostServiceServer. Of the statuses only
// SUSPENDED is known here: any other selects every budget that is not.
func (s *Budgets) ListBudgets(ctx context.Context, req *costv1.ListBudgetsRequest) (*costv1.ListBudgetsResponse, error) {
	by, err := identity.From(ctx)
	if err != nil {
		return nil, err
	}
	size, err := page.Size(req.GetPageSize())
	if err != nil {
		return nil, err
	}
	list := page.List{Tenant: by.Tenant, Kind: "budgets", Filter: append([]string{req.GetWorkflowId(), req.GetStatus().String()}, req.GetBudgetIds()...)}
	var after uuid.UUID
	if _, err := page.Read(list, req.GetPageToken(), &after); err != nil {
		return nil, err
	}
	f := budget.Filter{Workflow: optional(req.GetWorkflowId())}
	if req.GetStatus() != costv1.BudgetStatusType_BUDGET_STATUS_TYPE_UNSPECIFIED {
		f.Suspended = new(req.GetStatus() == costv1.BudgetStatusType_BUDGET_STATUS_TYPE_SUSPENDED)
	}
	for i, one := range req.GetBudgetIds() {
		u, err := id(fmt.Sprintf("budget_ids[%d]", i), one)
		if err != nil {
			return nil, err
		}
		f.IDs = append(f.IDs, u)
	}
	all, total, err := s.service.Budgets(ctx, by.Tenant, f, after, size+1)
	if err != nil {
		return nil, err
	}
	all, next, err := page.Cut(list, all, size, func(b *costv1.Budget) any { return b.GetBudgetId() })
	if err != nil {
		return nil, err
	}
	return &costv1.ListBudgetsResponse{Budgets: all, NextPageToken: next, TotalCount: total}, nil
}
