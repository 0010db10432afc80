package api_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	budgetv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/budget/v1"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/api"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/ledger"
)

// broken is a lane that panics at the second message.
type broken struct {
	*gate
	once atomic.Bool
}

func (b *broken) StartAll(ctx context.Context, ops []ledger.Op, own func(int) context.Context) (func(int) (ledger.Answer, error), func(int) error) {
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

// nervous panics when it is told of an answer.
type nervous struct{ blind }

func (nervous) Reserved(_ context.Context, a ledger.Answer) {
	if a.Message == "boo" {
		panic("boo")
	}
}

// A panic where an operation is waited for is that operation's failure, and all
// slots come back.
func TestAPanicWhileAnOperationIsAnsweredIsItsOwnFailure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		close(g.open)
		g.answers = func(op string) ledger.Answer {
			switch op {
			case "1", "2":
				panic("no answer to " + op)
			case "3", "4":
				return ledger.Answer{Message: "boo"}
			}
			return ledger.Answer{Granted: true}
		}
		p := operate(t, g, nervous{})
		for range api.MaxInFlight / 5 { // a slot lost by each would be all of them
			req := hurried(holds(0, 100), time.Second, 2, 4)
			req.GetOperations()[5].GetReserve().DryRun = true // there is no reader to ask
			p.in <- req
			got := p.answers(100)
			for id, a := range got {
				f := a.GetFailure()
				if bad := len(id) == 1 && id >= "1" && id <= "5"; bad != (codes.Code(f.GetCode()) == codes.Internal) || bad == a.GetReserve().GetGranted() {
					t.Errorf("%s: %v", id, a)
				}
				if f.GetMessage() != "" && f.GetMessage() != "internal error" {
					t.Errorf("%s tells %q", id, f.GetMessage())
				}
			}
		}
		close(p.in)
		p.granted()
	})
}
