package ledger

import (
	"slices"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/amount"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/calendar"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/catalog"
)

// A slice is an envelope whose limits are held in the envelopes above it. What
// it may still use stands there as held, and what it is charged moves there
// from held to spent. Nothing about that is stored twice: at every moment each
// window behind a slice holds, besides its own holds, the share of the slice.

// Slice is an envelope's slice as it was taken. One that ended before it was
// taken has nothing behind it, and is never taken.
type Slice struct {
	Ref
	Hash     [32]byte
	Behind   []Behind
	Ended    bool
	Returned amount.Amounts // when it ended
}

// Behind is a window that stands behind a slice, whose own window is Via.
type Behind struct{ Key, Via WindowKey }

// BehindOf is the window behind the slice of a budget of the same tenant.
func BehindOf(key WindowKey, via string) Behind {
	return Behind{key, envelopeWindow(key.Tenant, via)}
}

// envelopeWindow is the one window of an envelope's own limits.
func envelopeWindow(tenant uuid.UUID, budget string) WindowKey {
	return WindowKey{tenant, budget, calendar.Always.UnixMicro()}
}

func behind(tenant uuid.UUID, list []catalog.Behind) (out []Behind) {
	for _, l := range list {
		out = append(out, BehindOf(envelopeWindow(tenant, l.Budget), l.Via))
	}
	return out
}

// share is what a slice may still use: what the windows behind it hold for it.
// After its end that is no more than what its open holds may still cost.
func (w *Window) share() (share amount.Amounts) {
	for u, limit := range w.Limit {
		if limit > 0 {
			share[u] = max(limit-w.Spent[u], 0)
		}
		if w.Suspended {
			share[u] = min(share[u], w.Held[u])
		}
	}
	return share
}

// mirror repeats in the windows behind slices what moves in the slices.
type mirror struct {
	books   *Books
	windows []*Window
	vias    []*Window
	before  []amount.Amounts // share of each via
}

// mirror takes note of the shares as they are before anything moves.
func (b *Books) mirror(list []Behind) (*mirror, error) {
	m := &mirror{books: b}
	if len(list) == 0 {
		return m, nil
	}
	draws := make([]Draw, 0, len(list))
	for _, at := range nearestFirst(list) {
		via := b.Windows[at.Via]
		if via == nil {
			return nil, fault.New(fault.Down, "the ledger row of budget %s is not there yet", at.Via.Budget)
		}
		m.vias, m.before = append(m.vias, via), append(m.before, via.share())
		draws = append(draws, Draw{Key: at.Key})
	}
	var err error
	m.windows, err = b.enter(draws)
	return m, err
}

// nearestFirst puts a window that is a slice itself before those behind it: what
// was read from rows comes in the order of their keys.
func nearestFirst(list []Behind) []Behind {
	out, rest := make([]Behind, 0, len(list)), slices.Clone(list)
	for len(rest) > 0 {
		i := slices.IndexFunc(rest, func(at Behind) bool {
			return !slices.ContainsFunc(rest, func(other Behind) bool { return other.Key == at.Via })
		})
		i = max(i, 0) // envelopes are a tree: there is always one
		out, rest = append(out, rest[i]), slices.Delete(rest, i, i+1)
	}
	return out
}

// move follows the shares to where they are now, and charges. The windows are
// nearest first, so that one which is a slice itself has moved before those
// behind it do.
func (m *mirror) move(tx *posting, charge amount.Amounts) {
	for i, w := range m.windows {
		now := m.vias[i].share()
		m.books.move(tx, w, now.Above(m.before[i]), m.before[i].Above(now), charge)
	}
}

// reprice is move for a charge that costs something else by now.
func (m *mirror) reprice(tx *posting, up, down amount.Amounts) {
	for i, w := range m.windows {
		m.books.reprice(tx, w, up, down)
		now := m.vias[i].share()
		m.books.move(tx, w, now.Above(m.before[i]), m.before[i].Above(now), amount.Amounts{})
	}
}

// TakeSlice holds the limits of an envelope in the limits of the envelopes above
// it, all or none, once.
type TakeSlice struct {
	Ref   // the envelope's
	Own   catalog.EnvelopeLimits
	Above []catalog.EnvelopeLimits // nearest first

	hash   [32]byte
	behind []Behind
	own    []Draw
	above  []Draw
}

// Of implements Op.
func (t *TakeSlice) Of() Ref { return t.Ref }

// Seal fixes the request: from then on its hash stands for its content.
func (t *TakeSlice) Seal() *TakeSlice {
	var h hasher
	for _, l := range append([]catalog.EnvelopeLimits{t.Own}, t.Above...) {
		h.text(l.EnvelopeID)
		h.amounts(l.Limits)
	}
	t.hash = h.sum("slice")
	return t
}

