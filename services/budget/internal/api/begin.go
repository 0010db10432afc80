package api

import (
	"context"
	"time"

	budgetv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/budget/v1"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/ledger"
)

// begin queues the operations of a message behind those begun before, as soon as
// there is a slot for each, and leaves them to be waited for.
//
// Those that name no timeout share one, and a goroutine that waits for one after
// the other: they commit in this order. One that names its own is told of it when
// it passes, and one that is refused at once, not when those before it are answered.
func (o *operating) begin(operations []*budgetv1.Operation, arrived time.Time) error {
	shared, cancel := context.WithDeadline(o.ctx, arrived.Add(operationTimeout))
	admitted, err := o.admit(o.timed(operations, arrived, shared))
	if err != nil || len(admitted) == 0 {
		cancel()
		return err
	}
	ops, waiting := make([]ledger.Op, 0, len(admitted)), make([]timed, 0, len(admitted))
	for _, t := range admitted {
		op, err := opOf(o.ctx, t.Operation)
		if err != nil {
			o.unbegun--
			o.finish(t, o.l.notDone(o.ctx, err))
			continue
		}
		if r, ok := op.(*ledger.Reserve); ok && t.GetReserve().GetDryRun() {
			o.unbegun--
			go o.try(t, r)
			continue
		}
		ops, waiting = append(ops, op), append(waiting, t)
	}
	wait, refused := o.l.lane.StartAll(shared, ops, func(i int) context.Context { return waiting[i].ctx })
	o.unbegun -= len(waiting)
	await := func(i int) {
		o.finish(waiting[i], o.guarded(func() *budgetv1.OperationResult {
			a, err := wait(i)
			return o.l.done(o.ctx, ops[i], a, err)
		}))
	}
	together := make([]int, 0, len(waiting))
	for i, t := range waiting {
		switch {
		case refused(i) != nil:
			await(i)
		case t.end != nil:
			go await(i)
		default:
			together = append(together, i)
		}
	}
	if len(together) == 0 {
		cancel()
		return nil
	}
	go func() {
		defer cancel()
		for _, i := range together {
			await(i)
		}
	}()
	return nil
}

// try answers a dry run, which reads only and queues for nothing.
func (o *operating) try(t timed, op *ledger.Reserve) {
	o.finish(t, o.guarded(func() *budgetv1.OperationResult {
		a, err := o.l.reader.Try(t.ctx, op)
		if err != nil {
			return o.l.notDone(o.ctx, err)
		}
		return result(op, a)
	}))
}

// finish answers an operation that has a slot.
func (o *operating) finish(t timed, a *budgetv1.OperationResult) {
	t.free()
	o.answer(t.GetId(), a)
}
