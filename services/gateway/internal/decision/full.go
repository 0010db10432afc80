package decision

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fulcrum-io/fulcrum/pkg/identity"
	"github.com/fulcrum-io/fulcrum/pkg/money"
	"github.com/fulcrum-io/fulcrum/pkg/quota"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	policyenginev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policyengine/v1"

	"github.com/fulcrum-io/fulcrum/services/gateway/internal/envelope"
)

// count reads the limits that matched rules set, or denies because of one that
// cannot be kept.
func (a *ask) count() {
	takes, problem := a.acting().takes(a.result.GetObligations())
	if problem != nil {
		a.deny("", "", "")
		a.resp.Reasons[0] = problem
		return
	}
	a.takes = takes
}

// acting is whom limits count.
func (a *ask) acting() *counted {
	return &counted{who: a.who, actor: a.actor, env: a.env, workflow: a.facts.GetWorkflowId(), tool: a.req.GetAction().GetName()}
}

// measure says how much the action takes, once it is known what it may cost. A
// place among what runs in parallel lives as long as a hold does.
func (a *ask) measure() {
	if len(a.takes) == 0 {
		return
	}
	cost, tokens := a.resp.GetHold().GetAmounts().GetCostNano(), int64(0)
	if worst, err := worstCase(a.req.GetAction(), a.req.GetEstimate()); err == nil {
		cost, tokens = max(cost, worst.GetCostNano()), worst.GetInputTokens()+worst.GetOutputTokens()
	}
	ttl := cmp.Or(a.req.GetHoldTtl().AsDuration(), defaultHold)
	for i := range a.takes {
		switch t := &a.takes[i]; {
		case t.Limit.Kind == quota.Parallel:
			t.Seconds = int64((ttl + time.Second - 1) / time.Second)
		case t.Limit.Of == quota.USD:
			t.Amount = cost
		case t.Limit.Of == quota.Tokens:
			t.Amount = tokens
		}
	}
}

// full makes a denial of limits that leave no room. Limits that only warn are
// taken all the same, with the next attempt to record.
func (a *ask) full(e *FullError) {
	var reasons []*governancev1.Reason
	var first *Full
	for i, f := range e.Full {
		t := &a.takes[f.Take]
		d := deny
		if t.Limit.Level == "WARN" {
			d, t.Forced = warn, true
		}
		reasons = append(reasons, namedBy(a.result, limitReason(t.Limit, "", fullText(t, f), d)))
		if d == deny && first == nil {
			first = &e.Full[i]
		}
		if d == deny && t.Limit.Level == "TERMINATE" && a.env != nil && !a.inline {
			a.moves = append(a.moves, envelope.Move{Envelope: a.env.ID, To: envelope.PolicyViolation, Reason: "denied: " + fullText(t, f)})
		}
	}
	a.resp.Reasons = append(reasons, a.resp.GetReasons()...)
	if first == nil {
		a.resp.Decision = warn
		a.resp.Message = message(a.resp)
		return
	}
	t := &a.takes[first.Take]
	a.resp.RefusedBy = refusedBy(t, *first, a.now)
	a.resp.Retryable, a.resp.RetryAfter = t.Limit.Kind != quota.After, nil
	switch {
	case t.Limit.Kind == quota.Parallel:
		a.resp.RetryAfter = durationpb.New(min(time.Second, cmp.Or(first.In, time.Second))) // any of them may end at any time
	case first.In > 0:
		a.resp.RetryAfter = durationpb.New(first.In)
	}
	a.resp.Decision, a.resp.Hold = deny, nil
	a.use, a.takes, a.claim.OpenEnvelope = nil, nil, uuid.Nil
	if a.inline {
		a.resp.EnvelopeId = ""
	}
	a.resp.Message = message(a.resp)
}

// tryLimits says in a dry run what limits would say now. Nothing is taken.
func (p *Pipeline) tryLimits(ctx context.Context, a *ask) error {
	if len(a.takes) == 0 {
		return nil
	}
	ids := make([]uuid.UUID, len(a.takes))
	for i, t := range a.takes {
		ids[i] = t.Counter
	}
	counts, err := p.Store.Counted(ctx, a.who.Tenant, ids)
	if err != nil {
		return err
	}
	full := new(FullError)
	for i := range a.takes {
		if t := &a.takes[i]; !t.Fits(counts[t.Counter]) {
			full.Full = append(full.Full, Full{Take: i, Taken: counts[t.Counter]})
		}
	}
	if len(full.Full) > 0 {
		a.full(full)
	}
	return nil
}