// Prepare implements Op.
func (t *TakeSlice) Prepare(b *Books) []Draw {
	own := t.Own
	own.Slice = true
	_, all := catalog.Split(append([]catalog.EnvelopeLimits{own}, t.Above...))
	t.behind = behind(t.Tenant, all)
	direct, further := catalog.Split(t.Above)
	t.own = b.draws(t.Tenant, catalog.Budgets([]catalog.EnvelopeLimits{own}))
	t.above = b.draws(t.Tenant, catalog.Budgets(direct))
	draws := append(append([]Draw{}, t.own...), t.above...)
	for _, at := range behind(t.Tenant, further) {
		draws = append(draws, Draw{Key: at.Key})
	}
	return draws
}

// Apply implements Op.
func (t *TakeSlice) Apply(b *Books) (Answer, error) {
	above, err := b.enter(t.above)
	if err != nil {
		return Answer{}, err
	}
	if old := b.Slices[t.Ref]; old != nil {
		switch {
		case old.Ended:
			return Answer{}, fault.New(fault.Precondition, "the envelope has ended, and its slice was given back").WithReason(ReasonEnded)
		case old.Hash != t.hash:
			return Answer{}, errReused
		}
		return Answer{Granted: true, Held: true, Amounts: t.Own.Limits, States: states(above, t.Own.Limits)}, nil
	}
	for _, w := range above {
		for u, limit := range w.Limit {
			if limit > 0 && t.Own.Limits[u] == 0 {
				return Answer{}, fault.Field("envelope_limits[0]", "must limit %s, because %s does", amount.Unit(u), w.Budget).WithReason("SLICE_INCOMPLETE")
			}
		}
	}
	whole := Reserve{Ref: t.Ref, plan: reservePlan{amounts: t.Own.Limits}}
	if answer, granted := whole.check(b.Now, above); !granted {
		return answer, nil
	}
	if !fits(above, t.Own.Limits) {
		return Answer{}, fault.Field("envelope_limits[0]", "is more than can be counted").WithReason("AMOUNT_TOO_LARGE")
	}
	slice := &Slice{Ref: t.Ref, Hash: t.hash, Behind: t.behind}
	b.Slices[t.Ref] = slice
	b.Writes.Slices = append(b.Writes.Slices, slice)
	if len(above) > 0 {
		tx := b.transaction(t.Tenant, t.ID, KindHold)
		for _, w := range above {
			b.move(tx, w, t.Own.Limits, amount.Amounts{}, amount.Amounts{})
		}
	}
	return Answer{Granted: true, Held: true, Amounts: t.Own.Limits, States: states(above, t.Own.Limits)}, nil
}

// ReturnSlice ends an envelope's slice: what is neither spent nor held goes back
// at once, the rest as its holds end. From then on the envelope's own limits
// grant nothing. Repeated, it answers what it answered.
type ReturnSlice struct {
	Ref // the envelope's
}

// Of implements Op.
func (r *ReturnSlice) Of() Ref { return r.Ref }

// Prepare implements Op.
func (r *ReturnSlice) Prepare(b *Books) []Draw {
	slice := b.Slices[r.Ref]
	if slice == nil || slice.Ended {
		return nil
	}
	draws := []Draw{{Key: r.window()}}
	for _, at := range slice.Behind {
		draws = append(draws, Draw{Key: at.Key})
	}
	return draws
}

func (r *ReturnSlice) window() WindowKey {
	return envelopeWindow(r.Tenant, catalog.EnvelopeBudget(r.ID.String()))
}

// Apply implements Op. Amounts of the answer are what went back.
func (r *ReturnSlice) Apply(b *Books) (Answer, error) {
	slice := b.Slices[r.Ref]
	if slice == nil {
		never := &Slice{Ref: r.Ref, Ended: true}
		b.Slices[r.Ref] = never
		b.Writes.Slices, b.Writes.Returned = append(b.Writes.Slices, never), append(b.Writes.Returned, never)
		return Answer{}, nil
	}
	if slice.Ended {
		return Answer{Amounts: slice.Returned}, nil
	}
	own, err := b.enter([]Draw{{Key: r.window()}})
	if err != nil {
		return Answer{}, err
	}
	m, err := b.mirror(slice.Behind)
	if err != nil {
		return Answer{}, err
	}
	w := own[0]
	before := w.share()
	w.Suspended, w.reconfigured = true, true
	ended := *slice
	ended.Ended, ended.Returned = true, before.Above(w.share())
	if !ended.Returned.IsZero() && len(m.windows) > 0 {
		m.move(b.transaction(r.Tenant, r.ID, kindRelease), amount.Amounts{})
	}
	b.Slices[r.Ref] = &ended
	b.Writes.Returned = append(b.Writes.Returned, &ended)
	return Answer{Amounts: ended.Returned}, nil
}
