package catalog

import (
	"fmt"
	"time"

	costv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/cost/v1"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/amount"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/calendar"
)

// Override stands in for a budget's limits in its Span.
type Override struct {
	Span      calendar.Window
	Limits    amount.Amounts // of a unit that is not 0: instead of the budget's own
	Suspended *bool          // nil: as the budget
	Told      *costv1.BudgetOverride
}

// Terms are what a budget allows at a moment.
type Terms struct {
	Limits    amount.Amounts
	Suspended bool
	Override  *Override // nil: they are the budget's own
}

// Terms returns what b allows at a moment. Of several overrides that are in
// force the one made last counts, by itself.
func (b *Budget) Terms(at time.Time) Terms {
	out := Terms{Limits: b.Limits, Suspended: b.Suspended}
	for _, o := range b.Overrides {
		if o.Span.Contains(at) {
			out.Override = o
		}
	}
	if out.Override == nil {
		return out
	}
	for u, n := range out.Override.Limits {
		if n > 0 {
			out.Limits[u] = n
		}
	}
	if s := out.Override.Suspended; s != nil {
		out.Suspended = *s
	}
	return out
}

// Steady returns a span around at in which the terms stay what they are.
func (b *Budget) Steady(at time.Time) calendar.Window {
	span := calendar.Window{Start: calendar.Always, End: calendar.Never}
	for _, o := range b.Overrides {
		for _, edge := range [...]time.Time{o.Span.Start, o.Span.End} {
			if edge.After(at) {
				span.End = earlier(span.End, edge)
			} else if edge.After(span.Start) {
				span.Start = edge
			}
		}
	}
	return span
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// loadOverrides keeps the order of the bundle: the one made last is last.
func loadOverrides(in []*costv1.BudgetOverride) (out []*Override, err error) {
	for _, o := range in {
		limits, err := loadLimits(o.GetLimits())
		if err != nil {
			return nil, fmt.Errorf("override %s: %w", o.GetOverrideId(), err)
		}
		out = append(out, &Override{
			Span:   calendar.Window{Start: o.GetStartsAt().AsTime(), End: o.GetEndsAt().AsTime()},
			Limits: limits, Suspended: o.Suspended, Told: o,
		})
	}
	return out, nil
}
