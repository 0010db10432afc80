package ledger_test

import (
	"slices"
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/money"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/amount"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/catalog"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/ledger"
)

// node is an envelope of a tree, with limits of its own.
type node struct {
	id    uuid.UUID
	own   catalog.EnvelopeLimits
	above []*node // nearest first
}

func (n *node) list() []catalog.EnvelopeLimits {
	out := []catalog.EnvelopeLimits{n.own}
	for _, a := range n.above {
		out = append(out, a.own)
	}
	return out
}

func (n *node) below(limit int64, slice bool) *node {
	child := envelope(limit, slice)
	child.above = append([]*node{n}, n.above...)
	return child
}

func envelope(limit int64, slice bool) *node {
	id := uuid.New()
	return &node{id: id, own: catalog.EnvelopeLimits{EnvelopeID: id.String(), Limits: cost(limit), Slice: slice}}
}

func (s *shelf) take(n *node) *ledger.TakeSlice {
	list := n.list()
	return (&ledger.TakeSlice{Ref: ledger.Ref{Tenant: s.tenant, ID: n.id}, Own: list[0], Above: list[1:]}).Seal()
}

func (s *shelf) end(n *node) *ledger.ReturnSlice {
	return &ledger.ReturnSlice{Ref: ledger.Ref{Tenant: s.tenant, ID: n.id}}
}

func (s *shelf) holdIn(n *node, amount int64) *ledger.Reserve {
	r := s.hold(amount)
	r.Envelopes = n.list()
	return r.Seal()
}

// stands checks what an envelope's own limits hold and have spent.
func (s *shelf) stands(n *node, held, spent int64) {
	s.t.Helper()
	w := s.window(catalog.EnvelopeBudget(n.id.String()))
	if w.Held != cost(held) || w.Spent != cost(spent) {
		s.t.Errorf("%s holds %v and spent %v, want %d and %d", w.Budget, w.Held[amount.Cost], w.Spent[amount.Cost], held, spent)
	}
}

// A child's slice is held in its parent once, drawn on without holding twice,
// moves to spent as it is charged, and its rest comes back once.
func TestASliceIsHeldDrawnOnAndReturned(t *testing.T) {
	t.Parallel()
	s := open(t)
	parent := envelope(100, false)
	child := parent.below(60, true)
	s.must(s.holdIn(parent, 30))
	if a := s.must(s.take(parent.below(71, true))); a.Granted || a.RefusedBy.Remaining != 70 {
		t.Errorf("more than is left: %+v", a)
	}
	if a := s.must(s.take(child)); !a.Granted {
		t.Fatalf("%+v", a)
	}
	if a := s.must(s.take(child)); !a.Granted {
		t.Errorf("again: %+v", a)
	}
	other := s.take(child)
	other.Own.Limits = cost(61)
	if _, err := s.do(other.Seal()); !fault.HasReason(err, "IDEMPOTENCY_KEY_REUSED") {
		t.Errorf("again with another amount: %v", err)
	}
	s.stands(parent, 90, 0)
	if a := s.must(s.holdIn(parent, 11)); a.Granted {
		t.Errorf("the parent can still use what it handed over: %+v", a)
	}
	one, two := s.holdIn(child, 20), s.holdIn(child, 30)
	for _, r := range []*ledger.Reserve{one, two} {
		if a := s.must(r); !a.Granted || len(a.States) != 1 {
			t.Fatalf("%+v", a)
		}
	}
	if a := s.must(s.holdIn(child, 11)); a.Granted || a.RefusedBy.Budget != catalog.EnvelopeBudget(child.id.String()) {
		t.Errorf("beyond the slice: %+v", a)
	}
	s.stands(parent, 90, 0)
	s.must(charge(one.Ref, 15))
	s.stands(child, 30, 15)
	s.stands(parent, 75, 15)

	// It ends with a hold open: only what that may cost stays.
	if a := s.must(s.end(child)); a.Amounts != cost(15) {
		t.Errorf("returned %v, want 15", a.Amounts)
	}
	if a := s.must(s.end(child)); a.Amounts != cost(15) {
		t.Errorf("again: returned %v, want the same 15", a.Amounts)
	}
	s.stands(parent, 60, 15)
	if a := s.must(s.holdIn(child, 1)); a.Granted || a.Reason != ledger.ReasonEnded {
		t.Errorf("an envelope that ended holds: %+v", a)
	}
	s.must(charge(two.Ref, 25))
	s.stands(child, 0, 40)
	s.stands(parent, 30, 40)
	if _, err := s.do(s.take(child)); !fault.HasReason(err, ledger.ReasonEnded) {
		t.Errorf("taken after it ended: %v", err)
	}
	never := parent.below(1, true)
	s.must(s.end(never))
	if _, err := s.do(s.take(never)); !fault.HasReason(err, ledger.ReasonEnded) {
		t.Errorf("taken after it was returned: %v", err)
	}
}

// What a slice does not limit, though the envelopes above do, is refused: use of
// it would count nowhere.
func TestASliceLimitsWhatItsParentLimits(t *testing.T) {
	t.Parallel()
	s := open(t)
	parent := envelope(100, false)
	parent.own.Limits[amount.LLMCalls] = 5
	child := parent.below(10, true)
	if _, err := s.do(s.take(child)); !fault.HasReason(err, "SLICE_INCOMPLETE") {
		t.Errorf("%v", err)
	}
	child.own.Limits[amount.LLMCalls] = 2
	if a := s.must(s.take(child)); !a.Granted {
		t.Errorf("%+v", a)
	}
}

