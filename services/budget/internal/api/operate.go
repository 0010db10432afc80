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

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	"github.com/fulcrum-io/fulcrum/pkg/rpc"
	budgetv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/budget/v1"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/ledger"
)

// MaxInFlight is how many operations of one stream are under way at a time. The
// next is not read until one is answered and its answer sent, so a caller that
// sends too fast, or does not read, is slowed down by its own connection.
const MaxInFlight = 256

const (
	inFlightHeader   = "fulcrum-max-in-flight"
	operationTimeout = 10 * time.Second
)

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
		l: l, ctx: ctx, stream: stream, slots: make(chan struct{}, MaxInFlight),
		answers: make(chan *budgetv1.OperateResponse, MaxInFlight), underWay: make(map[string]struct{}, MaxInFlight),
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

// operating is one stream at work. One goroutine reads, one sends, and each
// operation waits for its commit in one of its own.
type operating struct {
	l       *Ledger
	ctx     context.Context // the stream's
	stream  operations
	slots   chan struct{}                  // one for each operation under way
	answers chan *budgetv1.OperateResponse // has room for all that are under way
	running sync.WaitGroup                 // operations without an answer yet

	mu       sync.Mutex          // guards the rest
	underWay map[string]struct{} // ids from the request to the sent answer
	stopped  bool                // nothing more begins
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
		select {
		case o.slots <- struct{}{}:
		case <-o.ctx.Done():
			return o.ctx.Err()
		}
		req, err := o.stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := o.begin(req); err != nil {
			return err
		}
	}
}

// begin queues an operation behind those begun before, and leaves it to wait
// for its answer.
func (o *operating) begin(req *budgetv1.OperateRequest) error {
	if err := o.register(req.GetId()); err != nil {
		return err
	}
	timeout := operationTimeout
	if req.GetTimeout() != nil {
		timeout = req.GetTimeout().AsDuration()
	}
	ctx, cancel := context.WithTimeout(o.ctx, timeout)
	answer := o.l.operation(ctx, req)
	go func() {
		defer o.running.Done()
		defer cancel()
		a := answer()
		a.Id = req.GetId()
		o.answers <- a
	}()
	return nil
}

func (o *operating) register(id string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.stopped {
		return errStopping
	}
	if _, taken := o.underWay[id]; taken {
		return fault.Field("id", "%q is under way already", id).WithReason("OPERATION_ID_IN_USE")
	}
	o.underWay[id] = struct{}{}
	o.running.Add(1)
	return nil
}

// send answers an operation and lets the next one be read.
func (o *operating) send(a *budgetv1.OperateResponse) error {
	o.mu.Lock()
	delete(o.underWay, a.GetId())
	o.mu.Unlock()
	err := o.stream.Send(a)
	<-o.slots
	return err
}

// stop lets nothing more begin, and returns what is closed once all that had
// begun is answered.
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

// operation queues one operation at once and returns what waits for its answer.
func (l *Ledger) operation(ctx context.Context, req *budgetv1.OperateRequest) (answer func() *budgetv1.OperateResponse) {
	switch op := req.GetOperation().(type) {
	case *budgetv1.OperateRequest_Reserve:
		r, err := checked(ctx, op.Reserve, reserveOf)
		if err == nil && op.Reserve.GetDryRun() {
			return func() *budgetv1.OperateResponse {
				resp, err := l.Reserve(ctx, op.Reserve)
				return l.operated(ctx, &budgetv1.OperateResponse{Result: &budgetv1.OperateResponse_Reserve{Reserve: resp}}, err)
			}
		}
		return l.queued(ctx, r, err, func(a ledger.Answer) *budgetv1.OperateResponse {
			l.observer.Reserved(ctx, a)
			return &budgetv1.OperateResponse{Result: &budgetv1.OperateResponse_Reserve{Reserve: reserved(r.Ref, a)}}
		})
	case *budgetv1.OperateRequest_Settle:
		s, err := checked(ctx, op.Settle, settleOf)
		return l.queued(ctx, s, err, func(a ledger.Answer) *budgetv1.OperateResponse {
			l.observer.Settled(ctx, a)
			return &budgetv1.OperateResponse{Result: &budgetv1.OperateResponse_Settle{Settle: settled(a)}}
		})
	case *budgetv1.OperateRequest_Release:
		r, err := checked(ctx, op.Release, releaseOf)
		return l.queued(ctx, r, err, func(a ledger.Answer) *budgetv1.OperateResponse {
			return &budgetv1.OperateResponse{Result: &budgetv1.OperateResponse_Release{Release: released(a)}}
		})
	case *budgetv1.OperateRequest_Renew:
		r, err := checked(ctx, op.Renew, renewOf)
		return l.queued(ctx, r, err, func(a ledger.Answer) *budgetv1.OperateResponse {
			return &budgetv1.OperateResponse{Result: &budgetv1.OperateResponse_Renew{Renew: renewed(a)}}
		})
	}
	return l.queued(ctx, nil, fault.Field("operation", "is required"), nil)
}

// queued puts op into the lane, unless err says what is wrong with it.
func (l *Ledger) queued(ctx context.Context, op ledger.Op, err error, show func(ledger.Answer) *budgetv1.OperateResponse) func() *budgetv1.OperateResponse {
	if err != nil {
		return func() *budgetv1.OperateResponse { return l.operated(ctx, nil, err) }
	}
	wait := l.lane.Start(ctx, op)
	return func() *budgetv1.OperateResponse {
		a, err := wait()
		if err != nil {
			return l.operated(ctx, nil, err)
		}
		return show(a)
	}
}

// operated is resp, or the failure in its place.
func (l *Ledger) operated(ctx context.Context, resp *budgetv1.OperateResponse, err error) *budgetv1.OperateResponse {
	if err == nil {
		return resp
	}
	return &budgetv1.OperateResponse{Result: &budgetv1.OperateResponse_Failure{
		Failure: l.failure(ctx, budgetv1.LedgerService_Operate_FullMethodName, err),
	}}
}
