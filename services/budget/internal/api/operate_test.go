package api_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/groupcommit"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	"github.com/fulcrum-io/fulcrum/pkg/rpc"
	budgetv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/budget/v1"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/api"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/ledger"
)

// gate is a lane that answers nothing until it is opened, and counts.
type gate struct {
	open     chan struct{}
	started  chan int // what each call started; its room is all that a test has
	inFlight atomic.Int64
	most     atomic.Int64
}

func newGate() *gate {
	return &gate{open: make(chan struct{}), started: make(chan int, 10*api.MaxInFlight)}
}

func (g *gate) StartAll(_ context.Context, ops []ledger.Op, own func(int) context.Context) func(int) (ledger.Answer, error) {
	n := g.inFlight.Add(int64(len(ops)))
	for m := g.most.Load(); n > m && !g.most.CompareAndSwap(m, n); m = g.most.Load() {
	}
	g.started <- len(ops)
	return func(i int) (ledger.Answer, error) {
		defer g.inFlight.Add(-1)
		select {
		case <-g.open:
			return ledger.Answer{Granted: true}, nil
		case <-own(i).Done():
			return ledger.Answer{}, own(i).Err()
		}
	}
}

func (g *gate) Do(context.Context, ledger.Op) (ledger.Answer, error) { panic("not by itself") }

func (g *gate) DoAll(context.Context, []ledger.Op) []groupcommit.Result[ledger.Answer] {
	panic("not in a stream")
}

// await returns once this many were started.
func (g *gate) await(operations int) {
	for operations > 0 {
		operations -= <-g.started
	}
}

type blind struct{}

func (blind) Reserved(context.Context, ledger.Answer) {}
func (blind) Settled(context.Context, ledger.Answer)  {}

// stream opens a stream to a service over this lane.
func stream(t *testing.T, lane api.Lane) budgetv1.LedgerService_OperateClient {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	srv := rpc.NewServer(rpc.ServerOptions{Log: log})
	budgetv1.RegisterLedgerServiceServer(srv.GRPC(), api.NewLedger(lane, nil, blind{}, log))
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	var served errgroup.Group
	served.Go(func() error { return rpc.Serve(ctx, srv, ln, time.Second) })
	conn, err := rpc.Dial(ln.Addr().String(), rpc.DialOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn.Close()
		stop()
		if err := served.Wait(); err != nil {
			t.Error(err)
		}
	})
	s, err := budgetv1.NewLedgerServiceClient(conn).Operate(identity.With(t.Context(), identity.System(uuid.New())))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// holds are operations whose ids are the numbers from first.
func holds(first, n int) *budgetv1.OperateRequest {
	req := &budgetv1.OperateRequest{}
	for i := range n {
		req.Operations = append(req.Operations, &budgetv1.Operation{
			Id: strconv.Itoa(first + i), Operation: &budgetv1.Operation_Reserve{Reserve: &budgetv1.ReserveRequest{
				ReservationId: uuid.NewString(), Subject: &budgetv1.Subject{}, Amounts: &governancev1.Amounts{CostNano: 1},
			}},
		})
	}
	return req
}

// However fast a caller sends, and in messages of whatever size, no more than the
// bound is under way; the rest waits with the caller, and all is answered once.
func TestAStreamsCallerIsSlowedDown(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		size func(message int) int
		most int // that fit beside each other
	}{
		"one operation in a message":    {func(int) int { return 1 }, api.MaxInFlight},
		"a message that does not fit":   {func(n int) int { return []int{100, 100, 50, 100}[n%4] }, 250},
		"a message that fits just so":   {func(n int) int { return []int{100, 100, 56, 100}[n%4] }, api.MaxInFlight},
		"as many as a message may have": {func(int) int { return 100 }, 200},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const operations = 4 * api.MaxInFlight
			g := newGate()
			s := stream(t, g)
			var sender errgroup.Group
			sender.Go(func() error {
				for n, sent := 0, 0; sent < operations; n++ {
					size := min(tt.size(n), operations-sent)
					if err := s.Send(holds(sent, size)); err != nil {
						return err
					}
					sent += size
				}
				return s.CloseSend()
			})
			g.await(tt.most)
			close(g.open)
			seen := make(map[string]bool)
			messages := 0
			for ; len(seen) < operations; messages++ {
				resp, err := s.Recv()
				if err != nil {
					t.Fatal(err)
				}
				if n := len(resp.GetResults()); n < 1 || n > 100 {
					t.Errorf("%d results in a message", n)
				}
				for _, a := range resp.GetResults() {
					if seen[a.GetId()] || !a.GetReserve().GetGranted() {
						t.Errorf("%v", a)
					}
					seen[a.GetId()] = true
				}
			}
			if err := sender.Wait(); err != nil {
				t.Error(err)
			}
			if most := g.most.Load(); most < int64(tt.most) || most > api.MaxInFlight {
				t.Errorf("%d under way at a time, want %d and at most %d", most, tt.most, api.MaxInFlight)
			}
			if messages >= operations {
				t.Errorf("%d messages for %d answers", messages, operations)
			}
		})
	}
}

