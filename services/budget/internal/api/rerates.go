package api

import (
	"context"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	pricingv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/pricing/v1"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/rerate"
)

// Rerate implements pricingv1.PriceServiceServer. To look needs the scope to read
// costs, to apply the one to write them.
func (s *Prices) Rerate(ctx context.Context, req *pricingv1.RerateRequest) (*pricingv1.RerateResponse, error) {
	needed := scope
	if req.GetApply() {
		needed = "cost:write"
	}
	who, err := identity.Allowed(ctx, needed)
	if err != nil {
		return nil, err
	}
	from, until := req.GetFrom(), req.GetUntil()
	switch {
	case !from.IsValid() || from.AsTime().Year() < 1970 || from.AsTime().Year() > 9999:
		return nil, fault.Field("from", "must be a time between 1970 and 9999")
	case !until.IsValid() || until.AsTime().Year() > 9999:
		return nil, fault.Field("until", "must be a time up to 9999")
	case !until.AsTime().After(from.AsTime()):
		return nil, fault.Field("until", "must be after from")
	case req.GetApply() && req.GetIdempotencyKey() == "":
		return nil, fault.Field("idempotency_key", "is needed to apply, so that nothing is corrected twice")
	}
	for field, value := range map[string]string{"model": req.GetModel(), "idempotency_key": req.GetIdempotencyKey()} {
		if err := text(field, value); err != nil {
			return nil, err
		}
	}
	r := rerate.Request{
		Tenant: who.Tenant, From: from.AsTime().Truncate(1000), Until: until.AsTime().Truncate(1000),
		Model: req.GetModel(), Version: req.GetPriceVersion(), By: who.Actor(), Key: req.GetIdempotencyKey(),
	}
	do := s.rerater.Preview
	if req.GetApply() {
		do = s.rerater.Apply
	}
	report, err := do(ctx, r)
	if err != nil {
		return nil, err
	}
	return &pricingv1.RerateResponse{Report: wireReport(report)}, nil
}

// GetRerate implements pricingv1.PriceServiceServer.
func (s *Prices) GetRerate(ctx context.Context, req *pricingv1.GetRerateRequest) (*pricingv1.GetRerateResponse, error) {
	who, err := identity.Allowed(ctx, scope)
	if err != nil {
		return nil, err
	}
	id, err := uuid.Parse(req.GetRerateId())
	if err != nil {
		return nil, fault.Field("rerate_id", "must be a UUID")
	}
	done, err := s.catalogs.Rerate(ctx, who.Tenant, id)
	if err != nil {
		return nil, err
	}
	return &pricingv1.GetRerateResponse{Report: wireReport(*done)}, nil
}

// ListRerates implements pricingv1.PriceServiceServer.
func (s *Prices) ListRerates(ctx context.Context, req *pricingv1.ListReratesRequest) (*pricingv1.ListReratesResponse, error) {
	who, err := identity.Allowed(ctx, scope)
	if err != nil {
		return nil, err
	}
	before := uuid.Max
	if err := readToken(req.GetPageToken(), &before); err != nil {
		return nil, err
	}
	size := pageSize(req.GetPageSize())
	all, err := s.catalogs.Rerates(ctx, who.Tenant, before, size+1)
	if err != nil {
		return nil, err
	}
	resp := &pricingv1.ListReratesResponse{}
	if len(all) > size {
		all = all[:size]
		if resp.NextPageToken, err = token(all[size-1].ID); err != nil {
			return nil, err
		}
	}
	for _, r := range all {
		resp.Rerates = append(resp.Rerates, wireReport(r))
	}
	return resp, nil
}

func wireReport(r rerate.Report) *pricingv1.RerateReport {
	out := &pricingv1.RerateReport{
		From: timestamppb.New(r.From), Until: timestamppb.New(r.Until), Model: r.Model, PriceVersion: r.Version,
		Applied: r.ID != uuid.Nil, CreatedAt: timestamppb.New(r.At), CreatedBy: r.By,
		Total: wireLine(r.Total), Unchanged: r.Unchanged, LeftAlone: r.LeftAlone, Unpriced: r.Unpriced,
	}
	if out.Applied {
		out.RerateId = r.ID.String()
	}
	for _, l := range r.Models {
		out.ByModel = append(out.ByModel, wireLine(l))
	}
	for _, l := range r.Budgets {
		out.ByBudget = append(out.ByBudget, wireLine(l))
	}
	return out
}

func wireLine(l rerate.Line) *pricingv1.RerateLine {
	return &pricingv1.RerateLine{
		Model: l.Model, BudgetId: l.Budget, BudgetName: l.Name, Charges: l.Charges,
		OldNano: int64(l.Old), NewNano: int64(l.New), DifferenceNano: int64(l.New - l.Old),
	}
}
