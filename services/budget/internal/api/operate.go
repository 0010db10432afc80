package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	"github.com/fulcrum-io/fulcrum/pkg/rpc"
	budgetv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/budget/v1"
)

// MaxInFlight is how many operations of one stream are under way at a time. The
// next message waits until there is room for all of its operations, which comes
// as others are answered and the answers sent; the one after it is not read: a
// caller that sends too fast, or does not read, is slowed down by its own connection.
const MaxInFlight = 256

const inFlightHeader = "fulcrum-max-in-flight"

// errStopping ends the streams of an instance that stops.
var errStopping = fault.New(fault.Down, "this instance is stopping; what it did not answer may be sent again").
	WithReason("STOPPING").WithRetry(100 * time.Millisecond)

type operations = grpc.BidiStreamingServer[budgetv1.OperateRequest, budgetv1.OperateResponse]

// Operate implements budgetv1.LedgerServiceServer. A stream is its caller's:
// all its operations are in the caller's tenant.
func (l *Ledger) Operate(stream operations) error {
	tenant, err := identity.Tenant(stream.Context())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel() // what is queued when the stream breaks is not wanted any more
	if err := stream.SendHeader(metadata.Pairs(inFlightHeader, strconv.Itoa(MaxInFlight))); err != nil {
		return err
	}
	o := &operating{
		l: l, ctx: ctx, tenant: tenant, stream: stream, slots: semaphore.NewWeighted(MaxInFlight),
		answers: make(chan *budgetv1.OperationResult, MaxInFlight), refused: make(chan []*budgetv1.OperationResult),
		underWay: make(map[string]struct{}, MaxInFlight),
	}
	read := make(chan error, 1)
	go func() { read <- o.read() }()

	var ended error
	var idle <-chan struct{} // closed once nothing is under way; nil while more may come
	for draining := rpc.Draining(ctx); ; {
		select {
		case a := <-o.answers:
			if err := o.sendWith(a); err != nil {
				return err
			}
		case results := <-o.refused:
			if err := o.send(results); err != nil {
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
				if err := o.sendWith(<-o.answers); err != nil {
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
	tenant  uuid.UUID
	stream  operations
	slots   *semaphore.Weighted              // one for each operation that has begun and whose answer is not sent
	answers chan *budgetv1.OperationResult   // has room for all that have a slot
	refused chan []*budgetv1.OperationResult // answers to those that got none, handed to the sender
	running sync.WaitGroup                   // operations that were read and have no answer yet
	unbegun int                              // those of them that wait for a slot; the reader's alone

	mu       sync.Mutex          // guards the rest
	underWay map[string]struct{} // ids from the request to the sent answer
	stopped  bool                // nothing more is taken on
}

// read begins what it reads until the caller closes its side, which is no
// error, or the stream ends. Time counts from here: what waits for a slot waits
// at the expense of its own.
func (o *operating) read() (err error) {
	defer func() {
		o.running.Add(-o.unbegun) // nobody waits for what does not begin
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
		arrived := time.Now()
		if err := o.register(req.GetOperations()); err != nil {
			return err
		}
		if err := o.begin(req.GetOperations(), arrived); err != nil {
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
	o.unbegun = len(ops)
	return nil
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
