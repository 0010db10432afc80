package wallet

import (
	"context"
	"crypto/ed25519"
	"fmt"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/pkg/secret"
)

// CreateKey gives a wallet a new signing key and returns it without its
// private half, which nobody is ever shown.
func (w *Wallets) CreateKey(ctx context.Context, tenant, id uuid.UUID, by string) (Key, error) {
	if _, err := w.One(ctx, tenant, id); err != nil {
		return Key{}, err
	}
	keyID, err := uuid.NewV7()
	if err != nil {
		return Key{}, fmt.Errorf("new key id: %w", err)
	}
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		return Key{}, fmt.Errorf("make a signing key: %w", err)
	}
	k := Key{Tenant: tenant, Wallet: id, ID: keyID, Public: public, CreatedBy: by}
	if k.Sealed, err = w.vault.Seal(k.name(), secret.New(string(private.Seed()))); err != nil {
		return Key{}, err
	}
	if k.CreatedAt, err = w.store.AddKey(ctx, k); err != nil {
		return Key{}, err
	}
	return k, nil
}

// Keys returns the keys of a wallet, newest first.
func (w *Wallets) Keys(ctx context.Context, tenant, id uuid.UUID) ([]Key, error) {
	if _, err := w.One(ctx, tenant, id); err != nil {
		return nil, err
	}
	return w.store.Keys(ctx, tenant, id)
}

// name is what a key is sealed under: of another tenant or wallet, or as
// another key, it does not open.
func (k Key) name() []byte {
	name := []byte("fulcrum wallet key v1\n")
	name = append(name, k.Tenant[:]...)
	name = append(name, k.Wallet[:]...)
	return append(name, k.ID[:]...)
}

const page = 100

// Rewrap wraps every key that another key-encryption key wraps by the current
// one, and returns how many. After it the previous one may be taken away.
func (w *Wallets) Rewrap(ctx context.Context) (rewrapped int, err error) {
	kek := w.vault.Current()
	if kek == "" {
		return 0, nil
	}
	var after uuid.UUID
	for {
		tenants, err := w.store.WithOldKeys(ctx, kek, after, page)
		if err != nil {
			return rewrapped, err
		}
		for _, tenant := range tenants {
			after = tenant
			n, err := w.rewrap(ctx, tenant, kek)
			rewrapped += n
			if err != nil {
				return rewrapped, err
			}
		}
		if len(tenants) < page {
			return rewrapped, nil
		}
	}
}

func (w *Wallets) rewrap(ctx context.Context, tenant uuid.UUID, kek string) (rewrapped int, err error) {
	for {
		keys, err := w.store.OldKeys(ctx, tenant, kek, page)
		if err != nil || len(keys) == 0 {
			return rewrapped, err
		}
		for _, k := range keys {
			wrapped, err := w.vault.Rewrap(k.name(), k.Sealed)
			if err != nil {
				return rewrapped, fmt.Errorf("rewrap key %s of wallet %s: %w", k.ID, k.Wallet, err)
			}
			if err := w.store.Rewrap(ctx, k, wrapped); err != nil {
				return rewrapped, err
			}
			rewrapped++
		}
	}
}
