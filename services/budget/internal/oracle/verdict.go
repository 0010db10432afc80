package oracle

import (
	"fmt"
	"time"

	"github.com/fulcrum-io/fulcrum/services/budget/internal/amount"
)

// Used is what a budget was charged in one hour.
type Used struct {
	Start   time.Time
	Amounts amount.Amounts
}

// Budget is a budget in its window.
type Budget struct {
	Limit, Spent, Held amount.Amounts // limit 0: none
	Zone               *time.Location
	Since              time.Time // nothing was charged before; zero: not known
	End                time.Time // of the window
	Endless            bool      // the window has no end
	Suspended          bool
	Hours              []Used
}

// Action is what to do about a verdict.
type Action int

// The actions, numbered as in fulcrum.brain.v1.RecommendedAction.
const (
	None         Action = 1 + iota // an overrun is unlikely
	Warn                           // it is possible
	ReduceRate                     // it is likely; half the pace would do
	RequestQuota                   // it is likely, and half the pace would not do
	Halt                           // there is nothing left
)

// How likely an overrun has to be for an action.
const (
	possible = 0.2
	likely   = 0.5
)

// How far predictions look.
const (
	farthest = 366 * 24 * time.Hour
	endless  = 30 * 24 * time.Hour
)

// Verdict is a prediction about a budget. Costs are of the whole window, in the
// amounts' unit.
type Verdict struct {
	Cost, CostLow, CostHigh float64
	Probability             float64     // that a limit is passed
	Unit                    amount.Unit // whose that is
	Exhausted               time.Time   // zero: not before Until
	Until                   time.Time
	Action                  Action
	Confidence              float64 // 0 to 1
	Days                    float64 // of history
	Message                 string
}

// Judge predicts whether a budget runs out: for each unit it limits, of which
// the one most likely to run out decides.
func Judge(b Budget, now time.Time) Verdict {
	v := Verdict{Until: b.End, Action: None}
	if b.Endless {
		v.Until = now.Add(endless)
	}
	if most := now.Add(farthest); v.Until.After(most) {
		v.Until = most
	}
	cost := Foresee(b.history(amount.Cost, now), v.Until)
	spent := float64(b.Spent[amount.Cost])
	v.Cost, v.CostLow, v.CostHigh = spent+cost.Expected, spent+cost.Low, spent+cost.High
	v.Days = cost.Days
	v.Confidence = 0.95 * cost.Days / (cost.Days + 7) / (1 + cost.Spread)

	share, found := 0.0, false
	for u, limit := range b.Limit {
		if limit == 0 {
			continue
		}
		o := cost
		if u := amount.Unit(u); u != amount.Cost {
			o = Foresee(b.history(u, now), v.Until)
		}
		left := float64(limit - b.Spent[u])
		p := o.Beyond(left)
		if left <= 0 {
			p = 1
		}
		if found && p <= v.Probability {
			continue
		}
		found = true
		v.Probability, v.Unit, v.Exhausted = p, amount.Unit(u), time.Time{}
		if at, runsOut := o.Exhausted(left, now); runsOut {
			v.Exhausted = at
		}
		share = left / max(o.Expected, 1e-300)
	}
	v.decide(b, share)
	return v
}

// decide picks the action. share is what is left of the unit, relative to what
// is expected to come.
func (v *Verdict) decide(b Budget, share float64) {
	limit := b.Limit[v.Unit]
	switch {
	case b.Limit.IsZero():
		v.Message = "the budget limits nothing"
	case b.Spent[v.Unit] >= limit:
		v.Action, v.Message = Halt, fmt.Sprintf("all of its %s is used up", v.Unit)
	case v.Days == 0:
		v.Message = "it was not used yet: there is nothing to predict from"
	case v.Probability < possible:
		v.Message = "it is unlikely to run out"
	case v.Probability < likely:
		v.Action, v.Message = Warn, fmt.Sprintf("its %s may run out", v.Unit)
	case share >= 0.5:
		v.Action, v.Message = ReduceRate, fmt.Sprintf("its %s is likely to run out: %.0f %% of the expected pace would do", v.Unit, 100*min(share, 1))
	default:
		v.Action, v.Message = RequestQuota, fmt.Sprintf("its %s is likely to run out: what is left covers %.0f %% of what is expected", v.Unit, 100*max(share, 0))
	}
	if b.Suspended {
		v.Message += "; it is suspended, and refuses everything"
	}
}

func (b Budget) history(u amount.Unit, now time.Time) History {
	h := History{Zone: b.Zone, Now: now, Since: b.Since}
	for _, used := range b.Hours {
		if n := used.Amounts[u]; n > 0 {
			h.Hours = append(h.Hours, Hour{used.Start, float64(n)})
		}
	}
	return h
}
