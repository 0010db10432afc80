package postgres_test

import (
	"fmt"
	"slices"
	"time"

	"github.com/fulcrum-io/fulcrum/services/budget/internal/amount"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/ledger"
)

// model is the ledger as one would write it without a database: a tenant's
// budget, two agents' budgets and one wallet that may pay for any of them, with
// the holds by hand. It shares no rule with the product.
type model struct {
	version int // of the configuration
	terms   map[string]terms
	frozen  bool
	open    map[string]*box // by budget: its window of now
	all     []*box
	holds   []*modelHold
	told    []string // events, in no order
}

// terms are what somebody configured.
type terms struct {
	limit     pair // 0: none
	mode      string
	suspended bool
	paid      bool // by the wallet
	gone      bool // deleted
}

// box is one window of a budget, or the wallet.
type box struct {
	id      string
	start   time.Time
	terms         // as the ledger last took them over
	version int   // from which it did
	credit  int64 // of the wallet
	spent   pair
	alone   int64   // of it, corrected here and nowhere else
	lines   []int64 // percent of the limit, or balances of the wallet
	crossed int     // how many of lines were told
	paused  bool    // throttled, and one call has passed
}

// modelHold is a hold, or a charge that never had one.
type modelHold struct {
	ref     ledger.Ref
	op      *ledger.Reserve
	in      []*box
	n       pair
	state   string // held, settled, released, expired
	charged pair
	late    bool
	settled bool
	asHeld  bool  // charged without saying what was used
	cost    int64 // of the charge after corrections
	byHand  bool  // the last correction was
}

// pair is money and tokens.
type pair [2]int64

func (p pair) plus(q pair) pair { return pair{p[0] + q[0], p[1] + q[1]} }

// above is what of p exceeds q.
func (p pair) above(q pair) pair { return pair{max(p[0]-q[0], 0), max(p[1]-q[1], 0)} }

func (p pair) amounts() amount.Amounts {
	return amount.Amounts{amount.Cost: p[0], amount.InputTokens: p[1], amount.TotalTokens: p[1]}
}

func (b *box) wallet() bool { return b.id == account }

// debt is how far a wallet is below zero.
func (b *box) debt() int64 {
	if !b.wallet() {
		return 0
	}
	return max(b.spent[0]-b.credit, 0)
}

// counts is what of n a box counts.
func (b *box) counts(n pair) pair {
	if b.wallet() {
		return pair{n[0], 0}
	}
	return n
}

func (m *model) held(b *box) (sum pair) {
	for _, h := range m.holds {
		if h.state == "held" && slices.Contains(h.in, b) {
			sum = sum.plus(b.counts(h.n))
		}
	}
	return sum
}

// left is what still fits in a box of a unit, and whether anything bounds it.
func (m *model) left(b *box, unit int) (n int64, bounded bool) {
	if b.wallet() {
		return b.credit - b.spent[0] - m.held(b)[0], unit == 0
	}
	return b.limit[unit] - b.spent[unit] - m.held(b)[unit], b.limit[unit] > 0
}

// over is what is used of a box beyond its limit.
func (m *model) over(b *box) (over pair) {
	for unit := range over {
		if n, bounded := m.left(b, unit); bounded {
			over[unit] = max(-n, 0)
		}
	}
	return over
}

// drawn are the boxes that an agent's action is counted in.
func (m *model) drawn(agent string) (in []*box) {
	paid := false
	for _, id := range []string{agent, "all"} {
		if id != "" && !m.terms[id].gone {
			in, paid = append(in, m.open[id]), paid || m.terms[id].paid
		}
	}
	if paid {
		in = append(in, m.open[account])
	}
	return in
}

// touch lets the ledger look at a box: it takes over what was configured since.
func (m *model) touch(b *box) {
	now, ok := m.terms[b.id]
	if b.wallet() {
		now, ok = terms{suspended: m.frozen}, true
	}
	if !ok || now.gone || b.version == m.version {
		return
	}
	b.terms, b.version = now, m.version
	b.crossed = min(b.crossed, b.reached())
	m.cross(b, b.debt())
}

// reached is how many of its lines a box is at or beyond.
func (b *box) reached() (n int) {
	for _, line := range b.lines {
		switch {
		case b.wallet() && (b.credit != 0 || b.spent[0] != 0) && b.credit-b.spent[0] <= line,
			!b.wallet() && b.limit[0] > 0 && b.spent[0]*100 >= b.limit[0]*line,
			!b.wallet() && b.limit[1] > 0 && b.spent[1]*100 >= b.limit[1]*line:
			n++
		}
	}
	return n
}

// cross tells of each line that a box has come to, and of what it owes more by now.
func (m *model) cross(b *box, debt int64) {
	if owes := b.debt(); owes > debt {
		m.tell("wallet_overdrawn", b.id, float64(owes-debt)/1e9)
	}
	if m.terms[b.id].gone {
		return // nobody knows its lines any more
	}
	for ; b.crossed < b.reached(); b.crossed++ {
		line := b.lines[b.crossed]
		switch {
		case b.wallet() && line == 0:
			m.tell("wallet_depleted", b.id, 0.0)
		case b.wallet():
			m.tell("wallet_low", b.id, float64(line)/1e9)
		default:
			what := map[int64]string{95: "budget_critical", 100: "budget_exceeded"}[line]
			if what == "" {
				what = "budget_warning"
			}
			m.tell(what, "budget:"+b.id, fmt.Sprint(line, " in ", b.start.Year()))
		}
	}
}

