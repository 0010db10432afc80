package api_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

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
	full     chan struct{} // closed when as many wait as ever may
	once     sync.Once
	inFlight atomic.Int64
	most     atomic.Int64
}

func (g *gate) Start(context.Context, ledger.Op) func() (ledger.Answer, error) {
	n := g.inFlight.Add(1)
	for m := g.most.Load(); n > m && !g.most.CompareAndSwap(m, n); m = g.most.Load() {
	}
	if n == api.MaxInFlight {
		g.once.Do(func() { close(g.full) })
	}
	return func() (ledger.Answer, error) {
		<-g.open
		g.inFlight.Add(-1)
		return ledger.Answer{Granted: true}, nil
	}
}

func (g *gate) Do(ctx context.Context, op ledger.Op) (ledger.Answer, error) {
	return g.Start(ctx, op)()
}

func (g *gate) DoAll(ctx context.Context, ops []ledger.Op) []groupcommit.Result[ledger.Answer] {
	return make([]groupcommit.Result[ledger.Answer], len(ops))
}

type blind struct{}

func (blind) Reserved(context.Context, ledger.Answer) {}
func (blind) Settled(context.Context, ledger.Answer)  {}

// However fast a caller sends, no more than the bound is under way; the rest
// waits with the caller, and all is answered in the end.
func TestAStreamsCallerIsSlowedDown(t *testing.T) {
	t.Parallel()
	const operations = 3 * api.MaxInFlight
	g := &gate{open: make(chan struct{}), full: make(chan struct{})}
	log := slog.New(slog.DiscardHandler)
	srv := rpc.NewServer(rpc.ServerOptions{Log: log})
	budgetv1.RegisterLedgerServiceServer(srv.GRPC(), api.NewLedger(g, nil, blind{}, log))
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
	stream, err := budgetv1.NewLedgerServiceClient(conn).Operate(identity.With(t.Context(), identity.System(uuid.New())))
	if err != nil {
		t.Fatal(err)
	}
	var sender errgroup.Group
	sender.Go(func() error {
		for i := range operations {
			err := stream.Send(&budgetv1.OperateRequest{Id: fmt.Sprint(i), Operation: &budgetv1.OperateRequest_Reserve{Reserve: &budgetv1.ReserveRequest{
				ReservationId: uuid.NewString(), Subject: &budgetv1.Subject{}, Amounts: &governancev1.Amounts{CostNano: 1},
			}}})
			if err != nil {
				return err
			}
		}
		return stream.CloseSend()
	})
	<-g.full
	close(g.open)
	seen := make(map[string]bool)
	for range operations {
		a, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if seen[a.GetId()] || !a.GetReserve().GetGranted() {
			t.Errorf("%v", a)
		}
		seen[a.GetId()] = true
	}
	if err := sender.Wait(); err != nil {
		t.Error(err)
	}
	if most := g.most.Load(); most != api.MaxInFlight {
		t.Errorf("%d under way at a time, want at most %d", most, api.MaxInFlight)
	}
}
