package ledger

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/amount"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/catalog"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/price"
)

// Reasons of a refusal.
const (
	ReasonExceeded  = "BUDGET_EXCEEDED"
	ReasonSuspended = "BUDGET_SUSPENDED"
	ReasonThrottled = "BUDGET_THROTTLED"
	ReasonUnpriced  = "PRICE_UNKNOWN"
	ReasonEnded     = "ENVELOPE_ENDED"

	ReasonWalletExhausted = "WALLET_EXHAUSTED"
	ReasonWalletFrozen    = "WALLET_FROZEN"
)

// Reserve holds Amounts in every budget in scope, all or none. With no cost
// but a model and tokens, the worst cost by the price list is held.
type Reserve struct {
	Ref
	Subject   catalog.Subject
	Amounts   amount.Amounts
	TTL       time.Duration
	BudgetID  string // one more budget, named by the caller
	Envelopes []catalog.EnvelopeLimits

	hash [32]byte
	plan reservePlan
}

// reservePlan is what Prepare found out.
type reservePlan struct {
	draws        []Draw
	behind       []catalog.Behind
	amounts      amount.Amounts
	priceVersion string
	unpriced     bool
	err          error
}

// Of implements Op.
func (r *Reserve) Of() Ref { return r.Ref }

// Seal fixes the request: from then on its hash stands for its content. Limits
// of envelopes are configuration and not part of it.
func (r *Reserve) Seal() *Reserve {
	var h hasher
	h.subject(r.Subject)
	h.amounts(r.Amounts)
	h.int(int64(r.TTL))
	h.text(r.BudgetID)
	r.hash = h.sum("reserve")
	return r
}

// Prepare implements Op.
func (r *Reserve) Prepare(b *Books) []Draw {
	cat := b.Catalogs[r.Tenant]
	r.plan = reservePlan{amounts: r.Amounts}
	if err := r.price(cat, b.Now); err != nil {
		r.plan.err = err
		return nil
	}
	if r.plan.unpriced {
		return nil
	}
	var direct []catalog.EnvelopeLimits
	direct, r.plan.behind = catalog.Split(r.Envelopes)
	budgets, err := cat.Draws(&r.Subject, r.BudgetID, direct)
	if err != nil {
		r.plan.err = err
		return nil
	}
	r.plan.draws = b.draws(r.Tenant, budgets)
	return r.plan.draws
}

// price fills in the worst cost if the caller gave none.
func (r *Reserve) price(cat *catalog.Catalog, now time.Time) error {
	a := &r.plan.amounts
	if a[amount.Cost] > 0 || a[amount.TotalTokens] == 0 && a[amount.LLMCalls] == 0 {
		return nil
	}
	if r.Subject.Model == "" && a[amount.LLMCalls] == 0 {
		return nil // tokens of a tool have no price of their own
	}
	p, known := cat.Prices.At(r.Subject.Model, now)
	if !known {
		// A call without tokens may be free; tokens without a price are not.
		r.plan.unpriced = a[amount.TotalTokens] > 0
		return nil
	}
	cost, err := p.Worst(a[amount.InputTokens], a[amount.OutputTokens], a[amount.LLMCalls])
	if err != nil {
		return err
	}
	if int64(cost) > amount.Most {
		return fault.Field("amounts", "cost too much to be counted").WithReason("AMOUNT_TOO_LARGE")
	}
	a[amount.Cost], r.plan.priceVersion = int64(cost), p.Version
	return nil
}