func (m *model) tell(what, about string, detail any) {
	m.told = append(m.told, fmt.Sprint(what, " ", about, " ", detail))
}

// spend changes what is spent in boxes.
func (m *model) spend(in []*box, n pair) {
	for _, b := range in {
		debt := b.debt()
		b.spent = b.spent.plus(b.counts(n))
		if n[0] < 0 && !m.terms[b.id].gone {
			b.crossed = min(b.crossed, b.reached())
		}
		m.cross(b, debt)
	}
}

// verdict is what the ledger has to answer to a hold.
type verdict struct {
	granted   bool
	reason    string
	by        *box
	unit      int // -1: any
	wait      bool
	again     bool // it may be granted later as it is
	suggested pair
	warned    []string
}

// ask decides a hold of n in boxes, all of which the ledger looks at.
func (m *model) ask(in []*box, n pair) verdict {
	for _, b := range in {
		m.touch(b)
	}
	v := verdict{granted: true, unit: -1}
	var slowed []*box
	for _, b := range in {
		unit := -1
		for u := range n {
			if left, bounded := m.left(b, u); unit < 0 && n[u] > 0 && bounded && n[u] > left {
				unit = u
			}
		}
		switch {
		case b.suspended:
			return m.refuse(in, n, verdict{reason: map[bool]string{true: "WALLET_FROZEN", false: "BUDGET_SUSPENDED"}[b.wallet()], by: b, unit: -1})
		case unit < 0:
		case b.wallet():
			return m.refuse(in, n, verdict{reason: "WALLET_EXHAUSTED", by: b, unit: unit, again: n[0] <= b.credit-b.spent[0]})
		case b.mode == "soft":
			v.warned = append(v.warned, b.id)
		case b.mode == "throttle" && b.paused:
			return m.refuse(in, n, verdict{reason: "BUDGET_THROTTLED", by: b, unit: unit, wait: true, again: true})
		case b.mode == "throttle":
			slowed = append(slowed, b)
		default:
			resets := b.id == "a" && n[unit] <= b.limit[unit]
			return m.refuse(in, n, verdict{reason: "BUDGET_EXCEEDED", by: b, unit: unit, again: resets || n[unit] <= b.limit[unit]-b.spent[unit]})
		}
	}
	for _, b := range slowed {
		b.paused, v.wait = true, true
	}
	return v
}

// refuse adds the most that would fit: nothing if a unit that was asked for would be cut to zero.
func (m *model) refuse(in []*box, n pair, v verdict) verdict {
	v.suggested = n
	for _, b := range in {
		if b.suspended {
			v.suggested = pair{}
			return v
		}
		for u := range n {
			if left, bounded := m.left(b, u); bounded && b.mode != "soft" {
				v.suggested[u] = min(v.suggested[u], max(left, 0))
			}
		}
	}
	for u := range n {
		if n[u] > 0 && v.suggested[u] == 0 {
			v.suggested = pair{}
		}
	}
	return v
}

// charge is the end of a hold by a charge, or a charge without one.
func (m *model) charge(h *modelHold, n pair, asHeld bool) {
	for _, b := range h.in {
		m.touch(b)
	}
	h.late, h.settled, h.charged, h.asHeld, h.cost = h.state != "held", true, n, asHeld, n[0]
	if h.state == "held" {
		h.state = "settled"
	}
	m.spend(h.in, n)
	m.tell("cost_recorded", "reservation:"+h.ref.ID.String(), n[0])
	if over := n.above(h.n); h.op != nil && over != (pair{}) {
		m.tell("budget_overrun", "reservation:"+h.ref.ID.String(), "")
	}
}

// correct makes a charge cost n more.
func (m *model) correct(h *modelHold, n int64, byHand bool) {
	for _, b := range h.in {
		m.touch(b)
	}
	h.cost, h.byHand = h.cost+n, byHand
	m.spend(h.in, pair{n, 0})
}

func (m *model) box(id string, lines ...int64) *box {
	b := &box{id: id, start: time.Unix(0, 0).UTC(), terms: m.terms[id], version: m.version, lines: lines}
	m.open[id], m.all = b, append(m.all, b)
	return b
}

// status is how close a box is to its limit.
func (m *model) status(b *box) string {
	at := *b
	if m.terms[b.id].gone {
		at.lines = []int64{80, 95, 100}
	}
	n := at.reached()
	switch {
	case b.suspended:
		return "SUSPENDED"
	case b.wallet() && b.credit <= b.spent[0], !b.wallet() && n > 0 && at.lines[n-1] >= 100:
		return "EXCEEDED"
	case !b.wallet() && n > 0 && at.lines[n-1] >= 95:
		return "CRITICAL"
	case n > 0:
		return "WARNING"
	}
	return "OK"
}
