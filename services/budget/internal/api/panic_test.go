package api_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	budgetv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/budget/v1"
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
