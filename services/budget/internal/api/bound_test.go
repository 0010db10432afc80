package api_test

import (
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"google.golang.org/protobuf/proto"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	budgetv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/budget/v1"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/api"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/ledger"
)

// However fast a caller sends, and in messages of whatever size, no more than the
// bound is under way, also if they are done at once and he does not read: one
// message more waits here, the rest with the caller, and all is answered once.
func TestAStreamsCallerIsSlowedDown(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		size func(message int) int
		most int // that fit beside each other
		read int // messages that were taken from the caller
	}{
		"one operation in a message":    {func(int) int { return 1 }, api.MaxInFlight, api.MaxInFlight + 1},
		"a message that does not fit":   {func(n int) int { return []int{100, 100, 50, 100}[n%4] }, 250, 4},
		"a message that fits just so":   {func(n int) int { return []int{100, 100, 56, 100}[n%4] }, api.MaxInFlight, 4},
		"as many as a message may have": {func(int) int { return 100 }, 200, 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				const operations = 4 * api.MaxInFlight
				g := newGate()
				p := operate(t, g, blind{})
				var read atomic.Int64
				go func() {
					for n, sent := 0, 0; sent < operations; n++ {
						size := min(tt.size(n), operations-sent)
						p.in <- holds(sent, size)
						read.Add(1)
						sent += size
					}
					close(p.in)
				}()
				synctest.Wait()
				if n := g.inFlight.Load(); n != int64(tt.most) || read.Load() != int64(tt.read) {
					t.Errorf("%d under way of %d messages, want %d of %d", n, read.Load(), tt.most, tt.read)
				}
				close(g.open)
				synctest.Wait()
				if n := len(g.did()); n != tt.most || read.Load() != int64(tt.read) {
					t.Errorf("nobody reads: %d begun of %d messages, want %d of %d", n, read.Load(), tt.most, tt.read)
				}
				for id, a := range p.answers(operations) {
					if !a.GetReserve().GetGranted() {
						t.Errorf("%s: %v", id, a)
					}
				}
				if rest, err := p.rest(); len(rest) > 0 || err != nil {
					t.Errorf("after all was answered: %v, %v", rest, err)
				}
				for i, op := range g.did() {
					if op != strconv.Itoa(i) {
						t.Fatalf("operation %s was begun as number %d", op, i)
					}
				}
				if most := g.most.Load(); most > api.MaxInFlight {
					t.Errorf("%d under way at a time, want at most %d", most, api.MaxInFlight)
				}
			})
		})
	}
}

// Answers that are large do not add up to a message that cannot be sent, and one
// that is larger than others may be goes by itself.
func TestAMessageOfLargeAnswersIsOneThatAClientTakes(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ operations, bytes, messages int }{
		"many fit":           {100, 1 << 10, 2}, // the first that is there, and the others
		"some fit":           {100, 64 << 10, 8},
		"each is enough":     {5, 1 << 20, 5},
		"each is one beyond": {5, 2 << 20, 5},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				g := newGate()
				close(g.open)
				g.answers = func(string) ledger.Answer { return ledger.Answer{Message: strings.Repeat("x", tt.bytes)} }
				p := operate(t, g, blind{})
				p.in <- holds(0, tt.operations)
				close(p.in)
				answered, messages := 0, 0
				for {
					synctest.Wait() // all that is not sent is there
					resp, more := <-p.out
					if !more {
						break
					}
					messages++
					answered += len(resp.GetResults())
					if size := proto.Size(resp); size > 1<<20+tt.bytes+1000 {
						t.Errorf("a message of %d bytes", size)
					}
				}
				if err := <-p.ended; err != nil || answered != tt.operations || messages > tt.messages {
					t.Errorf("%d answers in %d messages, %v; want %d in at most %d", answered, messages, err, tt.operations, tt.messages)
				}
			})
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
			synctest.Test(t, func(t *testing.T) {
				g := newGate()
				p := operate(t, g, blind{})
				p.in <- holds(0, 2)
				p.in <- again
				synctest.Wait() // it is refused, and the first two are waited for
				close(g.open)
				answers, err := p.rest()
				if !fault.HasReason(err, "OPERATION_ID_IN_USE") {
					t.Errorf("ended with %v", err)
				}
				if len(answers) != 2 || len(g.did()) != 2 {
					t.Errorf("%v before the end, and %v begun, want the first two", answers, g.did())
				}
			})
		})
	}
}
