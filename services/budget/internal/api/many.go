package api

import (
	"context"
	"sync"

	"google.golang.org/protobuf/types/known/anypb"

	"github.com/fulcrum-io/fulcrum/pkg/identity"
	"github.com/fulcrum-io/fulcrum/pkg/rpc"
	budgetv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/budget/v1"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/ledger"
)

// ReserveMany implements budgetv1.LedgerServiceServer.
func (l *Ledger) ReserveMany(ctx context.Context, req *budgetv1.ReserveManyRequest) (*budgetv1.ReserveManyResponse, error) {
	if _, err := identity.Tenant(ctx); err != nil {
		return nil, err
	}
	results := make([]*budgetv1.ReserveResult, len(req.GetRequests()))
	var ops []ledger.Op
	var at []int // of each op in results
	var tries sync.WaitGroup
	for i, one := range req.GetRequests() {
		if one.GetDryRun() { // reads only, and queues for nothing
			tries.Go(func() {
				if err := rpc.Validate(one); err != nil {
					results[i] = l.notReserved(ctx, err)
				} else if resp, err := l.Reserve(ctx, one); err != nil {
					results[i] = l.notReserved(ctx, err)
				} else {
					results[i] = &budgetv1.ReserveResult{Result: &budgetv1.ReserveResult_Response{Response: resp}}
				}
			})
			continue
		}
		op, err := checked(ctx, one, reserveOf)
		if err != nil {
			results[i] = l.notReserved(ctx, err)
			continue
		}
		ops, at = append(ops, op), append(at, i)
	}
	for n, done := range l.lane.DoAll(ctx, ops) {
		i := at[n]
		if done.Err != nil {
			results[i] = l.notReserved(ctx, done.Err)
			continue
		}
		l.observer.Reserved(ctx, done.Value)
		results[i] = &budgetv1.ReserveResult{Result: &budgetv1.ReserveResult_Response{Response: reserved(ops[n].Of(), done.Value)}}
	}
	tries.Wait()
	return &budgetv1.ReserveManyResponse{Results: results}, nil
}

// checked turns a request that came inside another into an op. The rules of its
// .proto were not asked yet: that would have failed the requests beside it.
func checked[M any, O ledger.Op](ctx context.Context, req M, op func(context.Context, M) (O, error)) (O, error) {
	if err := rpc.Validate(req); err != nil {
		var none O
		return none, err
	}
	return op(ctx, req)
}

func (l *Ledger) notReserved(ctx context.Context, err error) *budgetv1.ReserveResult {
	return &budgetv1.ReserveResult{Result: &budgetv1.ReserveResult_Failure{
		Failure: l.failure(ctx, budgetv1.LedgerService_ReserveMany_FullMethodName, err),
	}}
}

// failure is what a call of its own would have failed with. It is logged as
// one, too.
func (l *Ledger) failure(ctx context.Context, method string, err error) *budgetv1.Failure {
	rpc.LogFailure(ctx, l.log, method, err)
	s := rpc.ToStatus(err).Proto()
	out := &budgetv1.Failure{Code: s.GetCode(), Message: s.GetMessage()}
	for _, d := range s.GetDetails() {
		out.Details = append(out.Details, &anypb.Any{TypeUrl: d.GetTypeUrl(), Value: d.GetValue()})
	}
	return out
}
