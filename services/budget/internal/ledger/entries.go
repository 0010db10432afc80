package ledger

import (
	"encoding/binary"
	"iter"
	"time"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/services/budget/internal/amount"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/calendar"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/catalog"
)

var never = calendar.Never

// Account is one of the accounts of a budget window.
type Account string

// The accounts. held and spent of a window are what went into the account of
// that name less what left it; over is what left overage less what came back.
const (
	Available Account = "available"
	Held      Account = "held"
	Spent     Account = "spent"
	Overage   Account = "overage"
	Suspense  Account = "suspense" // pays for charges that no budget covers
	External  Account = "external" // where a wallet's credit comes from
)

// The kinds of transactions.
const (
	KindHold       = "hold"
	kindSettle     = "settle"
	kindRelease    = "release"
	kindExpire     = "expire"
	kindCharge     = "charge"
	kindLimits     = "limits"
	kindCarry      = "carry"
	kindCorrection = "correction"
)

// Transaction is one movement of the ledger, with its cause. A batch numbers
// those of each tenant from 1, in the order in which they happened.
type Transaction struct {
	Tenant, ID  uuid.UUID
	Kind        string
	Reservation uuid.UUID // uuid.Nil when limits moved or usage was carried over
}

// Entry is amounts that went from one account of a window to another.
type Entry struct {
	Window      WindowKey // Budget "" and Start 0 without a budget
	Transaction uuid.UUID
	Line        int16
	From, To    Account
	Amounts     amount.Amounts
}

// Posting is an Entry as a batch has it: its window and its transaction are known.
type Posting struct {
	Ref      int32 // the number of its transaction
	Line     int16
	From, To Account
	Amounts  amount.Amounts

	next int32 // of the same window, counted from 1
}

// posting is a transaction being written.
type posting struct {
	id   uuid.UUID
	ref  int32
	line int16
}

func (b *Books) transaction(tenant, reservation uuid.UUID, kind string) *posting {
	id := b.Writes.nextID()
	b.Writes.Transactions = append(b.Writes.Transactions, Transaction{tenant, id, kind, reservation})
	if b.Writes.numbered == nil {
		b.Writes.numbered = make(map[uuid.UUID]int32)
	}
	b.Writes.numbered[tenant]++
	return &posting{id: id, ref: b.Writes.numbered[tenant]}
}

// nextID is a fresh id: those of a batch count up from the first, which is random
// (RFC 9562, section 6.2, method 2).
func (w *Writes) nextID() uuid.UUID {
	if w.lastID == uuid.Nil {
		w.lastID = uuid.Must(uuid.NewV7())
		w.lastID[12] &= 0x7f // room to count
		return w.lastID
	}
	count := w.lastID[12:]
	binary.BigEndian.PutUint32(count, binary.BigEndian.Uint32(count)+1)
	return w.lastID
}

// post writes one line of a window, unless nothing moves.
func (b *Books) post(tx *posting, w *Window, from, to Account, a amount.Amounts) {
	if a.IsZero() {
		return
	}
	b.Writes.postings = append(b.Writes.postings, Posting{tx.ref, tx.line, from, to, a, 0})
	tx.line++
	n := int32(len(b.Writes.postings))
	if i := w.posted; i < len(b.Writes.Posted) && b.Writes.Posted[i].Window == w {
		b.Writes.postings[b.Writes.Posted[i].last-1].next = n
		b.Writes.Posted[i].last = n
		b.Writes.Posted[i].Lines++
		return
	}
	w.posted = len(b.Writes.Posted)
	b.Writes.Posted = append(b.Writes.Posted, Posted{w, 1, n, n})
}

// Posted is a window that a batch has posted to.
type Posted struct {
	*Window
	Lines       int32
	first, last int32 // of them, counted from 1
}

// FirstOf is the first of what was posted to a window.
func (w *Writes) FirstOf(p Posted) *Posting { return &w.postings[p.first-1] }

// PostingsOf are what was posted to a window, in order.
func (w *Writes) PostingsOf(p Posted) iter.Seq[*Posting] {
	return func(yield func(*Posting) bool) {
		for n := p.first; n != 0; n = w.postings[n-1].next {
			if !yield(&w.postings[n-1]) {
				return
			}
		}
	}
}

// Alike reports whether the same was posted to two windows, but for the numbers
// of the lines.
func (w *Writes) Alike(a, b Posted) bool {
	x, y := a.first, b.first
	for x != 0 && y != 0 {
		p, q := &w.postings[x-1], &w.postings[y-1]
		if p.Ref != q.Ref || p.From != q.From || p.To != q.To || p.Amounts != q.Amounts {
			return false
		}
		x, y = p.next, q.next
	}
	return x == y
}

