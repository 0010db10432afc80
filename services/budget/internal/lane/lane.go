// Package lane brings concurrent callers of the ledger together: what queues up
// while one batch commits is the next batch.
package lane

import (
	"context"
	"slices"
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

// Ready returns once the tenant's configuration is there, with ctx if that ends
// first, or says why it cannot be had.
func (l *Lane) Ready(ctx context.Context, tenant uuid.UUID) error { return l.store.Ready(ctx, tenant) }

// StartAll queues ops of one tenant together, like Do, and does not wait: wait
// is the rest of Do for the op at i, at most once for each, and refused says at
// once why an op was not queued. What one goroutine starts is done in that order,
// also within ops. ctx is of all of them, unless own is there and says which one
// an op has for itself. The tenant is Ready, or its batch waits for that.
func (l *Lane) StartAll(ctx context.Context, ops []ledger.Op, own func(i int) context.Context) (wait func(i int) (ledger.Answer, error), refused func(i int) error) {
	return l.loop.StartAll(ctx, ops, own)
}

// DoAll is Do for many ops of one tenant at once: they are queued together and
// share their batches. Each has its own result, in the order of ops.
func (l *Lane) DoAll(ctx context.Context, ops []ledger.Op) []groupcommit.Result[ledger.Answer] {
	if len(ops) > 0 {
		if err := l.Ready(ctx, ops[0].Of().Tenant); err != nil {
			return slices.Repeat([]groupcommit.Result[ledger.Answer]{{Err: err}}, len(ops))
		}
	}
	return l.loop.DoAll(ctx, ops)
}

// Run works until ctx ends and what was queued is done.
func (l *Lane) Run(ctx context.Context) error { return l.loop.Run(ctx) }

// Len is the number of ops waiting.
func (l *Lane) Len() int { return l.loop.Len() }