// Apply implements Op.
func (r *Reserve) Apply(b *Books) (Answer, error) {
	if old := b.Reservations[r.Ref]; old != nil {
		if old.Hash != r.hash {
			return Answer{}, errReused
		}
		// A hold that was given back protects nothing: to say "granted" again
		// would let the action happen without one.
		if end := b.Ends[r.Ref].Resolution; end != nil && end.Kind != Settled {
			return Answer{}, errEnded(end.Kind)
		}
		return b.held(old), nil
	}
	if r.plan.err != nil {
		return Answer{}, r.plan.err
	}
	if r.plan.unpriced {
		return Answer{
			Reason: ReasonUnpriced,
			Message: fmt.Sprintf("No price is known for model %q, so its worst cost cannot be held. "+
				"%s Or state the cost with the request.", r.Subject.Model, price.Hint),
		}, nil
	}
	windows, err := b.enter(r.plan.draws)
	if err != nil {
		return Answer{}, err
	}
	answer, granted := r.check(b.Now, windows)
	if !granted {
		answer.Suggested = r.suggest(b, windows)
		return answer, nil
	}
	if !fits(windows, r.plan.amounts) {
		return Answer{}, fault.Field("amounts", "are more than can be counted").WithReason("AMOUNT_TOO_LARGE")
	}
	if len(windows) == 0 {
		return answer, nil
	}
	r.hold(b, windows, &answer)
	return answer, nil
}

// check asks every window; the first that refuses is the answer.
func (r *Reserve) check(now time.Time, windows []*Window) (Answer, bool) {
	ask := r.plan.amounts
	answer := Answer{Granted: true, Amounts: ask, PriceVersion: r.plan.priceVersion}
	for _, w := range windows {
		if w.Suspended && catalog.OfEnvelope(w.Budget) {
			s := w.state(ask)
			return Answer{Reason: ReasonEnded, RefusedBy: &s, Message: "The envelope has ended: its limits grant nothing any more."}, false
		}
		if w.Suspended {
			if w.Mode == catalog.Prepaid {
				return walletRefusal(w.stateOf(amount.Cost, ask), ReasonWalletFrozen, false), false
			}
			return refusal(w.state(ask), ReasonSuspended, 0, w.override != nil), false
		}
		unit, over := w.lacks(ask)
		if !over {
			continue
		}
		switch w.Mode {
		case catalog.Soft:
			answer.Warnings = append(answer.Warnings, w.stateOf(unit, ask))
		case catalog.Throttle:
			if wait := w.ThrottledUntil.Sub(now); wait > 0 {
				return refusal(w.stateOf(unit, ask), ReasonThrottled, wait, true), false
			}
			answer.RetryAfter = max(answer.RetryAfter, w.pace(unit, ask, now))
		case catalog.Prepaid:
			return walletRefusal(w.stateOf(unit, ask), ReasonWalletExhausted, w.passes(unit, ask[unit])), false
		default:
			return refusal(w.stateOf(unit, ask), ReasonExceeded, 0, w.passes(unit, ask[unit])), false
		}
	}
	return answer, true
}

// Bounds of how long a throttled budget makes callers wait.
const (
	shortestPause = time.Second
	longestPause  = time.Minute
)

// pace is how long ask of unit takes at the speed at which the limit lasts for
// the whole window.
func (w *Window) pace(unit amount.Unit, ask amount.Amounts, now time.Time) time.Duration {
	span := w.End.Sub(w.StartTime())
	if !w.End.Before(never) {
		return longestPause
	}
	pause := time.Duration(float64(span) * float64(ask[unit]) / float64(w.Limit[unit]))
	return min(max(pause, shortestPause), longestPause, max(w.End.Sub(now), 0))
}

// hold writes the reservation into every window.
func (r *Reserve) hold(b *Books, windows []*Window, answer *Answer) {
	subject := r.Subject
	subject.Ancestors = nil
	res := &Reservation{
		Ref: r.Ref, Hash: r.hash, Amounts: r.plan.amounts, PriceVersion: r.plan.priceVersion, Subject: subject,
		CreatedAt: b.Now, ExpiresAt: b.Now.Add(r.TTL), Parts: make([]WindowKey, len(windows)),
		Behind: behind(r.Tenant, r.plan.behind),
	}
	for i, w := range windows {
		res.Parts[i] = w.WindowKey
		if unit, over := w.lacks(res.Amounts); over && w.Mode == catalog.Throttle {
			w.ThrottledUntil = b.Now.Add(w.pace(unit, res.Amounts, b.Now))
		}
	}
	b.hold(res, windows)
	b.Reservations[r.Ref] = res
	b.Writes.Reservations = append(b.Writes.Reservations, res)
	answer.Held, answer.ExpiresAt, answer.States = true, res.ExpiresAt, states(windows, res.Amounts)
	for i := range answer.Warnings {
		for _, w := range windows {
			if w.Budget == answer.Warnings[i].Budget {
				answer.Warnings[i] = w.stateOf(answer.Warnings[i].Unit, res.Amounts)
			}
		}
	}
}

