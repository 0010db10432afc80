package ledger

import (
	"time"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/money"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/amount"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/catalog"
)

// Correct makes a charge cost something else, because its price was wrong. The
// difference moves in the windows of the charge, whenever they were. Each
// re-rating corrects a charge once, however often it is done.
type Correct struct {
	Ref
	Rerate  uuid.UUID
	Cost    money.Nano
	Version string // of the prices that say so
}

// HandVersion is the price version of a charge whose cost somebody put right by
// hand: what a person decided, no price list overrules.
const HandVersion = "by-hand"

// Correction is a Correct that was done, or a Move of a charge. The settlement
// stays as it was; the last correction says what the charge costs.
type Correction struct {
	Ref
	Number       int32
	Rerate       uuid.UUID // or the Move's transaction
	Old, New     money.Nano
	PriceVersion string

	Subject   catalog.Subject // of the charge, for the summaries
	Model     string
	ChargedAt time.Time
	Windows   []*Window // it was charged in
}

// Of implements Op.
func (c *Correct) Of() Ref { return c.Ref }

// Prepare implements Op.
func (c *Correct) Prepare(b *Books) []Draw { return b.touched(c.Ref) }

// Apply implements Op. The answer's cost is what the charge costs from now on. A
// budget is never corrected below nothing.
func (c *Correct) Apply(b *Books) (Answer, error) {
	res, charged := b.Reservations[c.Ref], b.Ends[c.Ref].charge()
	if res == nil || charged == nil {
		return Answer{}, fault.New(fault.NotFound, "there is no charge for reservation %s", c.ID).WithReason("CHARGE_NOT_FOUND")
	}
	for _, earlier := range b.Corrections[c.Ref] {
		if earlier.Rerate == c.Rerate {
			return corrected(earlier.New, earlier.PriceVersion), nil
		}
	}
	done := b.correction(res, charged, c.Rerate, c.Version)
	if done.Old == c.Cost || b.byHand(c.Ref) {
		return corrected(done.Old, charged.PriceVersion), nil
	}
	windows, err := b.enter(b.parts(res))
	if err != nil {
		return Answer{}, err
	}
	up, down := amount.Amounts{amount.Cost: int64(max(c.Cost-done.Old, 0))}, amount.Amounts{amount.Cost: int64(max(done.Old-c.Cost, 0))}
	mirror, err := b.mirror(res.Behind)
	if err != nil {
		return Answer{}, err
	}
	touched := append(windows[:len(windows):len(windows)], mirror.windows...)
	if !fits(touched, up) {
		return Answer{}, errTooMuch
	}
	for _, w := range touched {
		if w.Spent[amount.Cost] < down[amount.Cost] {
			return Answer{}, fault.New(fault.Precondition, "budget %s has less spent than the correction takes back", w.Budget).WithReason("CORRECTION_TOO_LARGE")
		}
	}
	tx := b.transaction(c.Tenant, c.ID, kindCorrection)
	if len(windows) == 0 {
		w := b.uncovered(c.Tenant)
		b.post(tx, w, Suspense, Spent, up)
		b.post(tx, w, Spent, Suspense, down)
	}
	for _, w := range windows {
		b.reprice(tx, w, up, down)
	}
	mirror.reprice(tx, up, down)
	for _, w := range touched {
		b.announce(w, c.Ref, res.Subject)
	}
	done.New, done.Windows = c.Cost, windows
	b.correct(done)
	b.Writes.Events = append(b.Writes.Events, Event{
		Type: CostCorrected, Ref: c.Ref, Subject: res.Subject, At: b.Now, Correction: done,
	})
	return corrected(c.Cost, c.Version), nil
}

// correction is the next one of a charge. New and Windows are still to be filled
// in.
func (b *Books) correction(res *Reservation, charged *Settlement, rerate uuid.UUID, version string) *Correction {
	c := &Correction{
		Ref: res.Ref, Number: 1, Rerate: rerate, Old: money.Nano(charged.Charged[amount.Cost]), PriceVersion: version,
		Subject: res.Subject, Model: charged.Model, ChargedAt: charged.CreatedAt,
	}
	if done := b.Corrections[res.Ref]; len(done) > 0 {
		last := done[len(done)-1]
		c.Number, c.Old = last.Number+1, last.New
	}
	return c
}

// byHand reports whether the last correction of a charge was made by hand.
func (b *Books) byHand(ref Ref) bool {
	done := b.Corrections[ref]
	return len(done) > 0 && done[len(done)-1].PriceVersion == HandVersion
}

// correct takes note of a correction whose money has moved.
func (b *Books) correct(c *Correction) {
	b.Corrections[c.Ref] = append(b.Corrections[c.Ref], c)
	b.Writes.Corrections = append(b.Writes.Corrections, c)
}

func corrected(cost money.Nano, version string) Answer {
	return Answer{Amounts: amount.Amounts{amount.Cost: int64(cost)}, PriceVersion: version}
}

// reprice changes what is spent of a window: up is added, down taken back.
func (b *Books) reprice(tx *posting, w *Window, up, down amount.Amounts) {
	was, debt := w.Over, w.debt()
	w.Spent, _ = w.Spent.Minus(down).Plus(up)
	w.settleOver()
	w.changed = true
	w.owed += w.debt() - debt

	purse := w.purse()
	b.post(tx, w, purse, Spent, up)
	b.post(tx, w, Spent, purse, down)
	b.overage(tx, w, was)
	w.rearm()
}