// Who is in a hurry hears so in time, whatever he was sent with waits for.
func TestAnOperationWithItsOwnTimeoutIsToldWhileItsNeighboursWait(t *testing.T) {
	t.Parallel()
	g := newGate()
	s := stream(t, g)
	req := holds(0, 3)
	req.GetOperations()[1].Timeout = durationpb.New(20 * time.Millisecond)
	if err := s.Send(req); err != nil {
		t.Fatal(err)
	}
	resp, err := s.Recv()
	if a := resp.GetResults(); err != nil || len(a) != 1 || a[0].GetId() != "1" || a[0].GetFailure() == nil {
		t.Errorf("%v, %v; want the hurried one to have failed", resp, err)
	}
	close(g.open)
	seen := make(map[string]bool)
	for len(seen) < 2 {
		resp, err := s.Recv()
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range resp.GetResults() {
			seen[a.GetId()] = a.GetReserve().GetGranted()
		}
	}
	if !seen["0"] || !seen["2"] {
		t.Errorf("its neighbours: %v", seen)
	}
}

// A message that says nothing to do is not taken for one that is done with.
func TestAMessageWithoutOperationsIsRefused(t *testing.T) {
	t.Parallel()
	old := &budgetv1.OperateRequest{} // one operation by itself, as it once was
	old.ProtoReflect().SetUnknown(protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), "an id"))
	for name, req := range map[string]*budgetv1.OperateRequest{"empty": {}, "of the old kind": old, "too many": holds(0, 101)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := stream(t, newGate())
			if err := s.Send(req); err != nil {
				t.Fatal(err)
			}
			_, err := s.Recv()
			if f, ok := fault.As(err); !ok || !fault.Is(err, fault.Invalid) || len(f.Violations) != 1 || f.Violations[0].Field != "operations" {
				t.Errorf("%v, want the field that is wrong", err)
			}
		})
	}
}

// An id must tell its answer from every other's: the stream ends, after what was
// under way is answered.
func TestAnIDThatIsUnderWayEndsTheStream(t *testing.T) {
	t.Parallel()
	for name, again := range map[string]*budgetv1.OperateRequest{
		"in another message": holds(0, 1),
		"in one message":     {Operations: append(holds(7, 1).GetOperations(), holds(7, 1).GetOperations()...)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGate()
			s := stream(t, g)
			for _, req := range []*budgetv1.OperateRequest{holds(0, 2), again} {
				if err := s.Send(req); err != nil {
					t.Fatal(err)
				}
			}
			g.await(2)
			close(g.open)
			answered := 0
			for {
				resp, err := s.Recv()
				answered += len(resp.GetResults())
				if err == nil {
					continue
				}
				if !fault.HasReason(err, "OPERATION_ID_IN_USE") {
					t.Errorf("ended with %v", err)
				}
				break
			}
			if answered != 2 {
				t.Errorf("%d answers before the end, want 2", answered)
			}
		})
	}
}

func TestAnIDIsFreeOnceItsAnswerIsThere(t *testing.T) {
	t.Parallel()
	g := newGate()
	close(g.open)
	s := stream(t, g)
	for range 3 {
		if err := s.Send(holds(0, 5)); err != nil {
			t.Fatal(err)
		}
		for answered := 0; answered < 5; {
			resp, err := s.Recv()
			if err != nil {
				t.Fatal(err)
			}
			answered += len(resp.GetResults())
		}
	}
}

// broken is a lane that panics at the second message.
type broken struct {
	*gate
	once atomic.Bool
}

func (b *broken) StartAll(ctx context.Context, ops []ledger.Op, own func(int) context.Context) func(int) (ledger.Answer, error) {
	if b.once.Swap(true) {
		defer close(b.open)
		panic(fmt.Sprintf("%d ops too many", len(ops)))
	}
	return b.gate.StartAll(ctx, ops, own)
}

func TestAPanicWhileReadingEndsTheStreamAndAnswersWhatHadBegun(t *testing.T) {
	t.Parallel()
	s := stream(t, &broken{gate: newGate()})
	for _, req := range []*budgetv1.OperateRequest{holds(0, 2), holds(2, 2)} {
		if err := s.Send(req); err != nil {
			t.Fatal(err)
		}
	}
	answered := 0
	for {
		resp, err := s.Recv()
		answered += len(resp.GetResults())
		if err == nil {
			continue
		}
		if fault.Is(err, fault.Invalid) || fault.Is(err, fault.Down) {
			t.Errorf("ended with %v", err)
		}
		break
	}
	if answered != 2 {
		t.Errorf("%d answers before the end, want 2", answered)
	}
}
