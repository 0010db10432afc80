package demo

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
)

const crowdCallers = 200

// showCrowd lets 200 callers ask at once for a budget with room for 50.
func (w *world) showCrowd(ctx context.Context, r *report) {
	r.try(fmt.Sprintf("%d concurrent calls, room for %d", crowdCallers, crowdRoom), func() (string, error) {
		bot, err := dial(w.target.GRPCAddr, w.acme.agentKey)
		if err != nil {
			return "", err
		}
		defer bot.close()

		var allowed, refused atomic.Int64
		var first atomic.Value
		var crowd sync.WaitGroup
		gate := make(chan struct{})
		for range crowdCallers {
			crowd.Go(func() {
				<-gate
				resp, err := bot.governance.Authorize(ctx, &governancev1.AuthorizeRequest{
					Envelope: inline(crowdWorkflow), Action: tool("lookup", nil), IdempotencyKey: newKey(),
					Estimate: &governancev1.Estimate{ToolCalls: 1}})
				switch {
				case err != nil:
					first.CompareAndSwap(nil, err.Error())
				case resp.GetDecision() == governancev1.Decision_DECISION_ALLOW:
					allowed.Add(1)
				case resp.GetRefusedBy().GetName() == "crowd":
					refused.Add(1)
				}
			})
		}
		close(gate)
		crowd.Wait()
		if allowed.Load() != crowdRoom || refused.Load() != crowdCallers-crowdRoom {
			return "", fmt.Errorf("%d passed and %d were refused (first error: %v)", allowed.Load(), refused.Load(), first.Load())
		}
		return fmt.Sprintf("exactly %d passed, %d refused", allowed.Load(), refused.Load()), nil
	})
}
