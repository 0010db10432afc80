package ledger_test

import (
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/fulcrum-io/fulcrum/services/budget/internal/amount"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/catalog"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/ledger"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/price"
)

// everyone is an action that every kind of scope can name.
var everyone = catalog.Subject{
	Team: "t", AgentID: "a", UserID: "u", WorkflowID: "w", APIKeyID: "k", Model: "m", EnvelopeID: "e", Ancestors: []string{"parent", "root"},
}

// everyScope is a budget of each scope, by id.
func everyScope() map[string]catalog.Scope {
	return map[string]catalog.Scope{
		"tenant": {}, "team": {Team: "t"}, "agent": {AgentID: "a"}, "user": {UserID: "u"}, "workflow": {WorkflowID: "w"}, "key": {APIKeyID: "k"},
		"model": {Model: "m"}, "envelope": {EnvelopeID: "e"}, "parent": {EnvelopeID: "parent"}, "root": {EnvelopeID: "root"},
		"two at once": {Team: "t", Model: "m"},
	}
}

// ten of every unit; total tokens are the sum of the two.
var ten = amount.Amounts{amount.Cost: 10, amount.InputTokens: 10, amount.OutputTokens: 10, amount.TotalTokens: 20, amount.LLMCalls: 10, amount.ToolCalls: 10, amount.Seconds: 10}

// One reservation holds in the budgets of every scope and in the limits of the
// envelope and its ancestors, and is refused by each of them for each unit: all
// hold it, or none does.
func TestOneReservationIsHeldInEveryScopeAndUnitOrNowhere(t *testing.T) {
	t.Parallel()
	own := func(limits map[string]amount.Amounts) (out []catalog.EnvelopeLimits) {
		for _, id := range []string{"e", "parent", "root"} {
			limit, ok := limits[catalog.EnvelopeBudget(id)]
			if !ok {
				limit = ten
			}
			out = append(out, catalog.EnvelopeLimits{EnvelopeID: id, Limits: limit})
		}
		return out
	}
	world := func(t *testing.T, tight string, limit amount.Amounts) (*shelf, *ledger.Reserve) {
		var budgets []*catalog.Budget
		for id, scope := range everyScope() {
			b := &catalog.Budget{ID: id, Scope: scope, Limits: ten}
			if id == tight {
				b.Limits = limit
			}
			budgets = append(budgets, b)
		}
		s := open(t, append(budgets, &catalog.Budget{ID: "another's", Scope: catalog.Scope{Team: "x"}, Limits: cost(1)})...)
		r := s.reserve(ten)
		r.Subject, r.Envelopes = everyone, own(map[string]amount.Amounts{tight: limit})
		return s, r.Seal()
	}
	all := append(slices.Collect(maps.Keys(everyScope())), catalog.EnvelopeBudget("e"), catalog.EnvelopeBudget("parent"), catalog.EnvelopeBudget("root"))

	t.Run("held in all", func(t *testing.T) {
		t.Parallel()
		s, r := world(t, "", amount.Amounts{})
		if a := s.must(r); !a.Granted || len(a.States) != len(all) {
			t.Fatalf("held in %d budgets, want %d: %+v", len(a.States), len(all), a)
		}
		for key, w := range s.books.Windows {
			if w.Held != ten || !slices.Contains(all, key.Budget) {
				t.Errorf("%s holds %v", key.Budget, w.Held)
			}
		}
		s.must((&ledger.Settle{Ref: r.Ref, Key: "k", Usage: &ledger.Usage{
			Model: "m", Input: 9, Output: 8, ToolCalls: 7, Seconds: 6, Cost: 5, CostKnown: true,
		}}).Seal())
		for key, w := range s.books.Windows {
			if w.Spent != (amount.Amounts{5, 17, 9, 8, 10, 7, 6}) || !w.Held.IsZero() {
				t.Errorf("%s: spent %v, held %v", key.Budget, w.Spent, w.Held)
			}
		}
	})
	for _, tight := range all {
		for u := amount.Unit(0); u < amount.Units; u++ {
			t.Run("refused by "+tight+" for "+u.String(), func(t *testing.T) {
				t.Parallel()
				limit := ten
				limit[u]--
				s, r := world(t, tight, limit)
				a := s.must(r)
				if a.Granted || a.RefusedBy == nil || a.RefusedBy.Budget != tight || a.RefusedBy.Unit != u || a.RefusedBy.Limit != limit[u] || a.RefusedBy.Requested != ten[u] {
					t.Errorf("%+v, refused by %+v", a, a.RefusedBy)
				}
				for key, w := range s.books.Windows {
					if !w.Held.IsZero() || w.Changed() {
						t.Errorf("%s holds %v all the same", key.Budget, w.Held)
					}
				}
				// What is suggested is granted.
				again := s.reserve(a.Suggested)
				again.Subject, again.Envelopes = r.Subject, r.Envelopes
				if a := s.must(again.Seal()); !a.Granted {
					t.Errorf("suggested %v, and refused it: %s", again.Amounts, a.Message)
				}
			})
		}
	}
}