// Whatever happens in a tree of slices, every envelope holds its own holds and
// the shares of the slices below it, and has spent what it and they have spent.
func TestSlicesConserve(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		s := open(t)
		root := envelope(1000, false)
		mid := root.below(400, true)
		plain := mid.below(300, false)
		leaf, twin := plain.below(120, true), mid.below(90, true)
		deep := leaf.below(50, true)
		all := []*node{root, mid, plain, leaf, twin, deep}
		s.must(s.holdIn(root, 1)) // its window is there
		taken, ended := map[*node]bool{}, map[*node]bool{}
		sliced := []*node{mid, leaf, twin, deep}
		for _, n := range sliced {
			if n == leaf {
				s.must(s.holdIn(plain, 1))
			}
			taken[n] = s.must(s.take(n)).Granted
		}
		type held struct {
			at      *node
			op      *ledger.Reserve
			open    bool
			charged int64
		}
		var holds []*held
		pick := func() *held {
			if len(holds) == 0 {
				rt.Skip("nothing held yet")
			}
			return rapid.SampledFrom(holds).Draw(rt, "hold")
		}
		rt.Repeat(map[string]func(*rapid.T){
			"reserve": func(rt *rapid.T) {
				n := rapid.SampledFrom(all).Draw(rt, "envelope")
				r := s.holdIn(n, rapid.Int64Range(1, 60).Draw(rt, "n"))
				if a := s.must(r); a.Granted {
					holds = append(holds, &held{at: n, op: r, open: true})
					if rapid.Bool().Draw(rt, "read back in another order") {
						slices.Reverse(s.books.Reservations[r.Ref].Behind)
					}
				}
			},
			"settle": func(rt *rapid.T) {
				h := pick()
				if h.charged > 0 {
					return
				}
				n := rapid.Int64Range(1, 90).Draw(rt, "n") // less, more, or after it was given back
				s.must(charge(h.op.Ref, n))
				h.open, h.charged = false, n
			},
			"correct": func(rt *rapid.T) {
				h := pick()
				if h.charged == 0 {
					return
				}
				n := rapid.Int64Range(1, 90).Draw(rt, "n")
				s.must(&ledger.Correct{Ref: h.op.Ref, Rerate: uuid.New(), Cost: money.Nano(n), Version: "v"})
				h.charged = n
			},
			"release": func(rt *rapid.T) {
				if h := pick(); h.charged == 0 {
					s.must(&ledger.Release{Ref: h.op.Ref, Key: "r"})
					h.open = false
				}
			},
			"end a slice": func(rt *rapid.T) {
				n := rapid.SampledFrom(sliced).Draw(rt, "slice")
				s.must(s.end(n))
				ended[n] = true
			},
			"": func(rt *rapid.T) {
				for _, n := range all {
					w := s.books.Windows[ledger.BehindOf(ledger.WindowKey{Tenant: s.tenant}, catalog.EnvelopeBudget(n.id.String())).Via]
					if w == nil {
						continue
					}
					var wantHeld, wantSpent int64
					for _, h := range holds {
						if h.at == n || under(h.at, n) && !throughSlice(h.at, n) {
							if h.open {
								wantHeld += h.op.Amounts[amount.Cost]
							}
						}
						if h.at == n || under(h.at, n) {
							wantSpent += h.charged
						}
					}
					for _, child := range sliced {
						if !taken[child] || !under(child, n) || slicedBetween(child, n) {
							continue
						}
						c := s.books.Windows[ledger.BehindOf(ledger.WindowKey{Tenant: s.tenant}, catalog.EnvelopeBudget(child.id.String())).Via]
						left := max(c.Limit[amount.Cost]-c.Spent[amount.Cost], 0)
						if ended[child] {
							left = min(left, c.Held[amount.Cost])
						}
						wantHeld += left
					}
					wantHeld += seeds(n, root, mid, plain)
					if w.Held[amount.Cost] != wantHeld || w.Spent[amount.Cost] != wantSpent {
						rt.Fatalf("%s: held %d, spent %d; want %d and %d", w.Budget, w.Held[amount.Cost], w.Spent[amount.Cost], wantHeld, wantSpent)
					}
					if over := max(wantHeld+wantSpent-w.Limit[amount.Cost], 0); w.Over[amount.Cost] != over {
						rt.Fatalf("%s: over %d, want %d", w.Budget, w.Over[amount.Cost], over)
					}
				}
			},
		})
	})
}

// seeds are the holds of 1 that the test begins with: one in root, and one in
// plain, which draws on mid, whose slice it comes out of.
func seeds(n, root, mid, plain *node) int64 {
	if n == root || n == mid || n == plain {
		return 1
	}
	return 0
}

func under(n, above *node) bool {
	for _, a := range n.above {
		if a == above {
			return true
		}
	}
	return false
}

// throughSlice reports whether a hold in n does not reach above: there is a slice on
// the way, n's own counted.
func throughSlice(n, above *node) bool { return n.own.Slice || slicedBetween(n, above) }

// slicedBetween reports whether there is a slice strictly between the two.
func slicedBetween(n, above *node) bool {
	for _, a := range n.above {
		if a == above {
			return false
		}
		if a.own.Slice {
			return true
		}
	}
	return false
}
