package ledger_test

import (
	"testing"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/services/budget/internal/amount"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/catalog"
)

func TestEveryTransactionOfABatchHasAnIDOfItsOwn(t *testing.T) {
	t.Parallel()
	s := open(t, &catalog.Budget{ID: "all", Mode: catalog.Hard, Limits: amount.Amounts{amount.Cost: 1_000_000}})
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
		t.Errorf("%d transactions for 1000 holds", len(seen))
	}
}
