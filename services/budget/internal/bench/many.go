package bench

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/fulcrum-io/fulcrum/pkg/bench"
	"github.com/fulcrum-io/fulcrum/pkg/bench/wire"
	budgetv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/budget/v1"
)

// callsOfTenant is how many calls with many holds a tenant has under way.
const callsOfTenant = 2

// openMany is openCalls for a caller who collects: what comes for a tenant while its
// calls are under way is asked for together in the next.
func openMany(ctx context.Context, to *process, t *tree, rate int, long time.Duration) ([]time.Duration, int64, error) {
	by, err := each(ctx, to.calls, budgetv1.LedgerService_ReserveMany_FullMethodName, t.tenants)
	if err != nil {
		return nil, 0, err
	}
	holds := bench.NewSchedule(rate, long)
	var failed atomic.Int64
	collectors := make(map[uuid.UUID]*collector, len(t.tenants))
	for _, tenant := range t.tenants {
		collectors[tenant] = &collector{calls: to.calls, method: by[tenant], fail: holds.Fail, tell: func(number int, held bool) {
			if !held {
				failed.Add(1)
			}
			holds.Done(number)
		}}
	}
	took, err := holds.Run(ctx, func(i int) {
		op := t.any()
		collectors[op.Tenant].ask(numbered{i, op})
	})
	return took, failed.Load(), err
}

// collector asks for the holds of a tenant, many in a call.
type collector struct {
	calls  *wire.Client
	method *wire.Method
	tell   func(number int, held bool)
	fail   func(error)

	mu       sync.Mutex // guards the rest
	underWay int
	waiting  []numbered
}

// ask asks for a hold, or leaves it to the next call.
func (c *collector) ask(a numbered) {
	c.mu.Lock()
	c.waiting = append(c.waiting, a)
	c.next()
}

// next makes a call if something waits and it may, and unlocks.
func (c *collector) next() {
	if len(c.waiting) == 0 || c.underWay == callsOfTenant {
		c.mu.Unlock()
		return
	}
	batch := slices.Clone(c.waiting[:min(len(c.waiting), most)])
	c.waiting = append(c.waiting[:0], c.waiting[len(batch):]...)
	c.underWay++
	c.mu.Unlock()

	req := &budgetv1.ReserveManyRequest{Requests: make([]*budgetv1.ReserveRequest, len(batch))}
	for i, a := range batch {
		req.Requests[i] = asked(a.hold)
	}
	request, err := proto.Marshal(req)
	if err != nil {
		c.fail(err)
		return
	}
	c.calls.Call(c.method, request, func(reply []byte, err error) {
		if errors.Is(err, wire.ErrEnded) {
			c.fail(err)
			return
		}
		c.mu.Lock()
		c.underWay--
		c.next()
		held := heldOf(reply, err, len(batch))
		for i, a := range batch {
			c.tell(a.number, held[i])
		}
	})
}

// heldOf says which of n holds an answer grants; none, if the call failed.
func heldOf(reply []byte, err error, n int) []bool {
	held := make([]bool, n)
	var resp budgetv1.ReserveManyResponse
	if err != nil || proto.Unmarshal(reply, &resp) != nil || len(resp.GetResults()) != n {
		return held
	}
	for i, r := range resp.GetResults() {
		held[i] = onPath(r.GetResponse())
	}
	return held
}
