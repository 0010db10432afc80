package ledger

import (
	"time"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/amount"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/calendar"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/catalog"
)

// Ref names a reservation.
type Ref struct{ Tenant, ID uuid.UUID }

// Reservation is a hold as it was granted.
type Reservation struct {
	Ref
	Hash         [32]byte // of the request, to know a repeated one
	Amounts      amount.Amounts
	PriceVersion string
	Subject      catalog.Subject // without ancestors
	CreatedAt    time.Time
	ExpiresAt    time.Time
	Parts        []WindowKey // the windows it holds in
	Behind       []Behind    // those that stand behind slices among the Parts

	// Unposted: it moves nothing but its Amounts from available to held in its
	// Parts, which it says itself; nothing of it is posted. Not looked up again.
	Unposted bool
}

// Kind is how a hold ended.
type Kind string

// The ends of a hold.
const (
	Settled  Kind = "settled"
	Released Kind = "released"
	Expired  Kind = "expired"
)

// Settlement is the end of a hold, or a charge that came after it (Late), or a
// charge without a hold.
type Settlement struct {
	Ref
	Late         bool
	Kind         Kind
	Key          string
	Hash         [32]byte
	Charged      amount.Amounts
	Model        string
	PriceVersion string
	// Of Charged's tokens, as they were priced.
	Cached, CacheWrite, Reasoning int64

	Reason    string
	Failed    bool
	CreatedAt time.Time
}

// End is how a reservation stands: both nil while it is held.
type End struct{ Resolution, Late *Settlement }

// Standing is a reservation and what became of it.
type Standing struct {
	Reservation *Reservation
	End         End
	States      []State
}

// Books are what one batch works on. A store fills the first part under row
// locks, ops change it, and the store writes Writes and every window that
// changed. Nothing in it is shared with another batch.
type Books struct {
	Now          time.Time // by the database
	Catalogs     map[uuid.UUID]*catalog.Catalog
	Windows      map[WindowKey]*Window
	Reservations map[Ref]*Reservation
	Ends         map[Ref]End
	Renewals     map[RenewalKey]*Renewal
	Corrections  map[Ref][]*Correction // of a charge, in the order in which they were made
	Slices       map[Ref]*Slice        // by their envelopes
	Movements    map[MovementKey]*Movement

	Writes Writes

	overs []amount.Amounts // of hold
}

// Writes is what a batch adds to the ledger.
type Writes struct {
	Reservations []*Reservation
	Renewed      []*Renewal
	Slices       []*Slice // taken
	Returned     []*Slice // ended
	Settlements  []*Settlement
	Corrections  []*Correction
	Movements    []*Movement
	Transactions []Transaction
	Posted       []Posted // the windows that something moved in
	Spend        []Spend
	Events       []Event

	postings []Posting           // see PostingsOf
	numbered map[uuid.UUID]int32 // transactions of each tenant
	lastID   uuid.UUID           // of a transaction
}

// Answer is what an op did. Which fields are set depends on the op.
type Answer struct {
	Granted      bool // Reserve
	Held         bool // Reserve: a hold exists
	Reason       string
	Message      string
	RefusedBy    *State
	Warnings     []State
	RetryAfter   time.Duration
	Suggested    amount.Amounts // Reserve, refused: what would fit now; zero if nothing
	Retryable    bool           // Reserve, refused: may be granted later as it is
	Amounts      amount.Amounts // held, charged or released
	Overrun      amount.Amounts // Settle: charged beyond the hold
	Late         bool           // Settle: after the hold had ended
	ExpiresAt    time.Time
	PriceVersion string
	States       []State
	Movement     *Movement // Move
}

// Op is one thing to do to the ledger: a Reserve, Settle, Release, Renew,
// Expire, Correct or Move. An op belongs to one batch at a time.
type Op interface {
	// Of names the reservation it is about.
	Of() Ref
	// Prepare looks up what Apply will need and returns the windows to lock.
	// A Catalog of the op's tenant and, unless the op is a Reserve, the
	// reservation if it exists must be in b. It may be called again, later.
	Prepare(b *Books) []Draw
	// Apply does it, in full or not at all. An error is the op's own and
	// leaves b as it was; the rest of the batch goes on.
	Apply(b *Books) (Answer, error)
}

// Draw is a window that an op needs, with the budget it belongs to as
// configured now: nil if the window must exist because something is held there.
type Draw struct {
	Key    WindowKey
	Budget *catalog.Budget
	Span   calendar.Window
	Placed bool          // the window was chosen by the books' time
	Terms  catalog.Terms // of Budget at the books' time
}

