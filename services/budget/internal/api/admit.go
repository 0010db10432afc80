package api

import (
	"context"
	"slices"
	"time"

	budgetv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/budget/v1"
)

// operationTimeout is of the operations that name none.
const operationTimeout = 10 * time.Second

// timed is an operation and the time that it has.
type timed struct {
	*budgetv1.Operation
	until time.Time
	ctx   context.Context    // until then; of its own, or of its message
	end   context.CancelFunc // of its own context, else nil
}

// free gives back what its time takes.
func (t timed) free() {
	if t.end != nil {
		t.end()
	}
}

// timed says how much time operations have. A dry run has its own: it is waited
// for by itself.
func (o *operating) timed(operations []*budgetv1.Operation, arrived time.Time, shared context.Context) []timed {
	until, _ := shared.Deadline()
	out := make([]timed, len(operations))
	for i, operation := range operations {
		t := timed{Operation: operation, until: until, ctx: shared}
		if operation.GetTimeout() != nil {
			t.until = arrived.Add(operation.GetTimeout().AsDuration())
		}
		if operation.GetTimeout() != nil || operation.GetReserve().GetDryRun() {
			t.ctx, t.end = context.WithDeadline(o.ctx, t.until)
		}
		out[i] = t
	}
	return out
}

// admit waits until the lane is ready for the stream's tenant and there is a slot
// for each of ops, and returns them. Those whose time passes before are answered
// when it does, and left out; all are, if the tenant's configuration cannot be
// had. It fails only when the stream is over.
func (o *operating) admit(ops []timed) ([]timed, error) {
	for len(ops) > 0 {
		next := slices.MinFunc(ops, func(a, b timed) int { return a.until.Compare(b.until) }).ctx
		failed := o.l.lane.Ready(next, o.tenant)
		if failed == nil && o.slots.Acquire(next, int64(len(ops))) == nil {
			return ops, nil
		}
		if next.Err() != nil {
			failed = nil // it is about the time of one, and not about the others
		}
		var left []timed
		var results []*budgetv1.OperationResult
		for _, t := range ops {
			err := t.ctx.Err()
			if err == nil {
				err = failed
			}
			if err == nil {
				left = append(left, t)
				continue
			}
			t.free()
			a := o.l.notDone(o.ctx, err)
			a.Id = t.GetId()
			results = append(results, a)
		}
		if err := o.refuse(results); err != nil {
			return nil, err
		}
		ops = left
	}
	return nil, nil
}