// A refusal says what would fit: tokens so many that their price fits, too, and
// nothing rather than an action without what was asked for.
func TestARefusalSuggestsWhatFits(t *testing.T) {
	t.Parallel()
	const million = 1_000_000 // nano-dollars a million tokens: one token costs one nano-dollar
	own := []price.Price{{Model: "m", Input: million, Output: 2 * million, Cached: million, Reasoning: 2 * million, PerCall: 7, Version: "v", From: noon.AddDate(-1, 0, 0)}}
	for _, tt := range []struct {
		name      string
		budgets   []*catalog.Budget
		ask, want amount.Amounts
		retryable bool
	}{
		{"stated money", []*catalog.Budget{{ID: "b", Limits: cost(40)}}, cost(50), cost(40), false},
		{"the least of all budgets", []*catalog.Budget{{ID: "b", Limits: cost(40)}, {ID: "c", Limits: cost(30)}}, cost(50), cost(30), false},
		{"a soft budget is no bound", []*catalog.Budget{{ID: "b", Limits: cost(40)}, {ID: "c", Limits: cost(3), Mode: catalog.Soft}}, cost(50), cost(40), false},
		{"output is cut so that the price fits", []*catalog.Budget{{ID: "b", Limits: cost(100)}},
			amount.Amounts{amount.InputTokens: 43, amount.OutputTokens: 1000, amount.LLMCalls: 1},
			amount.Amounts{amount.InputTokens: 43, amount.OutputTokens: 25, amount.TotalTokens: 68, amount.LLMCalls: 1, amount.Cost: 100}, false},
		{"output is cut to the tokens left", []*catalog.Budget{{ID: "b", Limits: amount.Amounts{amount.TotalTokens: 50}}},
			amount.Amounts{amount.InputTokens: 43, amount.OutputTokens: 1000, amount.LLMCalls: 1},
			amount.Amounts{amount.InputTokens: 43, amount.OutputTokens: 7, amount.TotalTokens: 50, amount.LLMCalls: 1, amount.Cost: 64}, false},
		{"input alone", []*catalog.Budget{{ID: "b", Limits: cost(20)}},
			amount.Amounts{amount.InputTokens: 43, amount.LLMCalls: 1},
			amount.Amounts{amount.InputTokens: 13, amount.TotalTokens: 13, amount.LLMCalls: 1, amount.Cost: 20}, false},
		{"no room for any output", []*catalog.Budget{{ID: "b", Limits: amount.Amounts{amount.TotalTokens: 43}}},
			amount.Amounts{amount.InputTokens: 43, amount.OutputTokens: 10, amount.LLMCalls: 1}, amount.Amounts{}, false},
		{"no call left", []*catalog.Budget{{ID: "b", Limits: amount.Amounts{amount.Cost: 9, amount.ToolCalls: 1}}},
			amount.Amounts{amount.ToolCalls: 1, amount.Cost: 10}, amount.Amounts{amount.ToolCalls: 1, amount.Cost: 9}, false},
		{"suspended", []*catalog.Budget{{ID: "b", Limits: cost(40), Suspended: true}}, cost(5), amount.Amounts{}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := open(t)
			s.prices = own
			s.configure(2, tt.budgets...)
			r := s.reserve(tt.ask)
			r.Subject.Model = "m"
			a := s.must(r.Seal())
			if a.Granted || a.Suggested != tt.want || a.Retryable != tt.retryable {
				t.Errorf("%+v; want %v suggested, retryable %v", a, tt.want, tt.retryable)
			}
		})
	}
}

// Retrying helps where a window ends or holds may come back, and nowhere else.
func TestARefusalSaysWhetherToTryAgain(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name         string
		spent, held  int64
		ask          int64
		envelope     bool // a limit without an end, instead of a day's
		want         bool
		wantSuggests int64
	}{
		{"spent today", 100, 0, 10, false, true, 0},
		{"held by others", 0, 95, 10, true, true, 5},
		{"spent for good", 95, 0, 10, true, false, 5},
		{"more than there ever is", 0, 0, 101, false, false, 100},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := open(t)
			if !tt.envelope {
				s = open(t, &catalog.Budget{ID: "b", Limits: cost(100)})
			}
			ask := func(n int64) *ledger.Reserve {
				r := s.hold(n)
				if tt.envelope {
					r.Envelopes = []catalog.EnvelopeLimits{{EnvelopeID: "e", Limits: cost(100)}}
				}
				return r.Seal()
			}
			if tt.held > 0 {
				s.must(ask(tt.held))
			}
			if tt.spent > 0 {
				r := ask(tt.spent)
				s.must(r)
				s.must(charge(r.Ref, tt.spent))
			}
			a := s.must(ask(tt.ask))
			if a.Granted || a.Retryable != tt.want || a.Suggested != cost(tt.wantSuggests) {
				t.Errorf("%+v", a)
			}
			if reset := !a.RefusedBy.ResetsAt.IsZero(); reset == tt.envelope {
				t.Errorf("resets at %v", a.RefusedBy.ResetsAt.Format(time.RFC3339))
			}
			if period := map[bool]string{true: "INFINITE", false: "DAILY"}[tt.envelope]; a.RefusedBy.Period.String() != period {
				t.Errorf("period %s, want %s", a.RefusedBy.Period, period)
			}
		})
	}
}
