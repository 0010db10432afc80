package api

import (
	"context"
	"time"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	budgetv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/budget/v1"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/ledger"
)

// operationTimeout is of the operations that name none.
const operationTimeout = 10 * time.Second

// queued is an operation that waits for its commit.
type queued struct {
	id  string
	ctx context.Context    // of its own, or of its message
	end context.CancelFunc // of its own context, else nil
}

// begin queues the operations of a message behind those begun before, as soon as
// there is a slot for each, and leaves them to be waited for.
//
// Those that name no timeout share one, and a goroutine that waits for one after
// the other: they commit in this order. One that names its own is told of it when
// it passes, not when those before it are answered.
func (o *operating) begin(operations []*budgetv1.Operation) error {
	left := len(operations)
	defer func() { o.running.Add(-left) }() // nobody waits for what does not begin
	if err := o.slots.Acquire(o.ctx, int64(left)); err != nil {
		return err
	}
	shared, cancel := context.WithTimeout(o.ctx, operationTimeout)
	ops, waiting := make([]ledger.Op, 0, left), make([]queued, 0, left)
	for _, operation := range operations {
		op, err := opOf(o.ctx, operation)
		if err != nil {
			o.answer(operation.GetId(), o.l.notDone(o.ctx, err))
			left--
			continue
		}
		q := queued{id: operation.GetId(), ctx: shared}
		if operation.GetTimeout() != nil {
			q.ctx, q.end = context.WithTimeout(o.ctx, operation.GetTimeout().AsDuration())
		}
		if r, ok := op.(*ledger.Reserve); ok && operation.GetReserve().GetDryRun() {
			go o.try(q, r)
			left--
			continue
		}
		ops, waiting = append(ops, op), append(waiting, q)
	}
	wait := o.l.lane.StartAll(shared, ops, func(i int) context.Context { return waiting[i].ctx })
	await := func(i int) {
		a, err := wait(i)
		o.answer(waiting[i].id, o.l.done(o.ctx, ops[i], a, err))
	}
	left = 0
	for i, q := range waiting {
		if q.end != nil {
			go func() {
				defer q.end()
				await(i)
			}()
		}
	}
	go func() {
		defer cancel()
		for i, q := range waiting {
			if q.end == nil {
				await(i)
			}
		}
	}()
	return nil
}

// try answers a dry run, which reads only and queues for nothing.
func (o *operating) try(q queued, op *ledger.Reserve) {
	if q.end == nil {
		q.ctx, q.end = context.WithTimeout(o.ctx, operationTimeout)
	}
	defer q.end()
	a, err := o.l.reader.Try(q.ctx, op)
	if err != nil {
		o.answer(q.id, o.l.notDone(o.ctx, err))
		return
	}
	o.answer(q.id, result(op, a))
}

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
