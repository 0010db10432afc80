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

// Correction is a Correct that was done. The settlement stays as it was; the last
// correction says what the charge costs.
type Correction struct {
	Ref
	Number       int32
	Rerate       uuid.UUID
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
	old, number := money.Nano(charged.Charged[amount.Cost]), int32(1)
	for _, earlier := range b.Corrections[c.Ref] {
		if earlier.Rerate == c.Rerate {
			return corrected(earlier.New, earlier.PriceVersion), nil
		}
		old, number = earlier.New, earlier.Number+1
	}
	if old == c.Cost {
		return corrected(old, charged.PriceVersion), nil
	}
	windows, err := b.enter(b.parts(res))
	if err != nil {
		return Answer{}, err
	}
	up, down := amount.Amounts{amount.Cost: int64(max(c.Cost-old, 0))}, amount.Amounts{amount.Cost: int64(max(old-c.Cost, 0))}
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
	done := &Correction{
		Ref: c.Ref, Number: number, Rerate: c.Rerate, Old: old, New: c.Cost, PriceVersion: c.Version,
		Subject: res.Subject, Model: charged.Model, ChargedAt: charged.CreatedAt, Windows: windows,
	}
	b.Corrections[c.Ref] = append(b.Corrections[c.Ref], done)
	b.Writes.Corrections = append(b.Writes.Corrections, done)
	b.Writes.Events = append(b.Writes.Events, Event{
		Type: CostCorrected, Ref: c.Ref, Subject: res.Subject, At: b.Now, Model: charged.Model, PriceVersion: c.Version, Correction: done,
	})
	return corrected(c.Cost, c.Version), nil
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
}
