// Package wallet reads what is in wallets, and signs statements of it.
package wallet

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/vault"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/catalog"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/ledger"
)

// Standing is a wallet as it stands. Amounts are nano-USD.
type Standing struct {
	*catalog.Wallet
	Credited, Spent, Held int64
}

// Balance is what is there, held or not. Negative is a debt.
func (s Standing) Balance() int64 { return s.Credited - s.Spent }

// Period is what happened to a wallet in a span of time.
type Period struct {
	Closing   int64 // balance at its end
	Days      []Day
	Movements []*ledger.Movement // oldest first
}

// Day is one day of a Period, UTC, on which something happened.
type Day struct {
	Date              time.Time
	Credited, Charged int64
}

// Key is a signing key as it is stored.
type Key struct {
	Tenant, Wallet, ID uuid.UUID
	Public             []byte
	Sealed             vault.Sealed
	CreatedBy          string
	CreatedAt          time.Time
}

// Store is where wallets are.
type Store interface {
	// Wallets returns every wallet of a tenant, oldest first, and the time by the
	// database.
	Wallets(ctx context.Context, tenant uuid.UUID) ([]Standing, time.Time, error)
	// Period returns what happened to a wallet in [from, to).
	Period(ctx context.Context, tenant, wallet uuid.UUID, from, to time.Time) (Period, error)
	// AddKey stores a key and tells of it in one transaction.
	AddKey(ctx context.Context, k Key) (time.Time, error)
	// Keys returns the keys of a wallet, newest first.
	Keys(ctx context.Context, tenant, wallet uuid.UUID) ([]Key, error)
	// OldKeys returns up to most keys of a tenant that another key-encryption key
	// than the named one wraps.
	OldKeys(ctx context.Context, tenant uuid.UUID, kek string, most int) ([]Key, error)
	// WithOldKeys returns tenants after the given one, in order, that have such keys.
	WithOldKeys(ctx context.Context, kek string, after uuid.UUID, most int) ([]uuid.UUID, error)
	// Rewrap replaces the wrapping of a key, unless another has meanwhile.
	Rewrap(ctx context.Context, k Key, wrapped vault.Sealed) error
}

// Wallets is what may be read and signed of wallets.
type Wallets struct {
	store Store
	vault *vault.Vault
}

// New returns Wallets over store, whose keys v seals.
func New(store Store, v *vault.Vault) *Wallets { return &Wallets{store, v} }

// All returns every wallet of a tenant, oldest first.
func (w *Wallets) All(ctx context.Context, tenant uuid.UUID) ([]Standing, error) {
	all, _, err := w.store.Wallets(ctx, tenant)
	return all, err
}

// One returns a wallet, or a NotFound fault.
func (w *Wallets) One(ctx context.Context, tenant, id uuid.UUID) (Standing, error) {
	s, _, err := w.find(ctx, tenant, id)
	return s, err
}

func (w *Wallets) find(ctx context.Context, tenant, id uuid.UUID) (Standing, time.Time, error) {
	all, now, err := w.store.Wallets(ctx, tenant)
	if err != nil {
		return Standing{}, now, err
	}
	for _, s := range all {
		if s.ID == id.String() {
			return s, now, nil
		}
	}
	return Standing{}, now, fault.New(fault.NotFound, "there is no wallet %s", id).WithReason("WALLET_NOT_FOUND").WithMeta("wallet_id", id.String())
}
