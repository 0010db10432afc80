package ledger_test

import (
	"testing"
	"time"

	"github.com/fulcrum-io/fulcrum/services/budget/internal/catalog"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/ledger"
)

// A window that is over takes no new holds: they go to the window of now. What
// was held in it is settled there, once, however the clock jumps meanwhile.
func TestAClosedWindowTakesNoNewHolds(t *testing.T) {
	t.Parallel()
	s := open(t, &catalog.Budget{ID: "b", Limits: cost(10)})
	held := s.hold(8)
	s.must(held)
	today := s.window("b")

	s.books.Now = noon.AddDate(0, 0, 1)
	if a := s.must(s.hold(10)); !a.Granted || a.States[0].Held != 10 {
		t.Errorf("tomorrow's window is not empty: %+v", a)
	}
	if today.Held != cost(8) {
		t.Errorf("the closed window holds %v, want the 8 of before", today.Held)
	}
	s.books.Now = noon.Add(-time.Minute) // the clock jumps back
	if a := s.must(s.hold(3)); a.Granted || a.RefusedBy.Held != 8 {
		t.Errorf("after a jump back: %+v", a)
	}
	s.books.Now = noon.AddDate(0, 0, 2) // and far ahead
	s.must(charge(held.Ref, 9))
	if today.Spent != cost(9) || !today.Held.IsZero() {
		t.Errorf("the closed window: %+v", today)
	}
	if a, err := s.do(&ledger.Release{Ref: held.Ref, Key: "r"}); err == nil {
		t.Errorf("given back after it was settled: %+v", a)
	}
	if today.Spent != cost(9) || !today.Held.IsZero() {
		t.Errorf("the closed window was written after all: %+v", today)
	}
}

// window is the window of a budget that is there first.
func (s *shelf) window(budget string) *ledger.Window {
	s.t.Helper()
	for key, w := range s.books.Windows {
		if key.Budget == budget {
			return w
		}
	}
	s.t.Fatalf("budget %s has no window", budget)
	return nil
}
