package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	"github.com/fulcrum-io/fulcrum/pkg/rpc"
	budgetv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/budget/v1"
)

// MaxInFlight is how many operations of one stream are under way at a time. The
// next message is not read until those of the last one have begun, and each of
// them begins when another is answered and its answer sent: a caller that sends
// too fast, or does not read, is slowed down by its own connection.
const MaxInFlight = 256

// mostResults is how many answers a message has, as many as one may ask for. It
// keeps a message far below the size that a client takes.
const mostResults = 100

const inFlightHeader = "fulcrum-max-in-flight"

// errStopping ends the streams of an instance that stops.
var errStopping = fault.New(fault.Down, "this instance is stopping; what it did not answer may be sent again").
	WithReason("STOPPING").WithRetry(100 * time.Millisecond)

type operations = grpc.BidiStreamingServer[budgetv1.OperateRequest, budgetv1.OperateResponse]

// Operate implements budgetv1.LedgerServiceServer. A stream is its caller's:
// all its operations are in the caller's tenant.
func (l *Ledger) Operate(stream operations) error {
	if _, err := identity.Tenant(stream.Context()); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel() // what is queued when the stream breaks is not wanted any more
	if err := stream.SendHeader(metadata.Pairs(inFlightHeader, strconv.Itoa(MaxInFlight))); err != nil {
		return err
	}
	o := &operating{
		l: l, ctx: ctx, stream: stream, slots: semaphore.NewWeighted(MaxInFlight),
		answers: make(chan *budgetv1.OperationResult, MaxInFlight), underWay: make(map[string]struct{}, MaxInFlight),
	}
	read := make(chan error, 1)
	go func() { read <- o.read() }()

	var ended error
	var idle <-chan struct{} // closed once nothing is under way; nil while more may come
	for draining := rpc.Draining(ctx); ; {
		select {
		case a := <-o.answers:
			if err := o.send(a); err != nil {
				return err
			}
		case err := <-read:
			if idle == nil {
				ended, idle = err, o.stop()
			}
		case <-draining:
			draining = nil
			if idle == nil {
				ended, idle = errStopping, o.stop()
			}
		case <-idle:
			for len(o.answers) > 0 {
				if err := o.send(<-o.answers); err != nil {
					return err
				}
			}
			return ended
		}
	}
}

// operating is one stream at work. One goroutine reads, one sends, and those of
// begin wait for the commits.
type operating struct {
	l       *Ledger
	ctx     context.Context // the stream's
	stream  operations
	slots   *semaphore.Weighted            // one for each operation that has begun and whose answer is not sent
	answers chan *budgetv1.OperationResult // has room for all that have a slot
	running sync.WaitGroup                 // operations that were read and have no answer yet

	mu       sync.Mutex          // guards the rest
	underWay map[string]struct{} // ids from the request to the sent answer
	stopped  bool                // nothing more is taken on
}

// read begins what it reads until the caller closes its side, which is no
// error, or the stream ends.
func (o *operating) read() (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("reading operations panicked: %v\n%s", p, debug.Stack())
		}
	}()
	for {
		req, err := o.stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := o.register(req.GetOperations()); err != nil {
			return err
		}
		if err := o.begin(req.GetOperations()); err != nil {
			return err
		}
	}
}

// register takes operations on, all or none: what is taken on is answered before
// the stream ends.
func (o *operating) register(ops []*budgetv1.Operation) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.stopped {
		return errStopping
	}
	for i, op := range ops {
		if _, taken := o.underWay[op.GetId()]; taken {
			return fault.Field(fmt.Sprintf("operations[%d].id", i), "%q is under way already", op.GetId()).WithReason("OPERATION_ID_IN_USE")
		}
		o.underWay[op.GetId()] = struct{}{}
	}
	o.running.Add(len(ops))
	return nil
}

// answer leaves an answer to the sender. It never waits.
func (o *operating) answer(id string, a *budgetv1.OperationResult) {
	a.Id = id
	o.answers <- a
	o.running.Done()
}

// send sends an answer, in one message with others that are there, and lets as
// many operations begin.
func (o *operating) send(first *budgetv1.OperationResult) error {
	// Whoever answers has the rest of a commit at hand and is about to go on.
	runtime.Gosched()
	results := make([]*budgetv1.OperationResult, 1, min(1+len(o.answers), mostResults))
	results[0] = first
	for len(results) < cap(results) {
		results = append(results, <-o.answers)
	}
	o.mu.Lock()
	for _, a := range results {
		delete(o.underWay, a.GetId())
	}
	o.mu.Unlock()
	err := o.stream.Send(&budgetv1.OperateResponse{Results: results})
	o.slots.Release(int64(len(results)))
	return err
}

// stop lets nothing more be taken on, and returns what is closed once all that
// was is answered.
func (o *operating) stop() <-chan struct{} {
	o.mu.Lock()
	o.stopped = true
	o.mu.Unlock()
	idle := make(chan struct{})
	go func() {
		o.running.Wait()
		close(idle)
	}()
	return idle
}
