package ledger_test

import (
	"testing"
	"time"

	"github.com/fulcrum-io/fulcrum/services/budget/internal/amount"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/calendar"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/catalog"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/ledger"
)

func over(from, until time.Duration, limits amount.Amounts) *catalog.Override {
	return &catalog.Override{Span: calendar.Window{Start: noon.Add(from), End: noon.Add(until)}, Limits: limits}
}

// An override is in force from its start to its end by the clock alone: a
// refusal shows the limit in force, usage is never touched, and what is used
// beyond a limit that is back is overage, not forgotten.
func TestAnOverrideCountsInItsTime(t *testing.T) {
	t.Parallel()
	yes, no := true, false
	budget := &catalog.Budget{ID: "b", Limits: amount.Amounts{amount.Cost: 10, amount.LLMCalls: 5}, Overrides: []*catalog.Override{
		over(time.Hour, 3*time.Hour, cost(100)),
		over(2*time.Hour, 4*time.Hour, cost(50)), // made last: it counts where both would
		{Span: calendar.Window{Start: noon.Add(5 * time.Hour), End: noon.Add(6 * time.Hour)}, Suspended: &yes},
		over(7*time.Hour, 8*time.Hour, cost(3)),
	}}
	s := open(t, budget)
	s.spend(8)
	for _, tt := range []struct {
		at         time.Duration
		limit      int64
		suspended  bool
		overridden time.Duration // until; 0: not
	}{
		{0, 10, false, 0},
		{time.Hour - time.Microsecond, 10, false, 0},
		{time.Hour, 100, false, 3 * time.Hour},
		{2 * time.Hour, 50, false, 4 * time.Hour},
		{3*time.Hour + time.Minute, 50, false, 4 * time.Hour},
		{4 * time.Hour, 10, false, 0},
		{5 * time.Hour, 10, true, 6 * time.Hour},
		{6 * time.Hour, 10, false, 0},
		{7 * time.Hour, 3, false, 8 * time.Hour},
		{8 * time.Hour, 10, false, 0},
	} {
		s.books.Now = noon.Add(tt.at)
		a := s.must(s.hold(1000))
		by := a.RefusedBy
		if a.Granted || by.Limit != tt.limit || by.Spent != 8 || (a.Reason == ledger.ReasonSuspended) != tt.suspended {
			t.Errorf("at %v: %+v, %+v", tt.at, a, by)
		}
		var until time.Time
		if tt.overridden > 0 {
			until = noon.Add(tt.overridden)
		}
		if !by.Overridden.Equal(until) {
			t.Errorf("at %v: overridden until %v, want %v", tt.at, by.Overridden, until)
		}
		w := s.window("b")
		if used := max(8-tt.limit, 0); w.Over[amount.Cost] != used || w.Limit[amount.LLMCalls] != 5 {
			t.Errorf("at %v: %+v", tt.at, w)
		}
	}
	budget.Overrides = []*catalog.Override{{Span: calendar.Window{Start: noon, End: noon.AddDate(0, 0, 1)}, Suspended: &no}}
	budget.Suspended = true
	s.configure(2, budget)
	if a := s.must(s.hold(2)); !a.Granted {
		t.Errorf("a suspension that is lifted for a time: %+v", a)
	}
}

// What is charged after an override ended still has its window, and a window
// that is over keeps the limits it ended with.
func TestAnOverrideEndsWithHoldsOpen(t *testing.T) {
	t.Parallel()
	s := open(t, &catalog.Budget{ID: "b", Limits: cost(10), Overrides: []*catalog.Override{over(0, time.Hour, cost(100)), over(11*time.Hour, 12*time.Hour, cost(70))}})
	r := s.hold(90)
	s.must(r)
	s.books.Now = noon.Add(2 * time.Hour)
	if a := s.must(s.hold(1)); a.Granted || a.RefusedBy.Held != 90 || a.RefusedBy.Limit != 10 {
		t.Errorf("after its end: %+v", a)
	}
	late := s.hold(1)
	s.books.Now = noon.Add(30 * time.Hour)
	s.must(charge(r.Ref, 60))
	if w := s.window("b"); w.Spent != cost(60) || w.Limit != cost(70) || !w.Over.IsZero() {
		t.Errorf("yesterday's window: %+v", w)
	}
	if a := s.must(late); !a.Granted {
		t.Errorf("today's: %+v", a)
	}
}

// A charge that is asked for again shows a window as things are now; the one after
// it in the batch is answered by what was in force in the window when it ended.
func TestAnOverrideOfTodayIsNotOneOfYesterday(t *testing.T) {
	t.Parallel()
	s := open(t, &catalog.Budget{ID: "b", Limits: cost(10), Overrides: []*catalog.Override{over(20*time.Hour, 40*time.Hour, cost(100))}})
	first, second := s.hold(1), s.hold(1)
	s.must(first)
	s.must(second)
	s.books.Now = noon.Add(30 * time.Hour)
	for range 2 { // the second time again
		s.must(charge(first.Ref, 1))
	}
	if a := s.must(charge(second.Ref, 1)); a.States[0].Limit != 10 || !a.States[0].Overridden.IsZero() {
		t.Errorf("yesterday's window: %+v", a.States[0])
	}
}

// Steady tells how long terms hold, which is what a decision from memory is
// checked against.
func TestTermsAreSteadyBetweenTheEdges(t *testing.T) {
	t.Parallel()
	b := &catalog.Budget{Limits: cost(1), Overrides: []*catalog.Override{over(time.Hour, 3*time.Hour, cost(2)), over(2*time.Hour, 5*time.Hour, cost(3))}}
	for at := time.Duration(0); at < 6*time.Hour; at += 30 * time.Minute {
		span := b.Steady(noon.Add(at))
		if !span.Contains(noon.Add(at)) {
			t.Errorf("at %v: %v", at, span)
		}
		for other := time.Duration(0); other < 6*time.Hour; other += 30 * time.Minute {
			same := b.Terms(noon.Add(other)).Limits == b.Terms(noon.Add(at)).Limits
			if span.Contains(noon.Add(other)) && !same {
				t.Errorf("the terms at %v and %v differ, both are in %v", at, other, span)
			}
		}
	}
}
