package ledger

import (
	"time"

	"github.com/fulcrum-io/fulcrum/services/budget/internal/amount"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/catalog"
)

// EventType names a fact that others hear of.
type EventType string

// The facts of the ledger.
const (
	CostRecorded   EventType = "cost_recorded"   // a charge
	BudgetWarning  EventType = "budget_warning"  // a threshold was reached
	BudgetCritical EventType = "budget_critical" // one at or above 95 %
	BudgetExceeded EventType = "budget_exceeded" // the limit was reached
	BudgetOverrun  EventType = "budget_overrun"  // a charge was more than its hold
	HoldExpired    EventType = "hold_expired"    // nobody settled in time
	CostCorrected  EventType = "cost_corrected"  // a charge costs something else, because its price was wrong
	HoldReleased   EventType = "hold_released"   // somebody gave it back by hand

	WalletLow       EventType = "wallet_low"       // the balance fell to a threshold
	WalletDepleted  EventType = "wallet_depleted"  // nothing is left
	WalletOverdrawn EventType = "wallet_overdrawn" // a charge beyond its hold went below zero
	WalletMoved     EventType = "wallet_moved"     // credit was put in or taken out by hand
	ChargeCorrected EventType = "charge_corrected" // what was spent was put right by hand
)

// Event is one fact. Which fields are set depends on the type.
type Event struct {
	Type    EventType
	Ref     Ref
	Subject catalog.Subject
	At      time.Time

	Budget    *State // threshold events: the unit that crossed
	Threshold int32  // hundredths of a percent
	Window    WindowKey

	Charged, Held, Overrun amount.Amounts
	Model, PriceVersion    string
	Cached, Reasoning      int64
	Late, Failed           bool

	Correction *Correction // CostCorrected, and ChargeCorrected if it is of a charge
	Debt       int64       // WalletOverdrawn: nano-USD by which this charge went below zero
	Movement   *Movement   // WalletMoved, ChargeCorrected
	Actor      string      // who did it by hand, or ""
	Reason     string
}

// announce says which thresholds w has reached since the last time, each once
// in a window.
func (b *Books) announce(w *Window, ref Ref, s catalog.Subject) {
	if w.owed > 0 {
		state := w.stateOf(amount.Cost, amount.Amounts{})
		b.Writes.Events = append(b.Writes.Events, Event{
			Type: WalletOverdrawn, Ref: ref, Subject: s, At: b.Now, Budget: &state, Window: w.WindowKey, Debt: w.owed,
		})
	}
	w.owed = 0
	for _, bp := range w.thresholds {
		if bp <= w.ReachedBP {
			continue
		}
		unit, reached := w.reaches(bp)
		if !reached {
			return
		}
		w.ReachedBP, w.changed = bp, true
		state := w.stateOf(unit, amount.Amounts{})
		b.Writes.Events = append(b.Writes.Events, Event{
			Type: w.crossing(bp), Ref: ref, Subject: s, At: b.Now,
			Budget: &state, Threshold: bp, Window: w.WindowKey,
		})
	}
}

// rearm sees to it that thresholds which the window is short of again, because
// its limit was raised or spending taken back, are announced anew when they are
// reached anew. What a budget that is not configured any more had announced
// stays.
func (w *Window) rearm() {
	if reached := w.passed(w.thresholds); reached < w.ReachedBP && len(w.thresholds) > 0 {
		w.ReachedBP, w.changed = reached, true
	}
}

func (w *Window) crossing(bp int32) EventType {
	if w.Mode == catalog.Prepaid {
		if catalog.LowBalance(bp) > 0 {
			return WalletLow
		}
		return WalletDepleted
	}
	switch StatusAt(bp) {
	case Exceeded:
		return BudgetExceeded
	case Critical:
		return BudgetCritical
	}
	return BudgetWarning
}
