package postgres

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/services/budget/internal/ledger"
)

func reservationOf(tenant uuid.UUID, budgets ...string) *ledger.Reservation {
	r := &ledger.Reservation{Ref: ledger.Ref{Tenant: tenant, ID: uuid.New()}, CreatedAt: time.UnixMicro(1).UTC(), ExpiresAt: time.UnixMicro(2).UTC()}
	for _, b := range budgets {
		r.Parts = append(r.Parts, ledger.WindowKey{Tenant: tenant, Budget: b})
	}
	return r
}

// The latest reservations are remembered as they are, with their ends, and the
// oldest are forgotten by the generation.
func TestRecentReservationsAreRememberedByTheGeneration(t *testing.T) {
	t.Parallel()
	r := newRecent()
	tenant := uuid.New()
	var all []*ledger.Reservation
	for i := range 2*mostRecent + 20 {
		all = append(all, reservationOf(tenant, fmt.Sprint("budget-", i)))
	}
	for list := range slices.Chunk(all[:mostRecent+10], 1000) {
		r.add(&ledger.Writes{Reservations: list})
	}
	old, young := all[5], all[mostRecent+5]
	r.add(&ledger.Writes{Settlements: []*ledger.Settlement{{Ref: old.Ref}}})
	for _, tt := range []struct {
		*ledger.Reservation
		ended bool
	}{{old, true}, {all[6], false}, {young, false}} {
		m, ok := r.get(tt.Ref)
		if !ok || m.ended != tt.ended || !slices.Equal(m.reservation.Parts, tt.Parts) || m.reservation.Ref != tt.Ref {
			t.Errorf("%v: %+v %v", tt.Ref, m, ok)
		}
	}
	r.forget(young.Ref)
	r.add(&ledger.Writes{Reservations: all[mostRecent+10:]})
	for _, gone := range []*ledger.Reservation{old, young} {
		if _, ok := r.get(gone.Ref); ok {
			t.Errorf("%v is still remembered", gone.Ref)
		}
	}
	if len(r.unpacked) > mostUnpacked {
		t.Errorf("%d batches wait to be packed", len(r.unpacked))
	}
	r.pack()
	if last := all[len(all)-1]; len(r.new.places)+len(r.old.places) > 2*mostRecent {
		t.Errorf("remembers %d and %d", len(r.new.places), len(r.old.places))
	} else if _, ok := r.get(last.Ref); !ok {
		t.Error("the last is not remembered")
	}
}

// What rows share is sent once; each row gets its own parts all the same.
func TestRowsOfABatchKeepTheirOwnParts(t *testing.T) {
	t.Parallel()
	tenant := uuid.New()
	behind := reservationOf(tenant, "a")
	behind.Behind = []ledger.Behind{ledger.BehindOf(ledger.WindowKey{Tenant: tenant, Budget: "b"}, "slice")}
	for name, tt := range map[string]struct {
		list   []*ledger.Reservation
		shared bool
	}{
		"one":                {[]*ledger.Reservation{reservationOf(tenant, "a", "b")}, true},
		"all on one path":    {[]*ledger.Reservation{reservationOf(tenant, "a", "b"), reservationOf(tenant, "a", "b")}, true},
		"there and back":     {[]*ledger.Reservation{reservationOf(tenant, "a"), reservationOf(tenant, "b"), reservationOf(tenant, "a")}, false},
		"none, then some":    {[]*ledger.Reservation{reservationOf(tenant), reservationOf(tenant, "a")}, false},
		"some, then none":    {[]*ledger.Reservation{reservationOf(tenant, "a"), reservationOf(tenant)}, false},
		"none at all":        {[]*ledger.Reservation{reservationOf(tenant), reservationOf(tenant)}, true},
		"one behind a slice": {[]*ledger.Reservation{behind}, true},
		"behind, then not":   {[]*ledger.Reservation{behind, reservationOf(tenant, "a", "b")}, false},
	} {
		b := &batch{Store: &Store{}}
		arg := b.reservationParams(tt.list)
		if shared := len(arg.Firsts) == 0; shared != tt.shared || len(arg.Lasts) != len(arg.Firsts) {
			t.Errorf("%s: shared %v, firsts %v, lasts %v", name, shared, arg.Firsts, arg.Lasts)
			continue
		}
		for i, r := range tt.list {
			first, last := 0, len(arg.BudgetIds)
			if !tt.shared {
				first, last = int(arg.Firsts[i])-1, int(arg.Lasts[i])
			}
			var want []string
			for _, p := range r.Parts {
				want = append(want, p.Budget)
			}
			for _, p := range r.Behind {
				want = append(want, p.Key.Budget)
			}
			if got := arg.BudgetIds[first:last]; !slices.Equal(got, want) {
				t.Errorf("%s: row %d has %v, want %v", name, i, got, want)
			}
		}
	}
}
