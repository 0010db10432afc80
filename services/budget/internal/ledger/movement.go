package ledger

import (
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/money"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/amount"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/catalog"
)

// MoveKind is what somebody does to an account by hand.
type MoveKind string

// The kinds of movements, which are kinds of transactions, too.
const (
	TopUp  MoveKind = "topup"      // credit into a wallet
	Refund MoveKind = "refund"     // credit out of a wallet, paid back elsewhere
	Adjust MoveKind = "adjust"     // a mistake in a wallet's credit
	ByHand MoveKind = "correction" // a mistake in what was spent
)

// MovementKey names a request to move something.
type MovementKey struct {
	Tenant uuid.UUID
	Key    string
}

// Movement is a Move that was done.
type Movement struct {
	MovementKey
	ID          uuid.UUID // of the transaction
	Hash        [32]byte
	Kind        MoveKind
	Account     string    // "" for a correction of a reservation
	Reservation uuid.UUID // uuid.Nil for one of an account
	Cost        int64     // nano-USD; see Move
	Balance     int64     // of a wallet after it, else 0
	Reference   string
	Reason      string
	Actor       string
	At          time.Time
}

// Move changes one account by hand, once for each Key: it adds Cost to the
// credit of a wallet, or, ByHand, to what was spent of a wallet, of a
// budget's open window, or of all that Reservation was charged to: only that
// makes the charge itself cost something else, in the summaries, too.
type Move struct {
	Tenant      uuid.UUID
	Key         string
	Kind        MoveKind
	Account     string    // of the wallet or budget, or ""
	Reservation uuid.UUID // or uuid.Nil
	Cost        int64     // nano-USD, not 0
	Reference   string
	Reason      string
	Actor       string

	hash  [32]byte
	draws []Draw
	err   error
}

// Of implements Op. The id of a movement of an account is of no reservation.
func (m *Move) Of() Ref {
	if m.Reservation != uuid.Nil {
		return Ref{m.Tenant, m.Reservation}
	}
	return Ref{m.Tenant, uuid.NewSHA1(m.Tenant, []byte("movement:"+m.Key))}
}

// Named is the key under which the movement is remembered.
func (m *Move) Named() MovementKey { return MovementKey{m.Tenant, m.Key} }

// Seal fixes the request: from then on its hash stands for its content.
func (m *Move) Seal() *Move {
	var h hasher
	h.text(m.Account)
	h.text(m.Reservation.String())
	h.int(m.Cost)
	h.text(m.Reference)
	h.text(m.Reason)
	m.hash = h.sum(string(m.Kind))
	return m
}

// Prepare implements Op.
func (m *Move) Prepare(b *Books) []Draw {
	m.draws, m.err = nil, nil
	if m.Reservation != uuid.Nil {
		m.draws = b.touched(m.Of())
		return m.draws
	}
	account := b.Catalogs[m.Tenant].Account(m.Account)
	if account == nil {
		m.err = errNoAccount(m.Account)
		return nil
	}
	m.draws = b.draws(m.Tenant, []*catalog.Budget{account})
	return m.draws
}

// Apply implements Op.
func (m *Move) Apply(b *Books) (Answer, error) {
	if done := b.Movements[m.Named()]; done != nil {
		if done.Hash != m.hash {
			return Answer{}, errReused
		}
		windows, _ := b.enter(m.own(b))
		return Answer{Movement: done, States: states(windows, amount.Amounts{})}, nil
	}
	if m.err != nil {
		return Answer{}, m.err
	}
	if m.Reservation != uuid.Nil {
		if err := m.charged(b); err != nil {
			return Answer{}, err
		}
	}
	windows, err := b.enter(m.own(b))
	if err != nil {
		return Answer{}, err
	}
	mirror, err := b.mirror(m.behind(b))
	if err != nil {
		return Answer{}, err
	}
	touched := append(slices.Clip(windows), mirror.windows...)
	for _, w := range touched {
		if err := m.possible(w); err != nil {
			return Answer{}, err
		}
	}
	done := &Movement{
		MovementKey: m.Named(), Hash: m.hash, Kind: m.Kind, Account: m.Account, Reservation: m.Reservation, Cost: m.Cost,
		Reference: m.Reference, Reason: m.Reason, Actor: m.Actor, At: b.Now,
	}
	tx := b.transaction(m.Tenant, m.Reservation, string(m.Kind))
	done.ID = tx.id
	var charge *Correction
	if m.Reservation != uuid.Nil {
		charge = m.correct(b, tx.id, windows)
	}
	for _, w := range windows {
		m.apply(b, tx, w)
		if w.Mode == catalog.Prepaid {
			done.Balance = w.Balance()
		}
	}
	mirror.reprice(tx, amount.Amounts{amount.Cost: max(m.Cost, 0)}, amount.Amounts{amount.Cost: max(-m.Cost, 0)})
	b.Movements[done.MovementKey] = done
	b.Writes.Movements = append(b.Writes.Movements, done)
	m.tell(b, done, charge, touched)
	return Answer{Movement: done, States: states(windows, amount.Amounts{})}, nil
}