// namedBy completes a reason with what the policy's result says.
func namedBy(result *policyenginev1.EvaluateResponse, r *governancev1.Reason) *governancev1.Reason {
	for _, p := range result.GetResults() {
		if p.GetPolicyId() != r.GetPolicyId() {
			continue
		}
		r.PolicyName, r.Version = p.GetPolicyName(), p.GetVersion()
		for _, m := range p.GetMatchedRules() {
			if m.GetRuleId() == r.GetRuleId() {
				r.RuleName = m.GetRuleName()
			}
		}
	}
	return r
}

// fullText says which limit it is, how much is taken and when room comes.
func fullText(t *Take, f Full) string {
	l := t.Limit
	by := strings.Join(l.By, " and ")
	var text string
	switch l.Kind {
	case quota.After:
		text = fmt.Sprintf("never after %s in the same %s", l.Name, by)
	case quota.Parallel:
		text = fmt.Sprintf("at most %d in parallel by %s, and %d are", l.Max, by, f.Taken)
	default:
		text = fmt.Sprintf("at most %s per %s by %s, and %s are taken", amount(l.Of, l.Max), window(l), by, amount(l.Of, f.Taken))
		if t.Amount != 1 || l.Of != quota.Calls {
			text += ", " + amount(l.Of, t.Amount) + " asked for"
		}
	}
	if f.In > 0 {
		text += map[bool]string{true: ", room comes in ", false: ", some of it comes back in "}[l.Of == quota.Calls] + short((f.In + time.Second - 1).Truncate(time.Second))
		if l.Kind == quota.Parallel {
			text += " at the latest"
		}
	}
	if l.Message != "" {
		text = l.Message + " (" + text + ")"
	}
	return text
}

func amount(of quota.Unit, n int64) string {
	if of == quota.USD {
		return fmt.Sprintf("%g USD", money.Nano(n).USD())
	}
	return fmt.Sprintf("%d %s", n, of)
}

// refusedBy is a limit in the shape of a budget.
func refusedBy(t *Take, f Full, now time.Time) *governancev1.BudgetState {
	l := t.Limit
	s := &governancev1.BudgetState{
		Id: t.Counter.String(), Name: t.Label, Unit: string(l.Of), Limit: float64(l.Max), Spent: float64(f.Taken), Remaining: float64(max(l.Max-f.Taken, 0)),
		Requested: float64(t.Amount), Status: "EXCEEDED", Period: "CUSTOM",
	}
	switch {
	case l.Of == quota.USD:
		s.Unit, s.Limit, s.Spent, s.Requested = "cost_usd", money.Nano(l.Max).USD(), money.Nano(f.Taken).USD(), money.Nano(t.Amount).USD()
		s.Remaining = money.Nano(max(l.Max-f.Taken, 0)).USD()
	case l.Of == quota.Tokens:
		s.Unit = "total_tokens"
	case l.Kind == quota.Parallel:
		s.Unit, s.Held, s.Spent = "parallel", s.Spent, 0
	case l.Kind == quota.After:
		s.Unit, s.Requested = "marks", 0
	}
	if l.Calendar != "" {
		s.Period = map[string]string{"hour": "HOURLY", "day": "DAILY", "week": "WEEKLY", "month": "MONTHLY", "year": "YEARLY"}[l.Calendar]
	}
	if f.In > 0 {
		s.ResetsAt = timestamppb.New(now.Add(f.In))
	}
	return s
}

// parallel reports whether a decision took a place among what runs in parallel.
func parallel(obligations []*governancev1.Obligation) bool {
	for _, o := range obligations {
		if o.GetType() == quota.Obligation && o.GetParameters()["parallel"] != "" {
			return true
		}
	}
	return false
}

// countedOf is who a recorded action was of.
func countedOf(who identity.Principal, d Record) *counted {
	f := d.Facts
	c := &counted{who: who, actor: actor{agentID: f.GetAgentId(), team: f.GetAgentTeam(), userID: f.GetUserId()}, workflow: f.GetWorkflowId(), tool: f.GetAction().GetName()}
	c.who.KeyID = d.KeyID
	if d.Envelope != uuid.Nil {
		c.env = &envelope.Envelope{ID: d.Envelope, Root: d.Root}
	}
	return c
}

// remember sets the marks that rules about an output ask for. What an output
// shows has happened, so it is marked whatever the decision; windows and places
// are taken before an action, never after it.
func remember(c *counted, result *policyenginev1.EvaluateResponse, entry *Entry) *policyenginev1.EvaluateResponse {
	takes, problem := c.takes(result.GetObligations())
	if problem != nil {
		result = proto.CloneOf(result)
		result.Decision = deny
		result.Reasons = append([]*governancev1.Reason{problem}, result.GetReasons()...)
	}
	for _, t := range takes {
		if t.Limit.Kind == quota.Remember {
			entry.Takes = append(entry.Takes, t)
		}
	}
	return result
}