// held is the answer to a Reserve that was granted earlier.
func (b *Books) held(res *Reservation) Answer {
	answer := Answer{
		Granted: true, Held: true, Amounts: res.Amounts, PriceVersion: res.PriceVersion, ExpiresAt: res.ExpiresAt,
	}
	answer.States = states(b.shown(res), res.Amounts)
	return answer
}

// States shows the windows of a reservation that are in the books.
func (b *Books) States(res *Reservation) []State { return states(b.shown(res), amount.Amounts{}) }

// shown are the windows of a reservation that are in the books.
func (b *Books) shown(res *Reservation) []*Window {
	var out []*Window
	for _, key := range res.Parts {
		if w := b.Windows[key]; w != nil {
			b.label(w)
			w.entered = entry{} // it says what is in force now, also if the window is over
			out = append(out, w)
		}
	}
	return out
}

func refusal(s State, reason string, wait time.Duration, retryable bool) Answer {
	name := or(s.Name, s.Budget)
	if reason == ReasonSuspended {
		return Answer{
			Reason: reason, RefusedBy: &s, Retryable: retryable,
			Message: fmt.Sprintf("Budget %q is suspended and refuses everything until it is resumed.", name),
		}
	}
	message := fmt.Sprintf("Budget %q has %s of %s %s left (%s spent, %s held) and this call needs up to %s",
		name, s.Unit.Text(s.Remaining), s.Unit.Text(s.Limit), s.Unit, s.Unit.Text(s.Spent), s.Unit.Text(s.Held), s.Unit.Text(s.Requested))
	if !s.ResetsAt.IsZero() {
		message += "; it resets at " + s.ResetsAt.Format(time.RFC3339)
	}
	message += "."
	if reason == ReasonThrottled {
		message += fmt.Sprintf(" Beyond its limit it lets one call through at a time: wait %s.", wait.Round(time.Millisecond))
	}
	return Answer{Reason: reason, Message: message, RefusedBy: &s, RetryAfter: wait, Retryable: retryable}
}

// walletRefusal is a refusal by a wallet: its limit is the credit put in.
func walletRefusal(s State, reason string, retryable bool) Answer {
	name := or(s.Name, s.Budget)
	message := fmt.Sprintf("Wallet %q is frozen and pays for nothing until it is thawed.", name)
	if reason == ReasonWalletExhausted {
		message = fmt.Sprintf("Wallet %q has a balance of %s, of which %s is held, and this call needs up to %s. Top it up, or wait until what is held is settled.",
			name, s.Unit.Text(s.Limit-s.Spent), s.Unit.Text(s.Held), s.Unit.Text(s.Requested))
	}
	return Answer{Reason: reason, Message: message, RefusedBy: &s, Retryable: retryable}
}

var errReused = fault.New(fault.Conflict, "this id was already used for another request").
	WithReason("IDEMPOTENCY_KEY_REUSED").
	WithHint("Send the first request again unchanged, or use a new id.")

// hasher makes one hash of typed fields, such that no two requests share it.
type hasher struct{ b []byte }

func (h *hasher) text(s string) {
	h.b = binary.AppendUvarint(h.b, uint64(len(s)))
	h.b = append(h.b, s...)
}

func (h *hasher) int(n int64) { h.b = binary.AppendVarint(h.b, n) }

func (h *hasher) amounts(a amount.Amounts) {
	for _, n := range a {
		h.int(n)
	}
}

func (h *hasher) subject(s catalog.Subject) {
	for _, v := range [...]string{s.Team, s.AgentID, s.UserID, s.WorkflowID, s.APIKeyID, s.Model, s.EnvelopeID} {
		h.text(v)
	}
	h.int(int64(len(s.Ancestors)))
	for _, v := range s.Ancestors {
		h.text(v)
	}
}

func (h *hasher) sum(kind string) [32]byte {
	h.text(kind)
	return sha256.Sum256(h.b)
}
