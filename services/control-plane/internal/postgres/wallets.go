package postgres

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/controldb"
	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	costv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/cost/v1"
	walletv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/wallet/v1"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/change"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/wallet"
)

// CreateWallet implements wallet.Store.
func (s *Store) CreateWallet(ctx context.Context, by identity.Principal, w *walletv1.Wallet, once change.Once) (*walletv1.Wallet, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return nil, fmt.Errorf("new wallet id: %w", err)
	}
	stored := proto.CloneOf(w)
	_, err = s.create(ctx, by, by.Tenant, once, []kind{budgets}, stored, func(ctx context.Context, q *controldb.Queries) (told, error) {
		row, err := q.InsertWallet(ctx, controldb.InsertWalletParams{
			TenantID: by.Tenant, ID: id, Name: w.GetName(), Description: w.GetDescription(),
			LowBalanceNano: nonNil(w.GetLowBalanceNano()), CreatedBy: by.Actor(),
		})
		if err != nil {
			return told{}, nameTaken(err, w.GetName())
		}
		stored.WalletId, stored.Etag = id.String(), change.Etag(row.Revision)
		stored.CreatedAt, stored.UpdatedAt = timestamppb.New(row.CreatedAt), timestamppb.New(row.UpdatedAt)
		return fact(change.Fact{Type: "wallet_created", Action: "wallet.create", Resource: "wallet:" + id.String(), After: stored}), nil
	})
	return stored, err
}

// ChangeWallet implements wallet.Store.
func (s *Store) ChangeWallet(ctx context.Context, by identity.Principal, id uuid.UUID, edit func(*walletv1.Wallet) error) (stored *walletv1.Wallet, err error) {
	_, err = s.change(ctx, by, by.Tenant, []kind{budgets}, func(ctx context.Context, q *controldb.Queries) (told, error) {
		row, err := q.LockWallet(ctx, controldb.LockWalletParams{TenantID: by.Tenant, ID: id})
		if err != nil {
			return told{}, missing(err, "wallet", id.String())
		}
		old := walletOf(controldb.WalletsRow(row))
		stored = proto.CloneOf(old)
		if err := edit(stored); err != nil {
			return told{}, err
		}
		if proto.Equal(old, stored) {
			return told{}, errUnchanged
		}
		saved, err := q.UpdateWallet(ctx, controldb.UpdateWalletParams{
			TenantID: by.Tenant, ID: id, Name: stored.GetName(), Description: stored.GetDescription(),
			LowBalanceNano: nonNil(stored.GetLowBalanceNano()), Frozen: stored.GetFrozen(), FrozenReason: stored.GetFrozenReason(),
		})
		if err != nil {
			return told{}, nameTaken(err, stored.GetName())
		}
		stored.Etag, stored.UpdatedAt = change.Etag(saved.Revision), timestamppb.New(saved.UpdatedAt)
		return fact(change.Fact{
			Type: walletFact(old, stored), Action: "wallet.update", Resource: "wallet:" + id.String(), Before: old, After: stored,
		}), nil
	})
	if err != nil {
		return nil, err
	}
	return stored, nil
}

// walletFact is what a change of a wallet is called.
func walletFact(old, stored *walletv1.Wallet) string {
	switch {
	case stored.GetFrozen() && !old.GetFrozen():
		return "wallet_frozen"
	case old.GetFrozen() && !stored.GetFrozen():
		return "wallet_thawed"
	}
	return "wallet_updated"
}

func walletsOf(ctx context.Context, q *controldb.Queries, tenant uuid.UUID) ([]*walletv1.Wallet, error) {
	rows, err := q.Wallets(ctx, tenant)
	if err != nil {
		return nil, fmt.Errorf("read wallets: %w", err)
	}
	if len(rows) > wallet.Most {
		return nil, fault.New(fault.Exhausted, "a tenant has at most %d wallets", wallet.Most).WithReason("TOO_MANY_WALLETS")
	}
	out := make([]*walletv1.Wallet, len(rows))
	for i, row := range rows {
		out[i] = walletOf(row)
	}
	return out, nil
}

func walletOf(row controldb.WalletsRow) *walletv1.Wallet {
	return &walletv1.Wallet{
		WalletId: row.ID.String(), Name: row.Name, Description: row.Description, LowBalanceNano: row.LowBalanceNano,
		Frozen: row.Frozen, FrozenReason: row.FrozenReason, Etag: change.Etag(row.Revision),
		CreatedAt: timestamppb.New(row.CreatedAt), UpdatedAt: timestamppb.New(row.UpdatedAt),
	}
}

// paidFor refuses a budget whose wallet is not the tenant's. Wallets are never
// deleted, and changes of one tenant take turns, so what is there stays there.
func paidFor(ctx context.Context, q *controldb.Queries, tenant uuid.UUID, b *costv1.Budget) error {
	if b.GetWalletId() == "" {
		return nil
	}
	id, err := uuid.Parse(b.GetWalletId())
	if err != nil || id.String() != b.GetWalletId() {
		return fault.Field("budget.wallet_id", "must be a UUID")
	}
	there, err := q.WalletExists(ctx, controldb.WalletExistsParams{TenantID: tenant, ID: id})
	if err != nil {
		return fmt.Errorf("look for a budget's wallet: %w", err)
	}
	if !there {
		return fault.Field("budget.wallet_id", "there is no wallet %s", id)
	}
	return nil
}

func nameTaken(err error, name string) error {
	if db.Constraint(err) != "wallets_name" {
		return fmt.Errorf("write wallet: %w", err)
	}
	return fault.New(fault.Conflict, "there is a wallet named %q already", name).WithReason("WALLET_NAME_TAKEN")
}

func nonNil(list []int64) []int64 {
	if list == nil {
		return []int64{}
	}
	return list
}
