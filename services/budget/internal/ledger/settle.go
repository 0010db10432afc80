package ledger

import (
	"slices"
	"time"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/money"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/amount"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/calendar"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/catalog"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/price"
)

// Usage is what an action really used. Cached tokens, and those written to a
// cache, are part of the input and reasoning tokens part of the output. Tool
// calls of 0 mean: as held.
type Usage struct {
	Model                            string
	Input, Cached, Output, Reasoning int64
	CacheWrite                       int64
	ToolCalls, Seconds               int64
	Cost                             money.Nano
	CostKnown                        bool // else the price list says
}

// Settle charges Usage to the windows of a reservation and gives the rest of
// the hold back. What was used is always charged in full, also when it is more
// than was held, and also when the hold has ended meanwhile. Without a
// reservation it charges the budgets that Subject, if given, draws on now.
type Settle struct {
	Ref
	Key     string
	Usage   *Usage // nil: as much as was held
	Subject *catalog.Subject
	Failed  bool

	hash  [32]byte
	draws []Draw // of a charge without a reservation
	err   error
}

// Of implements Op.
func (s *Settle) Of() Ref { return s.Ref }

// Seal fixes the request: from then on its hash stands for its content.
func (s *Settle) Seal() *Settle {
	var h hasher
	if u := s.Usage; u != nil {
		h.text(u.Model)
		for _, n := range [...]int64{u.Input, u.Cached, u.Output, u.Reasoning, u.ToolCalls, u.Seconds, int64(u.Cost)} {
			h.int(n)
		}
		if u.CostKnown {
			h.text("cost")
		}
		if u.CacheWrite > 0 { // only then, so that older requests are still known
			h.text("cache write")
			h.int(u.CacheWrite)
		}
	}
	if s.Failed {
		h.text("failed")
	}
	s.hash = h.sum("settle")
	return s
}

// Prepare implements Op.
func (s *Settle) Prepare(b *Books) []Draw {
	s.draws, s.err = nil, nil
	if b.Reservations[s.Ref] != nil {
		return b.touched(s.Ref)
	}
	if s.Subject == nil {
		return nil
	}
	budgets, err := b.Catalogs[s.Tenant].Draws(s.Subject, "", nil)
	if err != nil {
		s.err = err
		return nil
	}
	if len(budgets) == 0 {
		budgets = []*catalog.Budget{catalog.Suspense}
	}
	s.draws = b.draws(s.Tenant, budgets)
	return s.draws
}

// Apply implements Op.
func (s *Settle) Apply(b *Books) (Answer, error) {
	if s.err != nil {
		return Answer{}, s.err
	}
	res, end := b.Reservations[s.Ref], b.Ends[s.Ref]
	if done := end.charge(); done != nil {
		return s.again(b, res, end, done)
	}
	if res == nil {
		return s.direct(b)
	}
	windows, err := b.enter(b.parts(res))
	if err != nil {
		return Answer{}, err
	}
	c, err := s.charge(b.Catalogs[s.Tenant], res.CreatedAt, res.Amounts, res.Subject.Model)
	if err != nil {
		return Answer{}, err
	}
	mirror, err := b.mirror(res.Behind)
	if err != nil {
		return Answer{}, err
	}
	if !fits(windows, c.amounts) || !fits(mirror.windows, c.amounts) {
		return Answer{}, errTooMuch
	}
	late := end.Resolution != nil
	held := res.Amounts
	if late {
		held = amount.Amounts{}
	}
	tx := b.transaction(s.Tenant, s.ID, kindSettle)
	for _, w := range windows {
		b.move(tx, w, amount.Amounts{}, held, c.amounts)
		b.announce(w, s.Ref, res.Subject)
	}
	mirror.move(tx, c.amounts)
	for _, w := range mirror.windows {
		b.announce(w, s.Ref, res.Subject)
	}
	s.record(b, res, res.Subject, append(slices.Clip(windows), mirror.windows...), c, late)
	return Answer{
		Amounts: c.amounts, Overrun: c.amounts.Above(res.Amounts), Late: late,
		PriceVersion: c.version, States: states(windows, amount.Amounts{}),
	}, nil
}

// direct charges without a hold.
func (s *Settle) direct(b *Books) (Answer, error) {
	if s.Subject == nil {
		return Answer{}, errNoReservation(s.Ref)
	}
	windows, err := b.enter(s.draws)
	if err != nil {
		return Answer{}, err
	}
	c, err := s.charge(b.Catalogs[s.Tenant], b.Now, amount.Amounts{}, s.Subject.Model)
	if err != nil {
		return Answer{}, err
	}
	if !fits(windows, c.amounts) {
		return Answer{}, errTooMuch
	}
	subject := *s.Subject
	subject.Ancestors = nil
	parts := make([]WindowKey, len(windows))
	for i, w := range windows {
		parts[i] = w.WindowKey
	}
	// A hold of nothing, so that nobody can hold something under this id later.
	res := &Reservation{Ref: s.Ref, Hash: s.hash, Subject: subject, CreatedAt: b.Now, ExpiresAt: b.Now.Add(time.Second), Parts: parts}
	b.Reservations[s.Ref] = res
	b.Writes.Reservations = append(b.Writes.Reservations, res)
	tx := b.transaction(s.Tenant, s.ID, kindCharge)
	for _, w := range windows {
		b.move(tx, w, amount.Amounts{}, amount.Amounts{}, c.amounts)
		b.announce(w, s.Ref, subject)
	}
	s.record(b, nil, subject, windows, c, false)
	return Answer{Amounts: c.amounts, PriceVersion: c.version, States: states(windows, amount.Amounts{})}, nil
}

