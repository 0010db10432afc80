package ledger

import (
	"time"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/amount"
)

// Release gives a hold back in full: the action did not happen. It may be
// repeated; a hold that has expired has nothing left to give.
type Release struct {
	Ref
	Key    string
	Reason string
	Actor  string // who does it by hand: then it is told; "" when the caller of the hold does
}

// Of implements Op.
func (r *Release) Of() Ref { return r.Ref }

// Prepare implements Op.
func (r *Release) Prepare(b *Books) []Draw {
	return b.touched(r.Ref)
}

// Apply implements Op.
func (r *Release) Apply(b *Books) (Answer, error) {
	res := b.Reservations[r.Ref]
	end := b.Ends[r.Ref]
	if res == nil && end.Resolution == nil {
		return Answer{}, errNoReservation(r.Ref)
	}
	if end.charge() != nil {
		return Answer{}, fault.New(fault.Precondition, "the action was settled: what it used cannot be given back").
			WithReason("RESERVATION_SETTLED")
	}
	if end.Resolution != nil {
		answer := Answer{States: states(b.shown(res), amount.Amounts{})}
		if end.Resolution.Kind == Released {
			answer.Amounts = res.Amounts
		}
		return answer, nil
	}
	windows, err := b.giveBack(res, kindRelease, &Settlement{
		Ref: r.Ref, Kind: Released, Key: r.Key, Reason: r.Reason, CreatedAt: b.Now,
	})
	if err != nil {
		return Answer{}, err
	}
	if r.Actor != "" {
		b.Writes.Events = append(b.Writes.Events, Event{
			Type: HoldReleased, Ref: r.Ref, Subject: res.Subject, At: b.Now, Held: res.Amounts, Actor: r.Actor, Reason: r.Reason,
		})
	}
	return Answer{Amounts: res.Amounts, States: states(windows, amount.Amounts{})}, nil
}

// giveBack ends a hold without a charge, and returns the windows it was in.
func (b *Books) giveBack(res *Reservation, kind string, set *Settlement) ([]*Window, error) {
	windows, err := b.enter(b.parts(res))
	if err != nil {
		return nil, err
	}
	mirror, err := b.mirror(res.Behind)
	if err != nil {
		return nil, err
	}
	tx := b.transaction(res.Tenant, res.ID, kind)
	for _, w := range windows {
		b.move(tx, w, amount.Amounts{}, res.Amounts, amount.Amounts{})
	}
	mirror.move(tx, amount.Amounts{})
	b.Ends[res.Ref] = End{Resolution: set}
	b.Writes.Settlements = append(b.Writes.Settlements, set)
	return windows, nil
}

// Renew moves a hold's expiry to TTL from now, once for each Key.
type Renew struct {
	Ref
	Key string
	TTL time.Duration
}

// Renewal is a Renew that was done.
type Renewal struct {
	RenewalKey
	TTL       time.Duration
	ExpiresAt time.Time
}

// RenewalKey names a request to renew.
type RenewalKey struct {
	Ref
	Key string
}

// Of implements Op.
func (r *Renew) Of() Ref { return r.Ref }

// Prepare implements Op. The windows are locked so that no sweep ends the hold
// meanwhile.
func (r *Renew) Prepare(b *Books) []Draw { return b.touched(r.Ref) }

// Apply implements Op.
func (r *Renew) Apply(b *Books) (Answer, error) {
	res := b.Reservations[r.Ref]
	if res == nil {
		return Answer{}, errNoReservation(r.Ref)
	}
	key := RenewalKey{r.Ref, r.Key}
	if done := b.Renewals[key]; done != nil {
		if done.TTL != r.TTL {
			return Answer{}, errReused
		}
		return Answer{ExpiresAt: done.ExpiresAt, Amounts: res.Amounts}, nil
	}
	if end := b.Ends[r.Ref]; end.Resolution != nil {
		return Answer{}, errEnded(end.Resolution.Kind)
	}
	renewed := *res
	renewed.ExpiresAt = b.Now.Add(r.TTL)
	done := &Renewal{key, r.TTL, renewed.ExpiresAt}
	b.Reservations[r.Ref], b.Renewals[key] = &renewed, done
	b.Writes.Renewed = append(b.Writes.Renewed, done)
	return Answer{ExpiresAt: renewed.ExpiresAt, Amounts: res.Amounts}, nil
}

func errEnded(k Kind) error {
	return fault.New(fault.Precondition, "the hold has ended: it is %s", k).WithReason("RESERVATION_" + upper(k))
}

func upper(k Kind) string {
	return map[Kind]string{Settled: "SETTLED", Released: "RELEASED", Expired: "EXPIRED"}[k]
}

// Expire ends a hold whose time is over, if nobody else has ended or renewed it.
type Expire struct {
	Ref
}

// Of implements Op.
func (e *Expire) Of() Ref { return e.Ref }

// Prepare implements Op.
func (e *Expire) Prepare(b *Books) []Draw {
	return b.touched(e.Ref)
}

// Apply implements Op. Amounts of the answer are what was given back.
func (e *Expire) Apply(b *Books) (Answer, error) {
	res := b.Reservations[e.Ref]
	if res == nil || b.Ends[e.Ref].Resolution != nil || res.ExpiresAt.After(b.Now) {
		return Answer{}, nil
	}
	if _, err := b.giveBack(res, kindExpire, &Settlement{Ref: e.Ref, Kind: Expired, CreatedAt: b.Now}); err != nil {
		return Answer{}, err
	}
	b.Writes.Events = append(b.Writes.Events, Event{
		Type: HoldExpired, Ref: e.Ref, Subject: res.Subject, At: b.Now, Held: res.Amounts,
	})
	return Answer{Amounts: res.Amounts}, nil
}
