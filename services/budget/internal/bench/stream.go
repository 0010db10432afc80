package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/pkg/bench"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	budgetv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/budget/v1"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/ledger"
)

// streamsOfTenant is how many streams share the holds of a tenant, as instances
// of the gateway do.
const streamsOfTenant = 2

// openStreams is open, but over streams that stay open. A hold that waits because
// its stream has as many under way as it may counts from when it was due, too.
func openStreams(ctx context.Context, client budgetv1.LedgerServiceClient, t *tree, rate int, long time.Duration) ([]time.Duration, int64, error) {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	answers := make([]chan bool, int(long.Seconds()*float64(rate)))
	for i := range answers {
		answers[i] = make(chan bool, 1)
	}
	lanes := make(map[uuid.UUID][]*stream, len(t.tenants))
	var running sync.WaitGroup
	for _, tenant := range t.tenants {
		for range streamsOfTenant {
			s := &stream{queue: make(chan numbered, len(answers))}
			var err error
			if s.calls, err = client.Operate(identity.With(ctx, identity.System(tenant))); err != nil {
				return nil, 0, err
			}
			lanes[tenant] = append(lanes[tenant], s)
			running.Go(func() {
				if err := s.run(func(i int, granted bool) { answers[i] <- granted }); err != nil {
					stop(err)
				}
			})
		}
	}
	var failed atomic.Int64
	took, err := bench.Arrivals(ctx, rate, long, mostUnderWay, func(ctx context.Context, i int) error {
		op := t.any()
		s := lanes[op.Tenant]
		s[i%len(s)].queue <- numbered{i, op}
		select {
		case granted := <-answers[i]:
			if !granted {
				failed.Add(1)
			}
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	})
	for _, of := range lanes {
		for _, s := range of {
			close(s.queue)
		}
	}
	running.Wait()
	return took, failed.Load(), errors.Join(err, context.Cause(ctx))
}

// stream is one of the caller's.
type stream struct {
	calls budgetv1.LedgerService_OperateClient
	queue chan numbered
}

type numbered struct {
	number int
	op     *ledger.Reserve
}

// run sends what is asked and tells of each answer, until all is answered.
func (s *stream) run(answered func(number int, granted bool)) error {
	sent := make(chan error, 1)
	go func() {
		for a := range s.queue {
			err := s.calls.Send(&budgetv1.OperateRequest{
				Id:        strconv.Itoa(a.number),
				Operation: &budgetv1.OperateRequest_Reserve{Reserve: asked(a.op)},
			})
			if err != nil {
				sent <- err
				return
			}
		}
		sent <- s.calls.CloseSend()
	}()
	for {
		a, err := s.calls.Recv()
		if errors.Is(err, io.EOF) {
			return <-sent
		}
		if err != nil {
			return fmt.Errorf("receive an answer: %w", err)
		}
		number, err := strconv.Atoi(a.GetId())
		if err != nil {
			return fmt.Errorf("an answer to %q: %w", a.GetId(), err)
		}
		answered(number, len(a.GetReserve().GetHold().GetBudgets()) == 3)
	}
}
