package wallet

import (
	"context"
	"crypto/ed25519"
	"time"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/receipt"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/ledger"
)

// longest is the most that one statement spans.
const longest = 400 * 24 * time.Hour

// Statement returns what happened to a wallet in [from, to), signed with its
// newest key; without one, unsigned says why it is not. Zero times are the
// first of this month and now.
func (w *Wallets) Statement(ctx context.Context, tenant, id uuid.UUID, from, to time.Time) (signed receipt.Signed, unsigned string, err error) {
	s, now, err := w.find(ctx, tenant, id)
	if err != nil {
		return signed, "", err
	}
	if to.IsZero() || to.After(now) {
		to = now
	}
	if from.IsZero() {
		from = time.Date(to.Year(), to.Month(), 1, 0, 0, 0, 0, time.UTC)
	}
	switch {
	case !from.Before(to):
		return signed, "", fault.Field("from", "must be before to, and in the past")
	case to.Sub(from) > longest:
		return signed, "", fault.Field("from", "must be at most 400 days before to")
	}
	period, err := w.store.Period(ctx, tenant, id, from, to)
	if err != nil {
		return signed, "", err
	}
	st := state(s, period)
	st.Tenant, st.From, st.To, st.Issued = tenant.String(), from.UTC(), to.UTC(), now
	if signed.Document, err = st.Write(); err != nil {
		return signed, "", err
	}
	keys, err := w.store.Keys(ctx, tenant, id)
	if err != nil {
		return signed, "", err
	}
	if len(keys) == 0 {
		return signed, "the wallet has no signing key: make one with: fulcrum wallet key " + s.Account.Name, nil
	}
	if signed.Signature, err = w.sign(keys[0], signed.Document); err != nil {
		return signed, "", err
	}
	signed.KeyID, signed.PublicKey = keys[0].ID.String(), keys[0].Public
	return signed, "", nil
}

func state(s Standing, p Period) receipt.Statement {
	st := receipt.Statement{
		Version: 1, Wallet: s.ID, Name: s.Account.Name, Currency: "USD", Closing: p.Closing,
		Days: []receipt.Day{}, Movements: []receipt.Movement{},
	}
	for _, d := range p.Days {
		st.Days = append(st.Days, receipt.Day{Date: d.Date.Format(time.DateOnly), Credited: d.Credited, Charged: d.Charged})
		st.Credited += d.Credited
		st.Charged += d.Charged
	}
	st.Opening = st.Closing - st.Credited + st.Charged
	for _, m := range p.Movements {
		amount := m.Cost
		if m.Kind == ledger.ByHand {
			amount = -amount // of what was spent
		}
		st.Movements = append(st.Movements, receipt.Movement{
			ID: m.ID.String(), At: m.At, Kind: string(m.Kind), Amount: amount, Reference: m.Reference, Reason: m.Reason, Actor: m.Actor,
		})
	}
	return st
}

func (w *Wallets) sign(k Key, document string) ([]byte, error) {
	seed, err := w.vault.Open(k.name(), k.Sealed)
	if err != nil {
		return nil, err
	}
	return receipt.Sign(ed25519.NewKeyFromSeed([]byte(seed.Reveal())), document), nil
}
