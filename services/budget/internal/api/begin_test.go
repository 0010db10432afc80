package api_test

import (
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	budgetv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/budget/v1"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/api"
)

// numbers are the ids of n holds.
func numbers(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = strconv.Itoa(i)
	}
	return out
}

// hurried gives those operations of a message so much time.
func hurried(req *budgetv1.OperateRequest, timeout time.Duration, at ...int) *budgetv1.OperateRequest {
	for _, i := range at {
		req.GetOperations()[i].Timeout = durationpb.New(timeout)
	}
	return req
}

// full is a pipe with as many operations under way as may be.
func full(t *testing.T, g *gate) *pipe {
	p := operate(t, g, blind{})
	p.in <- holds(0, 100)
	p.in <- holds(100, 100)
	p.in <- holds(200, api.MaxInFlight-200)
	synctest.Wait()
	if n := len(g.did()); n != api.MaxInFlight {
		t.Fatalf("%d have begun", n)
	}
	return p
}

// Time counts from the message: who gave up while others had all the slots is
// told when his time passes, and nothing of his is done.
func TestAnOperationWhoseTimePassesBeforeItHasASlotIsNotDone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		p := full(t, g)
		begin := time.Now()
		behind := holds(1000, 5)
		hurried(behind, 200*time.Millisecond, 1)
		hurried(behind, 100*time.Millisecond, 0, 3)
		p.in <- behind
		p.failed(codes.DeadlineExceeded, begin, 100*time.Millisecond, "1000", "1003")
		p.failed(codes.DeadlineExceeded, begin, 200*time.Millisecond, "1001")
		close(p.in)
		close(g.open)
		p.granted(append(numbers(api.MaxInFlight), "1002", "1004")...)
		if did, want := g.did()[api.MaxInFlight:], []string{"1002", "1004"}; !slices.Equal(did, want) {
			t.Errorf("%v were done, want %v", did, want)
		}
	})
}

// Also if a whole message is too late, and those that name no time.
func TestAMessageWhoseTimePassesWhileItWaitsLeavesTheStreamToTheNext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		p := operate(t, g, blind{})
		for first := 0; first < api.MaxInFlight; first += 64 { // it waits for longer than those behind
			req := holds(first, 64)
			for i := range req.GetOperations() {
				hurried(req, time.Minute, i)
			}
			p.in <- req
		}
		begin := time.Now()
		p.in <- holds(1000, 2)
		p.failed(codes.DeadlineExceeded, begin, 10*time.Second, "1000", "1001")
		p.in <- holds(2000, 1)
		close(p.in)
		close(g.open)
		p.granted(append(numbers(api.MaxInFlight), "2000")...)
	})
}

// What an operation waited for a slot is missing when it waits for its commit.
func TestTheTimeAnOperationWaitsForASlotIsItsOwn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		p := operate(t, g, blind{})
		begin := time.Now()
		p.in <- holds(0, 100)
		p.in <- holds(100, 100)
		p.in <- hurried(holds(200, api.MaxInFlight-200), 60*time.Millisecond, 0)
		p.in <- hurried(holds(1000, 1), 100*time.Millisecond, 0)
		p.failed(codes.DeadlineExceeded, begin, 60*time.Millisecond, "200")
		synctest.Wait()
		if did := g.did(); did[len(did)-1] != "1000" {
			t.Errorf("%s began last, want what got the slot", did[len(did)-1])
		}
		p.failed(codes.DeadlineExceeded, begin, 100*time.Millisecond, "1000")
		close(p.in)
		close(g.open)
		p.granted(slices.DeleteFunc(numbers(api.MaxInFlight), func(id string) bool { return id == "200" })...)
	})
}

// A configuration that takes long to load keeps no one beyond his time, and the
// order of the others.
func TestAnOperationIsToldItsTimePassedWhileTheConfigurationLoads(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		g.loads = time.Second
		close(g.open)
		p := operate(t, g, blind{})
		begin := time.Now()
		p.in <- hurried(holds(0, 3), 100*time.Millisecond, 1)
		go func() {
			p.in <- holds(3, 2)
			close(p.in)
		}()
		p.failed(codes.DeadlineExceeded, begin, 100*time.Millisecond, "1")
		p.granted("0", "2", "3", "4")
		if did, want := g.did(), []string{"0", "2", "3", "4"}; !slices.Equal(did, want) {
			t.Errorf("%v were done, want %v", did, want)
		}
	})
}

func TestAConfigurationThatCannotBeHadFailsWhatWaitsForIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		g.loads, g.fails = time.Second, fault.New(fault.Down, "away")
		p := operate(t, g, blind{})
		begin := time.Now()
		p.in <- hurried(holds(0, 3), 2*time.Second, 1)
		p.failed(codes.Unavailable, begin, time.Second, "0", "1", "2")
		close(p.in)
		p.granted()
		if did := g.did(); len(did) > 0 {
			t.Errorf("%v were done", did)
		}
	})
}

// One that is not queued does not wait for its neighbours' commit to say so, nor
// keep its slot until then.
func TestAnOperationThatIsRefusedIsToldAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		g.refuses = func(op string) error {
			if len(op) == 2 && op >= "60" {
				return fault.New(fault.Exhausted, "full").WithReason("OVERLOADED")
			}
			return nil
		}
		p := operate(t, g, blind{})
		begin := time.Now()
		p.in <- hurried(holds(0, 100), time.Second, 70)
		p.failed(codes.ResourceExhausted, begin, 0, numbers(100)[60:]...)
		p.in <- holds(100, 100)
		p.in <- holds(200, 96) // fit beside the 60 only
		synctest.Wait()
		if n := g.inFlight.Load(); n != api.MaxInFlight {
			t.Errorf("%d under way, want the refused ones' slots to be taken", n)
		}
		close(p.in)
		close(g.open)
		p.granted(slices.Delete(numbers(api.MaxInFlight+40), 60, 100)...)
	})
}
