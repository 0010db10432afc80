package api_test

import (
	"context"
	"log/slog"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	"github.com/fulcrum-io/fulcrum/pkg/rpc"
	budgetv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/budget/v1"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/api"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/ledger"
)

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
				BudgetId: strconv.Itoa(first + i), // by which a gate knows it
			}},
		})
	}
	return req
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
