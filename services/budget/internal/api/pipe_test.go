package api_test

import (
	"context"
	"io"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/fulcrum-io/fulcrum/pkg/identity"
	budgetv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/budget/v1"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/api"
)

// pipe is a stream without a network, so that a test in a bubble of synctest
// knows when all of it waits. Nothing is sent before it is read.
type pipe struct {
	grpc.ServerStream // what it does not have is not used
	t                 *testing.T
	ctx               context.Context
	in                chan *budgetv1.OperateRequest
	out               chan *budgetv1.OperateResponse
	ended             chan error
	came              []*budgetv1.OperationResult // with the last message, and not taken yet
}

// operate serves a pipe, until the test ends, from a ledger over this lane and
// nothing else.
func operate(t *testing.T, lane api.Lane, observer api.Observer) *pipe {
	t.Helper()
	p := &pipe{
		t: t, ctx: identity.With(t.Context(), identity.System(uuid.New())),
		in: make(chan *budgetv1.OperateRequest), out: make(chan *budgetv1.OperateResponse), ended: make(chan error, 1),
	}
	l := api.NewLedger(lane, nil, observer, slog.New(slog.DiscardHandler))
	go func() {
		err := l.Operate(p)
		close(p.out)
		p.ended <- err
	}()
	return p
}

func (p *pipe) Context() context.Context     { return p.ctx }
func (p *pipe) SendHeader(metadata.MD) error { return nil }

func (p *pipe) Recv() (*budgetv1.OperateRequest, error) {
	select {
	case req, more := <-p.in:
		if !more {
			return nil, io.EOF
		}
		return req, nil
	case <-p.ctx.Done():
		return nil, p.ctx.Err()
	}
}

func (p *pipe) Send(resp *budgetv1.OperateResponse) error {
	select {
	case p.out <- resp:
		return nil
	case <-p.ctx.Done():
		return p.ctx.Err()
	}
}

// next is the next answer.
func (p *pipe) next() *budgetv1.OperationResult {
	p.t.Helper()
	if len(p.came) == 0 {
		resp, more := <-p.out
		if !more {
			p.t.Fatal("the stream has ended")
		}
		if n := len(resp.GetResults()); n < 1 || n > 100 {
			p.t.Fatalf("%d results in a message", n)
		}
		p.came = resp.GetResults()
	}
	a := p.came[0]
	p.came = p.came[1:]
	return a
}

// answers are the next n answers, by their ids.
func (p *pipe) answers(n int) map[string]*budgetv1.OperationResult {
	p.t.Helper()
	got := make(map[string]*budgetv1.OperationResult)
	for range n {
		a := p.next()
		if got[a.GetId()] != nil {
			p.t.Errorf("%s is answered twice", a.GetId())
		}
		got[a.GetId()] = a
	}
	return got
}

// rest are the answers until the stream ends, and how it does.
func (p *pipe) rest() (answers []*budgetv1.OperationResult, err error) {
	answers, p.came = p.came, nil
	for resp := range p.out {
		answers = slices.Concat(answers, resp.GetResults())
	}
	return answers, <-p.ended
}

// failed checks that these and no others are answered next, with this code, and
// so long after begin.
func (p *pipe) failed(code codes.Code, begin time.Time, after time.Duration, ids ...string) {
	p.t.Helper()
	got := p.answers(len(ids))
	if took := time.Since(begin); took != after {
		p.t.Errorf("answered after %v, want %v", took, after)
	}
	for _, id := range ids {
		if f := got[id].GetFailure(); f == nil || codes.Code(f.GetCode()) != code {
			p.t.Errorf("%s: %v, want it to have failed with %v", id, got[id], code)
		}
	}
}

// granted checks that these and no others are answered until the stream ends.
func (p *pipe) granted(ids ...string) {
	p.t.Helper()
	answers, err := p.rest()
	if err != nil {
		p.t.Errorf("ended with %v", err)
	}
	var got []string
	for _, a := range answers {
		if a.GetReserve().GetGranted() {
			got = append(got, a.GetId())
		}
	}
	slices.Sort(ids)
	if slices.Sort(got); !slices.Equal(got, ids) || len(answers) != len(ids) {
		p.t.Errorf("granted %v of %d answers, want %v", got, len(answers), ids)
	}
}
