package decision

import (
	"cmp"
	"context"
	"log/slog"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	budgetv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/budget/v1"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
)

// hold sets aside what the action may cost, or turns the decision into a denial.
func (p *Pipeline) hold(ctx context.Context, a *ask) error {
	amounts, err := worstCase(a.req.GetAction(), a.req.GetEstimate())
	if err != nil {
		return err
	}
	if nothing(amounts) {
		return nil
	}
	req := &budgetv1.ReserveRequest{
		ReservationId: a.reservation.String(),
		Subject:       subject(a.actor, a.who.KeyID, modelOf(a.req.GetAction()), a.facts.GetWorkflowId(), a.env),
		Amounts:       amounts,
		Ttl:           a.req.GetHoldTtl(),
		DryRun:        a.req.GetDryRun(),
	}
	if req.Ttl == nil {
		req.Ttl = durationpb.New(defaultHold)
	}
	if a.env != nil {
		req.EnvelopeLimits, req.BudgetId = a.env.Limits, a.env.BudgetID
	}
	begin := time.Now()
	limited, cancel := context.WithTimeout(ctx, cmp.Or(p.Limits.Reserve, 3*time.Second))
	defer cancel()
	a.held = !req.GetDryRun() // from here on nobody but the ledger can tell
	held, err := p.Ledger.Reserve(limited, req)
	a.latency.ReserveUs = time.Since(begin).Microseconds()
	switch {
	case err == nil:
		a.weighHold(held)
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case fault.Is(err, fault.Invalid):
		return err
	case fault.Is(err, fault.NotFound) && a.inline:
		return err // the budget that the caller named
	case fault.Is(err, fault.NotFound):
		a.held = false
		a.deny("BUDGET_NOT_FOUND", "budget", "the envelope's budget does not exist any more")
		return nil
	case fault.Is(err, fault.Conflict), fault.Is(err, fault.Precondition), fault.Is(err, fault.Exists):
		// An attempt of long ago left a hold that is closed by now.
		return p.startOver(ctx, a, err)
	}
	p.Log.LogAttrs(ctx, slog.LevelWarn, "budgets could not be asked", slog.String("tenant_id", a.who.Tenant.String()), slog.Any("err", err))
	a.resp.Degraded = true
	if p.modes(ctx, a.who.Tenant).BudgetOpen {
		a.resp.Reasons = append(a.resp.Reasons, ownReason("BUDGET_UNAVAILABLE", "failure mode",
			"the budgets could not be asked, and this tenant's failure mode is to go on", a.resp.GetDecision()))
		return nil
	}
	a.deny("BUDGET_UNAVAILABLE", "failure mode", "the budgets could not be asked, and this tenant's failure mode is to deny")
	return nil
}

// weighHold takes over what the ledger answered.
func (a *ask) weighHold(held *budgetv1.ReserveResponse) {
	r := a.resp
	r.PriceVersion, r.RetryAfter = held.GetPriceVersion(), held.GetRetryAfter()
	if held.GetGranted() {
		r.Hold = held.GetHold()
		a.held = r.GetHold() != nil && !a.req.GetDryRun()
		for _, b := range held.GetWarnings() {
			r.Reasons = append(r.Reasons, ownReason("BUDGET_OVER_SOFT_LIMIT", "budget", "the budget "+b.GetName()+" is over its soft limit", warn))
			r.Decision = warn
		}
		return
	}
	a.held = false
	r.RefusedBy, r.Suggested, r.Retryable = held.GetRefusedBy(), held.GetSuggested(), held.GetRetryable()
	a.deny(cmp.Or(held.GetReason(), "BUDGET_EXCEEDED"), "budget", held.GetMessage())
}

// deny turns the decision into a denial for a reason of ours.
func (a *ask) deny(code, name, text string) {
	a.resp.Decision, a.resp.Hold = deny, nil
	a.resp.Reasons = append([]*governancev1.Reason{ownReason(code, name, text, deny)}, a.resp.GetReasons()...)
	a.use, a.takes = nil, nil // nothing is used up by a denial
}