// Lines is how many lines were posted in all.
func (w *Writes) Lines() int { return len(w.postings) }

// Expect makes room for what so many operations post.
func (w *Writes) Expect(ops int) {
	if ops == 0 {
		return
	}
	w.postings = make([]Posting, 0, 4*ops)
	w.Transactions = make([]Transaction, 0, ops+1)
}

// uncovered stands for the windows of charges that no budget covered when they
// were made. It has no row.
func (b *Books) uncovered(tenant uuid.UUID) *Window {
	for _, p := range b.Writes.Posted {
		if p.WindowKey == (WindowKey{Tenant: tenant}) {
			return p.Window
		}
	}
	return &Window{WindowKey: WindowKey{Tenant: tenant}}
}

// overage writes what w.Over changed by since it was was.
func (b *Books) overage(tx *posting, w *Window, was amount.Amounts) {
	if w.Over == was {
		return
	}
	b.post(tx, w, Overage, Available, w.Over.Above(was))
	b.post(tx, w, Available, Overage, was.Above(w.Over))
}

// move changes a window's counters: release gives back held, charge adds to
// spent, first out of what is released.
func (b *Books) move(tx *posting, w *Window, hold, release, charge amount.Amounts) {
	was := w.move(hold, release, charge)
	hold, release, charge = w.counts(hold), w.counts(release), w.counts(charge)
	purse := w.purse()
	b.post(tx, w, purse, Held, hold)
	if !release.IsZero() || !charge.IsZero() {
		b.post(tx, w, Held, Spent, lesser(release, charge))
		b.post(tx, w, Held, purse, release.Above(charge))
		b.post(tx, w, purse, Spent, charge.Above(release))
	}
	b.overage(tx, w, was)
}

// move changes the counters alone, and returns what was over before.
func (w *Window) move(hold, release, charge amount.Amounts) (was amount.Amounts) {
	was, debt := w.Over, w.debt()
	w.Held, _ = w.Held.Plus(w.counts(hold))
	w.Held = w.Held.Minus(w.counts(release))
	w.Spent, _ = w.Spent.Plus(w.counts(charge))
	w.settleOver()
	w.changed = true
	w.owed += w.debt() - debt
	return was
}

// hold moves a hold's amounts in each of its windows. It is its own entry in the
// books, unless it moved what it does not say.
func (b *Books) hold(res *Reservation, windows []*Window) {
	res.Unposted = true
	b.overs = b.overs[:0]
	for _, w := range windows {
		was := w.move(res.Amounts, amount.Amounts{}, amount.Amounts{})
		b.overs = append(b.overs, was)
		res.Unposted = res.Unposted && was == w.Over
	}
	if res.Unposted {
		return
	}
	tx := b.transaction(res.Tenant, res.ID, KindHold)
	for i, w := range windows {
		b.post(tx, w, w.purse(), Held, w.counts(res.Amounts))
		b.overage(tx, w, b.overs[i])
	}
}

// purse is the account that pays for what is held and spent of a window.
func (w *Window) purse() Account {
	if w.Budget == catalog.Suspense.ID {
		return Suspense
	}
	return Available
}

// debt is how far charges have brought a wallet below zero.
func (w *Window) debt() int64 {
	if w.Mode != catalog.Prepaid {
		return 0
	}
	return max(-w.Balance(), 0)
}

// Carry takes over into a window that has just begun what was used since its
// start under another period or time zone of the same budget. What is still held
// there counts as spent: it will be settled there.
func (b *Books) Carry(key WindowKey, used amount.Amounts) {
	w := b.Windows[key]
	if w == nil || used.IsZero() {
		return
	}
	b.move(b.transaction(key.Tenant, uuid.Nil, kindCarry), w, amount.Amounts{}, amount.Amounts{}, used)
}

// fits reports whether adding a to what is used of every window stays within
// the range of the counters.
func fits(windows []*Window, a amount.Amounts) bool {
	for _, w := range windows {
		used, ok := w.Held.Plus(w.Spent)
		if !ok {
			return false
		}
		if _, ok := used.Plus(a); !ok {
			return false
		}
	}
	return true
}

func lesser(a, b amount.Amounts) amount.Amounts {
	for u, n := range b {
		a[u] = min(a[u], n)
	}
	return a
}

// Spend is one charge as the summaries add it up.
type Spend struct {
	Tenant  uuid.UUID
	Hour    time.Time // of the tenant's clock
	Subject catalog.Subject
	Model   string
	Charged amount.Amounts
	Failed  bool
	Windows []*Window // that were charged
	Told    bool      // the caller said what was used; else it is what was held
}
