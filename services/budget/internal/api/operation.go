package api

import (
	"context"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	budgetv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/budget/v1"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/ledger"
)

// opOf is an operation as the lane takes it.
func opOf(ctx context.Context, operation *budgetv1.Operation) (ledger.Op, error) {
	switch op := operation.GetOperation().(type) {
	case *budgetv1.Operation_Reserve:
		return checked(ctx, op.Reserve, reserveOf)
	case *budgetv1.Operation_Settle:
		return checked(ctx, op.Settle, settleOf)
	case *budgetv1.Operation_Release:
		return checked(ctx, op.Release, releaseOf)
	case *budgetv1.Operation_Renew:
		return checked(ctx, op.Renew, renewOf)
	}
	return nil, fault.Field("operation", "is required")
}

// done is the answer to what the lane did, or the failure in its place.
func (l *Ledger) done(ctx context.Context, op ledger.Op, a ledger.Answer, err error) *budgetv1.OperationResult {
	if err != nil {
		return l.notDone(ctx, err)
	}
	switch op.(type) {
	case *ledger.Reserve:
		l.observer.Reserved(ctx, a)
	case *ledger.Settle:
		l.observer.Settled(ctx, a)
	}
	return result(op, a)
}

func (l *Ledger) notDone(ctx context.Context, err error) *budgetv1.OperationResult {
	return &budgetv1.OperationResult{Result: &budgetv1.OperationResult_Failure{
		Failure: l.failure(ctx, budgetv1.LedgerService_Operate_FullMethodName, err),
	}}
}

// result shows the answer to an op of opOf.
func result(op ledger.Op, a ledger.Answer) *budgetv1.OperationResult {
	switch op := op.(type) {
	case *ledger.Reserve:
		return &budgetv1.OperationResult{Result: &budgetv1.OperationResult_Reserve{Reserve: reserved(op.Ref, a)}}
	case *ledger.Settle:
		return &budgetv1.OperationResult{Result: &budgetv1.OperationResult_Settle{Settle: settled(a)}}
	case *ledger.Release:
		return &budgetv1.OperationResult{Result: &budgetv1.OperationResult_Release{Release: released(a)}}
	default: // a *ledger.Renew
		return &budgetv1.OperationResult{Result: &budgetv1.OperationResult_Renew{Renew: renewed(a)}}
	}
}