// own are the windows that are moved: the account's, or those that the
// reservation was charged to.
func (m *Move) own(b *Books) []Draw {
	if res := b.Reservations[m.Of()]; m.Reservation != uuid.Nil && res != nil {
		return b.parts(res)
	}
	return m.draws
}

// behind are the windows behind slices that follow.
func (m *Move) behind(b *Books) []Behind {
	if res := b.Reservations[m.Of()]; m.Reservation != uuid.Nil && res != nil {
		return res.Behind
	}
	return nil
}

// charged refuses to correct what was never charged.
func (m *Move) charged(b *Books) error {
	res := b.Reservations[m.Of()]
	if res == nil {
		return errNoReservation(m.Of())
	}
	if b.Ends[m.Of()].charge() == nil {
		return fault.New(fault.Precondition, "the action was not charged, so there is nothing to correct").
			WithReason("RESERVATION_NOT_CHARGED").WithHint("Settle or release the hold instead.")
	}
	if len(res.Parts) == 0 {
		return fault.New(fault.Precondition, "the action was charged without a hold, to the budgets of its moment").
			WithReason("CHARGED_WITHOUT_HOLD").WithHint("Correct the budget or the wallet instead.")
	}
	if cost := int64(b.correction(res, b.Ends[m.Of()].charge(), uuid.Nil, "").Old); cost+m.Cost < 0 {
		return fault.New(fault.Precondition, "the action was charged %s by now: a correction cannot give back more", amount.Cost.Text(cost)).
			WithReason("CORRECTION_TOO_LARGE")
	}
	return nil
}

// correct says what the charge costs from now on, for the summaries, too.
func (m *Move) correct(b *Books, transaction uuid.UUID, windows []*Window) *Correction {
	c := b.correction(b.Reservations[m.Of()], b.Ends[m.Of()].charge(), transaction, HandVersion)
	c.New, c.Windows = c.Old+money.Nano(m.Cost), windows
	b.correct(c)
	return c
}

// possible refuses what an account does not have.
func (m *Move) possible(w *Window) error {
	if m.Kind == ByHand {
		if w.Spent[amount.Cost]+m.Cost < 0 {
			return fault.New(fault.Precondition, "only %s was spent of %s: a correction cannot give back more", amount.Cost.Text(w.Spent[amount.Cost]), or(w.name, w.Budget)).
				WithReason("CORRECTION_TOO_LARGE")
		}
	} else if free := w.Balance() - w.Held[amount.Cost]; m.Cost < 0 && m.Cost+free < 0 {
		return fault.New(fault.Precondition, "wallet %q has a balance of %s, of which %s is held: %s cannot be taken out", or(w.name, w.Budget),
			amount.Cost.Text(w.Balance()), amount.Cost.Text(w.Held[amount.Cost]), amount.Cost.Text(-m.Cost)).WithReason("WALLET_EXHAUSTED")
	}
	if used, ok := w.Held.Plus(w.Spent); !ok || m.Cost > 0 && (max(used[amount.Cost], w.Limit[amount.Cost]) > amount.Most*4-m.Cost) {
		return fault.Field("amount_nano", "is more than can be counted").WithReason("AMOUNT_TOO_LARGE")
	}
	return nil
}

func (m *Move) apply(b *Books, tx *posting, w *Window) {
	was, debt := w.Over, w.debt()
	up, down := amount.Amounts{amount.Cost: max(m.Cost, 0)}, amount.Amounts{amount.Cost: max(-m.Cost, 0)}
	if m.Kind == ByHand {
		w.Spent[amount.Cost] += m.Cost
		b.post(tx, w, w.purse(), Spent, up)
		b.post(tx, w, Spent, w.purse(), down)
	} else {
		w.Limit[amount.Cost] += m.Cost
		b.post(tx, w, External, Available, up)
		b.post(tx, w, Available, External, down)
	}
	w.settleOver()
	w.changed = true
	w.owed += w.debt() - debt
	b.overage(tx, w, was)
	w.rearm()
}

func (m *Move) tell(b *Books, done *Movement, charge *Correction, windows []*Window) {
	e := Event{Type: WalletMoved, Ref: m.Of(), At: b.Now, Movement: done, Correction: charge, Actor: m.Actor, Reason: m.Reason}
	if m.Kind == ByHand {
		e.Type = ChargeCorrected
	}
	if m.Reservation != uuid.Nil {
		e.Subject = b.Reservations[m.Of()].Subject
	}
	b.Writes.Events = append(b.Writes.Events, e)
	for _, w := range windows {
		b.announce(w, m.Of(), e.Subject)
	}
}

func errNoAccount(account string) error {
	if id, ok := catalog.OfWallet(account); ok {
		return fault.New(fault.NotFound, "there is no wallet %q", id).WithReason("WALLET_NOT_FOUND").WithMeta("wallet_id", id)
	}
	return fault.New(fault.NotFound, "there is no budget %q", account).WithReason("BUDGET_NOT_FOUND").WithMeta("budget_id", account)
}
