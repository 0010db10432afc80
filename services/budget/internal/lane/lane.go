// Package lane brings concurrent callers of the ledger together: what queues up
// while one batch commits is the next batch.
package lane

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/groupcommit"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/ledger"
)

// Store commits a batch of ops, all or nothing. Flushing the same ops again
// must have no second effect.
type Store interface {
	// Ready loads what the ops of a tenant need, or returns a fault.
	Ready(ctx context.Context, tenant uuid.UUID) error
	Flush(ctx context.Context, ops []ledger.Op) ([]groupcommit.Result[ledger.Answer], error)
}

// Options bound a Lane. Zero values mean the defaults.
type Options struct {
	Lanes    int // batches in flight at a time; 1
	MaxBatch int // ops in one batch; 512
	MaxQueue int // ops waiting; 8192
	OnFlush  func(ops int, took time.Duration, err error)
}

// timeout bounds one batch with its retries. Holds must not be swept sooner
// than this after they ran out, or one committed late could be overlooked.
const timeout = 8 * time.Second

// Lane is the way into the ledger. Run must be running.
type Lane struct {
	store Store
	loop  *groupcommit.Loop[ledger.Op, ledger.Answer]
}

// errFull is not "unavailable": clients try that again by themselves, at once,
// and would make it worse.
var errFull = fault.New(fault.Exhausted, "too many operations of this ledger are waiting").
	WithReason("OVERLOADED").WithRetry(time.Second)

// New returns a Lane into s. Tenants take turns in it, and one may fill no more
// than half of the queue.
func New(s Store, o Options) *Lane {
	if o.MaxBatch <= 0 {
		o.MaxBatch = 512
	}
	loop := groupcommit.New(s.Flush, groupcommit.Options{
		Lanes: o.Lanes, MaxBatch: o.MaxBatch, MaxQueue: o.MaxQueue, Timeout: timeout, Isolate: true, Lead: true, Full: errFull, OnFlush: o.OnFlush,
	})
	return &Lane{s, loop.FairBy(func(op ledger.Op) string {
		tenant := op.Of().Tenant
		return string(tenant[:])
	})}
}

// Do runs op and returns its answer once it is durable. A full queue is a
// fault.Exhausted at once, and nothing was done. If ctx ends first, the
// outcome is unknown unless the op had not started; the same op may be done
// again, by a new value with the same content. Who comes alone does it himself and
// waits for the end of it: the client keeps his deadline.
func (l *Lane) Do(ctx context.Context, op ledger.Op) (ledger.Answer, error) {
	if err := l.store.Ready(ctx, op.Of().Tenant); err != nil {
		return ledger.Answer{}, err
	}
	return l.loop.Do(ctx, op)
}

// StartAll queues ops of one tenant together, like Do, and does not wait: wait
// is the rest of Do for the op at i, at most once for each. What one goroutine
// starts is done in that order, also within ops. ctx is of all of them, unless
// own is there and says which one an op has for itself.
func (l *Lane) StartAll(ctx context.Context, ops []ledger.Op, own func(i int) context.Context) (wait func(i int) (ledger.Answer, error)) {
	if len(ops) > 0 {
		if err := l.store.Ready(ctx, ops[0].Of().Tenant); err != nil {
			return func(int) (ledger.Answer, error) { return ledger.Answer{}, err }
		}
	}
	wait, _ = l.loop.StartAll(ctx, ops, own)
	return wait
}

// DoAll is Do for many ops of one tenant at once: they are queued together and
// share their batches. Each has its own result, in the order of ops.
func (l *Lane) DoAll(ctx context.Context, ops []ledger.Op) []groupcommit.Result[ledger.Answer] {
	wait := l.StartAll(ctx, ops, nil)
	out := make([]groupcommit.Result[ledger.Answer], len(ops))
	for i := range out {
		out[i].Value, out[i].Err = wait(i)
	}
	return out
}

// Run works until ctx ends and what was queued is done.
func (l *Lane) Run(ctx context.Context) error { return l.loop.Run(ctx) }

// Len is the number of ops waiting.
func (l *Lane) Len() int { return l.loop.Len() }