// Look returns the window of each budget at the books' time with its limits up
// to date, after read has put the windows' rows, if there are any, into b.
func (b *Books) Look(tenant uuid.UUID, budgets []*catalog.Budget, read func([]Draw) error) ([]*Window, error) {
	draws := b.draws(tenant, budgets)
	if err := read(draws); err != nil {
		return nil, err
	}
	return b.enter(draws)
}

// draws places budgets in their windows at the batch's time.
func (b *Books) draws(tenant uuid.UUID, budgets []*catalog.Budget) []Draw {
	out := make([]Draw, 0, len(budgets))
	for _, budget := range budgets {
		w := budget.Window(b.Now)
		out = append(out, Draw{
			Key:    WindowKey{tenant, budget.ID, w.Start.UnixMicro()},
			Budget: budget,
			Span:   w,
			Placed: true,
			Terms:  budget.Terms(b.Now),
		})
	}
	return out
}

// parts are the windows of a reservation as draws, with the budgets that are
// still configured.
func (b *Books) parts(r *Reservation) []Draw {
	out := make([]Draw, 0, len(r.Parts))
	cat := b.Catalogs[r.Tenant]
	for _, key := range r.Parts {
		d := Draw{Key: key}
		if budget := cat.Account(key.Budget); budget != nil {
			if w := budget.Window(key.StartTime()); w.Start.Equal(key.StartTime()) {
				d.Budget, d.Span, d.Terms = budget, w, budget.Terms(b.within(w))
			}
		}
		out = append(out, d)
	}
	return out
}

// touched are the windows that the end of a reservation may change: none if
// there is no such one.
func (b *Books) touched(ref Ref) []Draw {
	res := b.Reservations[ref]
	if res == nil {
		return nil
	}
	draws := b.parts(res)
	for _, at := range res.Behind {
		draws = append(draws, Draw{Key: at.Key})
	}
	return draws
}

// enter returns the windows of draws, their limits brought up to date.
func (b *Books) enter(draws []Draw) ([]*Window, error) {
	out := make([]*Window, 0, len(draws))
	for _, d := range draws {
		w := b.Windows[d.Key]
		if w == nil {
			return nil, fault.New(fault.Down, "the ledger row of budget %s is not there yet", d.Key.Budget)
		}
		out = append(out, w)
		now := entry{d.Budget, b.Now}
		if d.Budget != nil && w.entered == now {
			continue
		}
		w.entered = now
		b.label(w)
		if d.Budget != nil {
			w.name, w.thresholds, w.period = d.Budget.Name, d.Budget.Thresholds, d.Budget.Period.Kind
			b.configure(w, d)
		}
	}
	return out, nil
}

// label says what w is called and when it is spoken of, by what is configured
// now. A budget that is not any more has no thresholds left.
func (b *Books) label(w *Window) {
	if catalog.OfEnvelope(w.Budget) {
		w.name, w.thresholds, w.period = catalog.EnvelopeName, catalog.DefaultThresholds, calendar.Infinite
	} else if budget := b.Catalogs[w.Tenant].Account(w.Budget); budget != nil {
		w.name, w.thresholds, w.period = budget.Name, budget.Thresholds, budget.Period.Kind
		w.override = budget.Terms(b.Now).Override
	}
}

// within is the books' time, or for a window that is over its last moment: what
// was in force then stays in force in it.
func (b *Books) within(w calendar.Window) time.Time {
	if b.Now.Before(w.End) {
		return b.Now
	}
	return w.End.Add(-time.Microsecond)
}

// configure takes over limits from a newer configuration than the row's, and
// from an override that begins or ends. Usage stays; what is used beyond a
// lowered limit becomes overage. The limits of envelopes never change.
func (b *Books) configure(w *Window, d Draw) {
	version := b.Catalogs[w.Tenant].VersionOf(d.Budget)
	if catalog.OfEnvelope(w.Budget) || version < w.ConfigVersion {
		return
	}
	terms := d.Budget.Terms(b.within(d.Span)) // the draw's may be of a guessed time
	w.override = terms.Override
	if version == w.ConfigVersion && w.Suspended == terms.Suspended && (w.Limit == terms.Limits || w.Mode == catalog.Prepaid) {
		return
	}
	was := w.Over
	w.ConfigVersion, w.Mode, w.Suspended, w.End = version, d.Budget.Mode, terms.Suspended, d.Span.End
	if w.Mode != catalog.Prepaid {
		w.Limit = terms.Limits
	}
	w.reconfigured = true
	w.settleOver()
	if w.Over != was {
		w.changed = true
		tx := b.transaction(w.Tenant, uuid.Nil, kindLimits)
		b.overage(tx, w, was)
	}
	w.rearm() // a raised limit is warned about anew
	b.announce(w, Ref{Tenant: w.Tenant}, catalog.Subject{})
}
