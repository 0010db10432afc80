package chaos

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	costv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/cost/v1"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"

	"github.com/fulcrum-io/fulcrum/test/internal/running"
)

const (
	callers    = 64
	tightRoom  = 40               // tool calls that fit into a tight budget
	estimated  = 0.002            // USD that an action may cost
	used       = 0.001            // USD that it does cost
	usedNano   = int64(1_000_000) // the same
	forbidden  = "drop_table"     // the tool that policy denies
	callLimit  = 15 * time.Second // for one call
	afterError = 20 * time.Millisecond
)

// action is one thing that a caller wanted to do, and what it knows of it. It
// belongs to one goroutine at a time.
type action struct {
	ask     *governancev1.AuthorizeRequest
	answer  *governancev1.AuthorizeResponse // nil: nothing was heard
	settle  *governancev1.SettleRequest     // nil: not tried
	settled *governancev1.SettleResponse    // nil: nothing was heard
}

// mayAct reports whether the caller was told to go on with a thing that it will
// settle. What is asked of a tight budget is never settled: it stays held.
func (a *action) mayAct() bool {
	return a.answer.GetDecision() == governancev1.Decision_DECISION_ALLOW && a.ask.GetEstimate().GetCostUsd() > 0
}

// crowd is many callers of one agent, and everything they know.
type crowd struct {
	tenant *running.Tenant
	client *running.Client
	budget *costv1.Budget // over everything
	tight  []*costv1.Budget

	mu      sync.Mutex // guards what follows
	actions []*action
	acked   int
	failed  map[codes.Code]int
	such    map[codes.Code]error // the newest failure of each kind
	changed chan struct{}        // closed and replaced with every change
}

// newCrowd makes a tenant with a budget over everything, a tool that is
// forbidden and an agent, who is all the callers.
func newCrowd(t *testing.T, s *running.Stack) *crowd {
	t.Helper()
	tn := s.Tenant(t, "crowd")
	tn.Deny(t, forbidden)
	return &crowd{
		tenant: tn, client: tn.Agent(t, "bot"), failed: map[codes.Code]int{}, such: map[codes.Code]error{}, changed: make(chan struct{}),
		budget: tn.Budget(t, &costv1.Budget{Name: "all", Limits: &costv1.BudgetLimits{MaxCostUsd: 100_000, MaxToolCalls: 900_000}}),
	}
}

// tighten makes a budget that the callers will try to overspend.
func (c *crowd) tighten(t *testing.T) {
	t.Helper()
	workflow := fmt.Sprintf("tight %d", len(c.tight))
	c.tight = append(c.tight, c.tenant.Budget(t, &costv1.Budget{Name: workflow, Limits: &costv1.BudgetLimits{MaxToolCalls: tightRoom},
		Scope: &costv1.BudgetScope{WorkflowId: workflow}}))
}

// run lets the callers call until stop is called, which returns when the last
// call has ended.
func (c *crowd) run(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var all sync.WaitGroup
	for i := range callers {
		all.Go(func() {
			envelope := ""
			for n := 0; ctx.Err() == nil; n++ {
				a := c.want(i, n, envelope)
				if err := c.act(ctx, a); err != nil {
					rest(ctx) // a caller that hears an error does not ask again at once
				}
				envelope = a.answer.GetEnvelopeId()
			}
		})
	}
	return func() {
		cancel()
		all.Wait()
	}
}

// want is what a caller wants to do next: most work and settle, some go for a
// tight budget, some for what is forbidden. Every other action opens an
// envelope, which the one after it acts in.
func (c *crowd) want(caller, n int, envelope string) *action {
	a := &action{ask: running.Inline("work", running.Tool("search"))}
	if n%2 == 1 && envelope != "" {
		a.ask = running.In(envelope, running.Tool("search"))
	}
	switch {
	case caller%4 == 0 && len(c.tight) > 0:
		a.ask = running.Inline(fmt.Sprintf("tight %d", len(c.tight)-1), running.Tool("search"))
		a.ask.Estimate = &governancev1.Estimate{ToolCalls: 1}
	case n%8 == 7:
		a.ask.Action.Name = forbidden
	default:
		a.ask.Estimate = &governancev1.Estimate{CostUsd: estimated, ToolCalls: 1}
	}
	return c.add(a)
}

// add counts an action among those that are accounted for.
func (c *crowd) add(a *action) *action {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.actions = append(c.actions, a)
	return a
}

// act asks, and settles if it may act.
func (c *crowd) act(ctx context.Context, a *action) error {
	if a.answer == nil {
		resp, err := call(ctx, c.client.Governance.Authorize, a.ask)
		c.note(err)
		if err != nil {
			return err
		}
		a.answer = resp
	}
	if !a.mayAct() || a.settled != nil {
		return nil
	}
	if a.settle == nil {
		a.settle = &governancev1.SettleRequest{DecisionId: a.answer.GetDecisionId(), Outcome: governancev1.Outcome_OUTCOME_SUCCESS,
			Usage: &governancev1.Usage{CostUsd: proto.Float64(used), ToolCalls: 1}, IdempotencyKey: running.NewKey()}
	}
	resp, err := call(ctx, c.client.Governance.Settle, a.settle)
	c.note(err)
	if err != nil {
		return err
	}
	a.settled = resp
	return nil
}

// finish repeats every call that nothing was heard of, under the same keys,
// until each is answered.
func (c *crowd) finish(t *testing.T) {
	t.Helper()
	var all sync.WaitGroup
	next := make(chan *action)
	for range callers {
		all.Go(func() {
			for a := range next {
				if err := running.Await(t.Context(), 30*time.Second, func(ctx context.Context) error { return c.act(ctx, a) }); err != nil {
					t.Errorf("repeat %v: %v", a.ask.GetIdempotencyKey(), err)
				}
			}
		})
	}
	for _, a := range c.actions {
		next <- a
	}
	close(next)
	all.Wait()
}

func call[Q, A any](ctx context.Context, do func(context.Context, Q, ...grpc.CallOption) (A, error), req Q) (A, error) {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	return do(ctx, req)
}

// rest waits a moment, or for the end.
func rest(ctx context.Context) {
	pause := time.NewTimer(afterError)
	defer pause.Stop()
	select {
	case <-ctx.Done():
	case <-pause.C:
	}
}
