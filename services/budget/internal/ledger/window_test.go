package ledger_test

import (
	"testing"
	"time"

	"github.com/fulcrum-io/fulcrum/services/budget/internal/amount"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/catalog"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/ledger"
)

func TestAWindowKnowsWhetherOnlyWhatIsHeldChanged(t *testing.T) {
	t.Parallel()
	row := ledger.Window{
		End: noon, ConfigVersion: 3, Version: 4, Mode: catalog.Soft, Limit: amount.Amounts{10}, Held: amount.Amounts{1}, Spent: amount.Amounts{2}, ReachedBP: 50,
	}
	for name, tt := range map[string]struct {
		change func(*ledger.Window)
		only   bool
	}{
		"nothing":         {func(*ledger.Window) {}, true},
		"held":            {func(w *ledger.Window) { w.Held[6] = 5 }, true},
		"pace":            {func(w *ledger.Window) { w.ThrottledUntil = noon }, true},
		"spent":           {func(w *ledger.Window) { w.Spent[6] = 1 }, false},
		"overage":         {func(w *ledger.Window) { w.Over[0] = 1 }, false},
		"limit":           {func(w *ledger.Window) { w.Limit[0] = 11 }, false},
		"end":             {func(w *ledger.Window) { w.End = noon.Add(time.Hour) }, false},
		"configuration":   {func(w *ledger.Window) { w.ConfigVersion++ }, false},
		"mode":            {func(w *ledger.Window) { w.Mode = catalog.Hard }, false},
		"suspension":      {func(w *ledger.Window) { w.Suspended = true }, false},
		"threshold":       {func(w *ledger.Window) { w.ReachedBP = 80 }, false},
		"another version": {func(w *ledger.Window) { w.Version++ }, false},
	} {
		w := row
		tt.change(&w)
		if got := w.OnlyHeld(&row); got != tt.only {
			t.Errorf("%s changed: only held %v, want %v", name, got, tt.only)
		}
	}
}
