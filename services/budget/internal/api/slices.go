package api

import (
	"context"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	budgetv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/budget/v1"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/ledger"
)

// TakeSlice implements budgetv1.LedgerServiceServer.
func (l *Ledger) TakeSlice(ctx context.Context, req *budgetv1.TakeSliceRequest) (*budgetv1.TakeSliceResponse, error) {
	own := envelopeLimits(req.GetEnvelopeLimits()[0])
	ref, err := envelopeOf(ctx, "envelope_limits[0].envelope_id", own.EnvelopeID)
	if err != nil {
		return nil, err
	}
	if !own.Slice || own.Limits.IsZero() {
		return nil, fault.Field("envelope_limits[0]", "must be a slice with limits").WithReason("SLICE_EMPTY")
	}
	op := &ledger.TakeSlice{Ref: ref, Own: own}
	for _, above := range req.GetEnvelopeLimits()[1:] {
		op.Above = append(op.Above, envelopeLimits(above))
	}
	a, err := l.lane.Do(ctx, op.Seal())
	if err != nil {
		return nil, err
	}
	out := &budgetv1.TakeSliceResponse{Granted: a.Granted, Budgets: budgetStates(a.States), Reason: a.Reason, Message: a.Message}
	if a.RefusedBy != nil {
		out.RefusedBy = budgetState(*a.RefusedBy)
	}
	return out, nil
}

// ReturnSlice implements budgetv1.LedgerServiceServer.
func (l *Ledger) ReturnSlice(ctx context.Context, req *budgetv1.ReturnSliceRequest) (*budgetv1.ReturnSliceResponse, error) {
	ref, err := envelopeOf(ctx, "envelope_id", req.GetEnvelopeId())
	if err != nil {
		return nil, err
	}
	a, err := l.lane.Do(ctx, &ledger.ReturnSlice{Ref: ref})
	if err != nil {
		return nil, err
	}
	return &budgetv1.ReturnSliceResponse{Returned: protoAmounts(a.Amounts)}, nil
}

func envelopeOf(ctx context.Context, field, id string) (ledger.Ref, error) {
	tenant, err := identity.Tenant(ctx)
	if err != nil {
		return ledger.Ref{}, err
	}
	parsed, err := uuid.Parse(id)
	if err != nil || parsed == uuid.Nil {
		return ledger.Ref{}, fault.Field(field, "is not a UUID")
	}
	return ledger.Ref{Tenant: tenant, ID: parsed}, nil
}
