package api_test

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/pkg/groupcommit"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/ledger"
)

// gate is a lane that answers nothing until it is opened, and counts. It knows
// ops by the budget that they name.
type gate struct {
	open           chan struct{}
	loads          time.Duration                 // how long every tenant's configuration takes; then it may fail
	fails          error                         // why it cannot be had
	refuses        func(op string) error         // why an op is not queued; nil: all are
	answers        func(op string) ledger.Answer // what it is answered; nil: it is granted
	inFlight, most atomic.Int64

	mu    sync.Mutex // guards begun
	begun []string
}

func newGate() *gate {
	return &gate{open: make(chan struct{})}
}

// Ready takes its time and, once it has passed, none.
func (g *gate) Ready(ctx context.Context, _ uuid.UUID) error {
	if g.loads == 0 {
		return g.fails
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(g.loads):
		g.loads = 0
		return g.fails
	}
}

func (g *gate) StartAll(_ context.Context, ops []ledger.Op, own func(int) context.Context) (func(int) (ledger.Answer, error), func(int) error) {
	names, errs := make([]string, len(ops)), make([]error, len(ops))
	for i, op := range ops {
		names[i] = op.(*ledger.Reserve).BudgetID
		if g.refuses != nil {
			errs[i] = g.refuses(names[i])
		}
		if errs[i] == nil {
			g.begin(names[i])
		}
	}
	wait := func(i int) (ledger.Answer, error) {
		if errs[i] != nil {
			return ledger.Answer{}, errs[i]
		}
		defer g.inFlight.Add(-1)
		select {
		case <-g.open:
			if g.answers != nil {
				return g.answers(names[i]), nil
			}
			return ledger.Answer{Granted: true}, nil
		case <-own(i).Done():
			return ledger.Answer{}, own(i).Err()
		}
	}
	return wait, func(i int) error { return errs[i] }
}

func (g *gate) begin(op string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.begun = append(g.begun, op)
	g.most.Store(max(g.most.Load(), g.inFlight.Add(1)))
}

// did is what has begun so far, in this order.
func (g *gate) did() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.begun)
}

func (g *gate) Do(context.Context, ledger.Op) (ledger.Answer, error) { panic("not by itself") }

func (g *gate) DoAll(context.Context, []ledger.Op) []groupcommit.Result[ledger.Answer] {
	panic("not in a stream")
}
