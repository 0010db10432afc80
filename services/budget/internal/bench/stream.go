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
	"golang.org/x/sync/errgroup"

	"github.com/fulcrum-io/fulcrum/pkg/bench"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	budgetv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/budget/v1"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/ledger"
)

// streamsOfTenant is how many streams share the holds of a tenant, as instances
// of the gateway do.
const streamsOfTenant = 2

// messagesOfStream is how many messages of a stream have no answer at a time.
const messagesOfStream = 2

// openStreams is openCalls for a caller who collects over streams that stay open, with
// a client of grpc-go. A
// hold that waits to be sent counts from when it was due, too.
func openStreams(ctx context.Context, to *process, t *tree, rate int, long time.Duration) ([]time.Duration, int64, error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	holds := bench.NewSchedule(rate, long)
	var failed atomic.Int64
	var receiving errgroup.Group
	streams := make(map[uuid.UUID][]*stream, len(t.tenants))
	for _, tenant := range t.tenants {
		for range streamsOfTenant {
			calls, err := to.client.Operate(identity.With(ctx, identity.System(tenant)))
			if err != nil {
				return nil, 0, err
			}
			s := &stream{calls: calls, most: messagesOfStream}
			streams[tenant] = append(streams[tenant], s)
			receiving.Go(func() error {
				err := s.receive(func(i int, held bool) {
					if !held {
						failed.Add(1)
					}
					holds.Done(i)
				})
				holds.Fail(errors.Join(errEnded, err)) // it ends by itself when all are done
				return err
			})
		}
	}
	took, err := holds.Run(ctx, func(i int) {
		op := t.any()
		of := streams[op.Tenant]
		if err := of[i%len(of)].ask(i, op); err != nil {
			holds.Fail(err)
		}
	})
	if err != nil {
		stop()
		return nil, 0, errors.Join(err, receiving.Wait())
	}
	for _, of := range streams {
		for _, s := range of {
			err = errors.Join(err, s.calls.CloseSend())
		}
	}
	return took, failed.Load(), errors.Join(err, receiving.Wait())
}

var errEnded = errors.New("a stream ended before its caller had all answers")

// most is how many holds one message, or call, has.
const most = 100

// stream is one of the caller's. A hold is sent at once if fewer messages than may
// be have no answer. What comes meanwhile is sent together, as soon as the first
// answer to one of them is there.
type stream struct {
	calls budgetv1.LedgerService_OperateClient
	most  int // messages without an answer

	mu         sync.Mutex // guards the rest, and sending
	collected  []numbered // in the order of their numbers
	unanswered []int      // the first number of each message without an answer, in this order
}

type numbered struct {
	number int
	hold   *ledger.Reserve
}

// ask sends a hold, or leaves it to be sent. Numbers only grow.
func (s *stream) ask(number int, hold *ledger.Reserve) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.collected = append(s.collected, numbered{number, hold})
	return s.send()
}

// answered takes the messages for answered up to the one that has this number.
func (s *stream) answered(newest int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.unanswered) > 0 && s.unanswered[0] <= newest {
		s.unanswered = append(s.unanswered[:0], s.unanswered[1:]...)
	}
	return s.send()
}

// send sends what is collected, as far as it may now.
func (s *stream) send() error {
	for len(s.collected) > 0 && len(s.unanswered) < s.most {
		batch := s.collected[:min(len(s.collected), most)]
		req := &budgetv1.OperateRequest{Operations: make([]*budgetv1.Operation, len(batch))}
		for i, a := range batch {
			req.Operations[i] = &budgetv1.Operation{Id: strconv.Itoa(a.number), Operation: &budgetv1.Operation_Reserve{Reserve: asked(a.hold)}}
		}
		s.unanswered = append(s.unanswered, batch[0].number)
		s.collected = s.collected[:copy(s.collected, s.collected[len(batch):])]
		if err := s.calls.Send(req); err != nil {
			return err
		}
	}
	return nil
}

// receive tells of each answer, until the caller has closed and has all.
func (s *stream) receive(tell func(number int, held bool)) error {
	for {
		resp, err := s.calls.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("receive answers: %w", err)
		}
		newest := -1
		for _, a := range resp.GetResults() {
			number, err := strconv.Atoi(a.GetId())
			if err != nil {
				return fmt.Errorf("an answer to %q: %w", a.GetId(), err)
			}
			tell(number, onPath(a.GetReserve()))
			newest = max(newest, number)
		}
		if err := s.answered(newest); err != nil {
			return fmt.Errorf("send: %w", err)
		}
	}
}
