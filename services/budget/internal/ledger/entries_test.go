package ledger_test

import (
	"testing"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/services/budget/internal/amount"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/catalog"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/ledger"
)

func TestEveryTransactionOfABatchHasAnIDOfItsOwn(t *testing.T) {
	t.Parallel()
	s := open(t, &catalog.Budget{ID: "all", Mode: catalog.Soft, Limits: amount.Amounts{amount.Cost: 1}})
	s.must(s.hold(1)) // makes the window
	for range 1000 {  // one batch
		op := s.hold(1)
		op.Prepare(&s.books)
		if a, err := op.Apply(&s.books); err != nil || !a.Granted {
			t.Fatal(a, err)
		}
	}
	seen := make(map[uuid.UUID]bool)
	for _, tx := range s.books.Writes.Transactions {
		if seen[tx.ID] || tx.ID.Version() != 7 || tx.ID.Variant() != uuid.RFC4122 {
			t.Fatalf("id %v, seen before: %v", tx.ID, seen[tx.ID])
		}
		seen[tx.ID] = true
	}
	if len(seen) != 1000 {
		t.Errorf("%d transactions for 1000 holds beyond a limit", len(seen))
	}
}

func TestWindowsAreAlikeIfTheSameWasPostedToThem(t *testing.T) {
	t.Parallel()
	limits := amount.Amounts{amount.Cost: 1}
	s := open(t, &catalog.Budget{ID: "all", Mode: catalog.Soft, Limits: limits}, &catalog.Budget{ID: "too", Mode: catalog.Soft, Limits: limits},
		&catalog.Budget{ID: "team", Scope: catalog.Scope{Team: "a"}, Mode: catalog.Soft, Limits: limits})
	of := func(team string, n int64) *ledger.Reserve {
		r := s.hold(n)
		r.Subject.Team = team
		return r.Seal()
	}
	s.must(of("a", 1)) // makes the windows
	for _, r := range []*ledger.Reserve{of("b", 2), of("a", 3)} {
		r.Prepare(&s.books)
		if _, err := r.Apply(&s.books); err != nil {
			t.Fatal(err)
		}
	}
	w := &s.books.Writes
	at := make(map[string]ledger.Posted)
	for _, p := range w.Posted {
		at[p.Budget] = p
	}
	if w.Lines() != 10 || len(at) != 3 { // held, and beyond the limit
		t.Fatalf("%d lines in %d windows, want 10 in 3", w.Lines(), len(at))
	}
	for _, tt := range []struct {
		a, b string
		want bool
	}{{"all", "too", true}, {"all", "all", true}, {"all", "team", false}, {"team", "all", false}} {
		if got := w.Alike(at[tt.a], at[tt.b]); got != tt.want {
			t.Errorf("%s and %s are alike: %v, want %v", tt.a, tt.b, got, tt.want)
		}
	}
}

// A hold is posted if it moves more than it says itself: into overage.
func TestAHoldThatSaysAllItMovesIsNotPosted(t *testing.T) {
	t.Parallel()
	s := open(t, &catalog.Budget{ID: "all", Mode: catalog.Soft, Limits: amount.Amounts{amount.Cost: 10}}, &catalog.Budget{ID: "too", Mode: catalog.Hard, Limits: amount.Amounts{amount.Cost: 100}})
	s.must(s.hold(1)) // makes the windows
	for _, tt := range []struct {
		amount              int64
		transactions, lines int
	}{{9, 0, 0}, {1, 1, 3}} {
		s.books.Writes = ledger.Writes{}
		op := s.hold(tt.amount)
		op.Prepare(&s.books)
		if _, err := op.Apply(&s.books); err != nil {
			t.Fatal(err)
		}
		w := &s.books.Writes
		if len(w.Transactions) != tt.transactions || w.Lines() != tt.lines || w.Reservations[0].Unposted != (tt.lines == 0) {
			t.Errorf("a hold of %d posts %d transactions and %d lines, and says %+v", tt.amount, len(w.Transactions), w.Lines(), w.Reservations[0])
		}
	}
}
