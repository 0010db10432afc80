package decision

import (
	"cmp"
	"context"
	"time"

	"github.com/fulcrum-io/fulcrum/pkg/identity"
	budgetv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/budget/v1"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"

	"github.com/fulcrum-io/fulcrum/services/gateway/internal/envelope"
)

// takeSlice holds the limits of a new envelope in those of its parent. That it
// may be held is written down first: whatever becomes of this call, the slice
// comes back unless the envelope was recorded and still lives.
func (p *Pipeline) takeSlice(ctx context.Context, who identity.Principal, env *envelope.Envelope, resp *governancev1.AuthorizeResponse, entry *Entry) error {
	if err := p.Store.ClaimSlice(ctx, who.Tenant, env.ID); err != nil {
		return err
	}
	limited, cancel := context.WithTimeout(ctx, cmp.Or(p.Limits.Reserve, 3*time.Second))
	defer cancel()
	taken, err := p.Ledger.TakeSlice(limited, &budgetv1.TakeSliceRequest{EnvelopeLimits: env.Limits})
	if err != nil || taken.GetGranted() {
		return err
	}
	env.Status, env.CompletedAt = envelope.BudgetExceeded, env.CreatedAt
	entry.Ask = nil // nothing is left to approve of
	resp.Decision, resp.RefusedBy = deny, taken.GetRefusedBy()
	resp.Reasons = append([]*governancev1.Reason{
		ownReason(cmp.Or(taken.GetReason(), "BUDGET_EXCEEDED"), "slice of the parent", "the parent has too little left for this slice: "+taken.GetMessage(), deny),
	}, resp.GetReasons()...)
	return nil
}
