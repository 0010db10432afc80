package ledger

import (
	"math/bits"
	"time"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/services/budget/internal/amount"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/calendar"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/catalog"
)

// WindowKey names one window of one budget.
type WindowKey struct {
	Tenant uuid.UUID
	Budget string
	Start  int64 // Unix time in microseconds, the database's precision
}

// StartTime is when the window begins.
func (k WindowKey) StartTime() time.Time { return time.UnixMicro(k.Start).UTC() }

// Window is what is held and spent of a budget in one window. At every moment
// Over is what of Held+Spent stands above Limit, so Held+Spent <= Limit+Over.
type Window struct {
	WindowKey
	End                      time.Time
	ConfigVersion            int64
	Version                  int64 // grows with every save
	Mode                     catalog.Mode
	Suspended                bool
	Limit, Held, Spent, Over amount.Amounts
	ReachedBP                int32 // highest threshold announced, hundredths of a percent
	ThrottledUntil           time.Time

	name         string
	thresholds   []int32
	period       calendar.Kind
	override     *catalog.Override // in force; nil: none
	entered      entry             // what it is up to date with
	owed         int64             // nano-USD by which a charge brought a wallet below zero just now
	changed      bool              // counters differ from the row
	reconfigured bool              // limits differ from the row
	posted       int               // its place among the batch's Posted, if it is there
}

// entry is the configuration that a window was brought up to, and for which time.
type entry struct {
	budget *catalog.Budget
	at     time.Time
}

// NewWindow is a window in which nothing has happened, with the limits of d at
// the given version.
func NewWindow(d Draw, version int64) *Window {
	return &Window{
		WindowKey: d.Key, End: d.Span.End, ConfigVersion: version,
		Mode: d.Budget.Mode, Suspended: d.Terms.Suspended, Limit: d.Terms.Limits,
	}
}

// Override is what stands in for the budget's own limits, or nil.
func (w *Window) Override() *catalog.Override { return w.override }

// Changed reports whether the counters must be written.
func (w *Window) Changed() bool { return w.changed }

// Reconfigured reports whether the limits must be written.
func (w *Window) Reconfigured() bool { return w.reconfigured }

// OnlyHeld reports whether of all that is saved nothing differs from the row but
// what is held, and until when it makes callers wait.
func (w *Window) OnlyHeld(row *Window) bool {
	return w.Version == row.Version && w.End.Equal(row.End) && w.ConfigVersion == row.ConfigVersion && w.Mode == row.Mode && w.Suspended == row.Suspended &&
		w.ReachedBP == row.ReachedBP && w.Limit == row.Limit && w.Spent == row.Spent && w.Over == row.Over
}

// Saved makes the window what it is once its changes are saved.
func (w *Window) Saved() *Window {
	if w.changed || w.reconfigured {
		w.Version++
	}
	w.changed, w.reconfigured, w.entered = false, false, entry{}
	return w
}

// settleOver makes Over what it has to be.
func (w *Window) settleOver() {
	used, _ := w.Held.Plus(w.Spent)
	w.Over = used.Excess(w.Limit)
	if w.Mode == catalog.Prepaid {
		w.Over[amount.Cost] = max(used[amount.Cost]-w.Limit[amount.Cost], 0) // no credit is a limit, too
	}
}

// counts is the part of a that the window counts: of a wallet, money alone.
func (w *Window) counts(a amount.Amounts) amount.Amounts {
	if w.Mode == catalog.Prepaid {
		return amount.Amounts{amount.Cost: a[amount.Cost]}
	}
	return a
}

// Balance is a wallet's credit less what is spent, in nano-USD.
func (w *Window) Balance() int64 { return w.Limit[amount.Cost] - w.Spent[amount.Cost] }

// UsedPercent is how much of its limit is spent or held, of the unit that is
// closest to its own; not ok if nothing is limited.
func (w *Window) UsedPercent() (percent float64, ok bool) {
	for u, limit := range w.Limit {
		if limit > 0 {
			percent, ok = max(percent, 100*(float64(w.Held[u])+float64(w.Spent[u]))/float64(limit)), true
		}
	}
	return percent, ok
}

// bounds reports whether the window limits a unit. No credit is a limit, too.
func (w *Window) bounds(u amount.Unit) bool {
	return w.Limit[u] > 0 || w.Mode == catalog.Prepaid && u == amount.Cost
}