// again answers a charge that was made before.
func (s *Settle) again(b *Books, res *Reservation, end End, done *Settlement) (Answer, error) {
	if done.Hash != s.hash {
		if done.Key == s.Key {
			return Answer{}, errReused
		}
		return Answer{}, fault.New(fault.Precondition, "the action was already settled with another usage").
			WithReason("RESERVATION_SETTLED")
	}
	answer := Answer{Amounts: done.Charged, Late: done.Late, PriceVersion: done.PriceVersion}
	if res != nil && len(res.Parts) > 0 {
		if !res.Amounts.IsZero() { // else it was a charge without a hold
			answer.Overrun = done.Charged.Above(res.Amounts)
		}
		answer.States = states(b.shown(res), amount.Amounts{})
	}
	return answer, nil
}

// record writes the settlement, what the summaries need and the events.
func (s *Settle) record(b *Books, res *Reservation, subject catalog.Subject, windows []*Window, c charge, late bool) {
	set := &Settlement{
		Ref: s.Ref, Late: late, Kind: Settled, Key: s.Key, Hash: s.hash,
		Charged: c.amounts, Model: c.model, PriceVersion: c.version, Failed: s.Failed, CreatedAt: b.Now,
	}
	if s.Usage != nil {
		set.Cached, set.CacheWrite, set.Reasoning = s.Usage.Cached, s.Usage.CacheWrite, s.Usage.Reasoning
	}
	end := b.Ends[s.Ref]
	if late {
		end.Late = set
	} else {
		end.Resolution = set
	}
	b.Ends[s.Ref] = end
	b.Writes.Settlements = append(b.Writes.Settlements, set)

	zone := b.Catalogs[s.Tenant].Zone
	hour := calendar.Period{Kind: calendar.Hourly, Zone: zone}.At(b.Now)
	b.Writes.Spend = append(b.Writes.Spend, Spend{
		Tenant: s.Tenant, Hour: hour.Start, Subject: subject, Model: c.model, Charged: c.amounts, Failed: s.Failed,
		Windows: windows, Told: s.Usage != nil,
	})
	fact := Event{
		Type: CostRecorded, Ref: s.Ref, Subject: subject, At: b.Now, Charged: c.amounts,
		Model: c.model, PriceVersion: c.version, Late: late, Failed: s.Failed,
	}
	if s.Usage != nil {
		fact.Cached, fact.Reasoning = s.Usage.Cached, s.Usage.Reasoning
	}
	b.Writes.Events = append(b.Writes.Events, fact)
	if res == nil {
		return
	}
	if over := c.amounts.Above(res.Amounts); !over.IsZero() {
		fact.Type, fact.Held, fact.Overrun = BudgetOverrun, res.Amounts, over
		b.Writes.Events = append(b.Writes.Events, fact)
	}
}

// charge is a usage in amounts.
type charge struct {
	amounts        amount.Amounts
	model, version string
}

// HeldVersion is the price version of a charge that is what was held, because
// nobody said what it really was.
const HeldVersion = "as-held"

// charge works out what to charge for the usage of an action that held held.
func (s *Settle) charge(cat *catalog.Catalog, at time.Time, held amount.Amounts, model string) (charge, error) {
	u := s.Usage
	if u == nil {
		c := charge{amounts: held, model: model}
		if !held.IsZero() {
			c.version = HeldVersion
		}
		return c, nil
	}
	c := charge{model: or(u.Model, model)}
	a := &c.amounts
	a[amount.InputTokens], a[amount.OutputTokens] = max(u.Input, u.Cached+u.CacheWrite), max(u.Output, u.Reasoning)
	a[amount.ToolCalls], a[amount.Seconds] = u.ToolCalls, u.Seconds
	if u.ToolCalls == 0 {
		a[amount.ToolCalls] = held[amount.ToolCalls]
	}
	a[amount.LLMCalls] = held[amount.LLMCalls]
	tokens := a[amount.InputTokens] + a[amount.OutputTokens]
	if a[amount.LLMCalls] == 0 && tokens > 0 && c.model != "" {
		a[amount.LLMCalls] = 1
	}
	switch p, known := cat.Prices.At(c.model, at); {
	case u.CostKnown:
		a[amount.Cost] = int64(u.Cost)
	case tokens == 0 && held[amount.TotalTokens] == 0:
		// Not priced by tokens: what was agreed on is what it costs.
		if a[amount.Cost] = held[amount.Cost]; a[amount.Cost] > 0 {
			c.version = HeldVersion
		}
	case known:
		cost, err := p.Cost(price.Usage{
			Input: a[amount.InputTokens], Cached: u.Cached, CacheWrite: u.CacheWrite, Output: a[amount.OutputTokens], Reasoning: u.Reasoning,
			Calls: a[amount.LLMCalls],
		})
		if err != nil {
			return c, err
		}
		a[amount.Cost], c.version = int64(cost), p.Version
	case held[amount.Cost] > 0:
		a[amount.Cost], c.version = held[amount.Cost], HeldVersion
	case tokens > 0 && c.model != "":
		return c, fault.Field("usage.cost_usd", "is needed: no price is known for model %q", c.model).WithReason(ReasonUnpriced).WithHint(price.Hint)
	}
	var err error
	c.amounts, err = c.amounts.WithTotal("usage")
	return c, err
}

// charge is the settlement that charged, or nil.
func (e End) charge() *Settlement {
	if e.Late != nil {
		return e.Late
	}
	if e.Resolution != nil && e.Resolution.Kind == Settled {
		return e.Resolution
	}
	return nil
}

func errNoReservation(r Ref) error {
	return fault.New(fault.NotFound, "there is no reservation %s", r.ID).WithReason("RESERVATION_NOT_FOUND")
}

var errTooMuch = fault.Field("usage", "is more than can be counted").WithReason("AMOUNT_TOO_LARGE")

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}