// lacks returns the first unit of which ask does not fit, or false.
func (w *Window) lacks(ask amount.Amounts) (amount.Unit, bool) {
	for u, n := range ask {
		if n > 0 && w.bounds(amount.Unit(u)) && n > w.Limit[u]-w.Held[u]-w.Spent[u] {
			return amount.Unit(u), true
		}
	}
	return 0, false
}

// passed returns the highest of thresholds that spending has reached.
func (w *Window) passed(thresholds []int32) int32 {
	var highest int32
	for _, bp := range thresholds {
		if _, ok := w.reaches(bp); ok {
			highest = bp
		}
	}
	return highest
}

// reaches returns the first unit whose spending is at or above bp hundredths
// of a percent of its limit; of a wallet, whether its balance has fallen to what
// bp stands for. A wallet that nothing was ever put into has not fallen.
func (w *Window) reaches(bp int32) (amount.Unit, bool) {
	if w.Mode == catalog.Prepaid {
		return amount.Cost, w.Limit[amount.Cost]|w.Spent[amount.Cost] != 0 && w.Balance() <= catalog.LowBalance(bp)
	}
	for u, limit := range w.Limit {
		if limit > 0 && atLeast(w.Spent[u], limit, bp) {
			return amount.Unit(u), true
		}
	}
	return 0, false
}

// atLeast reports whether n*10000 >= limit*bp, without overflow.
func atLeast(n, limit int64, bp int32) bool {
	hi1, lo1 := bits.Mul64(uint64(n), 10000)
	hi2, lo2 := bits.Mul64(uint64(limit), uint64(bp))
	return hi1 > hi2 || hi1 == hi2 && lo1 >= lo2
}

// State is a window as callers are shown it: one unit of it.
type State struct {
	Budget, Name string
	Period       calendar.Kind
	Unit         amount.Unit
	Limit        int64
	Spent        int64
	Held         int64
	Remaining    int64
	Requested    int64
	ResetsAt     time.Time // zero: never
	Overridden   time.Time // until when another limit is in force than the budget's own; zero: none is
	Status       Status
}

// Status is how close a budget is to its limit.
type Status string

// The statuses.
const (
	OK        Status = "OK"
	Warning   Status = "WARNING"
	Critical  Status = "CRITICAL"
	Exceeded  Status = "EXCEEDED"
	Suspended Status = "SUSPENDED"
)

// StatusAt is the status that reaching a threshold means.
func StatusAt(bp int32) Status {
	switch {
	case bp >= 10000:
		return Exceeded
	case bp >= 9500:
		return Critical
	case bp > 0:
		return Warning
	}
	return OK
}

// Status is the window's standing by what is spent.
func (w *Window) Status() Status {
	if w.Suspended {
		return Suspended
	}
	if w.Mode == catalog.Prepaid {
		return w.walletStatus()
	}
	if len(w.thresholds) == 0 {
		return StatusAt(w.passed(catalog.DefaultThresholds))
	}
	return StatusAt(w.passed(w.thresholds))
}

func (w *Window) walletStatus() Status {
	switch {
	case w.Balance() <= 0:
		return Exceeded
	case w.passed(w.thresholds) > 0:
		return Warning
	}
	return OK
}

// state shows the unit that is closest to its limit.
func (w *Window) state(ask amount.Amounts) State {
	best, share := amount.Cost, -1.0
	for u, limit := range w.Limit {
		if limit == 0 {
			continue
		}
		if s := float64(w.Held[u]+w.Spent[u]) / float64(limit); s > share {
			best, share = amount.Unit(u), s
		}
	}
	return w.stateOf(best, ask)
}

func (w *Window) stateOf(u amount.Unit, ask amount.Amounts) State {
	s := State{
		Budget: w.Budget, Name: w.name, Period: w.period, Unit: u,
		Limit: w.Limit[u], Spent: w.Spent[u], Held: w.Held[u], Requested: ask[u],
		Status: w.Status(),
	}
	if w.bounds(u) {
		s.Remaining = max(w.Limit[u]-w.Spent[u]-w.Held[u], 0)
	}
	if w.End.Before(never) {
		s.ResetsAt = w.End
	}
	if w.override != nil {
		s.Overridden = w.override.Span.End
	}
	return s
}

// states shows windows, all but the one of what no budget covers.
func states(windows []*Window, ask amount.Amounts) []State {
	out := make([]State, 0, len(windows))
	for _, w := range windows {
		if w.Budget != catalog.Suspense.ID {
			out = append(out, w.state(ask))
		}
	}
	return out
}
