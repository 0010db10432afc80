package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/budgetdb"
	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/vault"
	busv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/bus/v1"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/amount"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/calendar"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/catalog"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/wallet"
)

var _ wallet.Store = (*Store)(nil)

// Wallets implements wallet.Store.
func (s *Store) Wallets(ctx context.Context, tenant uuid.UUID) ([]wallet.Standing, time.Time, error) {
	cat, now, err := s.Fresh(ctx, tenant)
	if err != nil {
		return nil, now, err
	}
	all := make([]wallet.Standing, len(cat.Wallets()))
	arg := budgetdb.ReadWindowsParams{TenantID: tenant}
	index := make(map[string]int, len(all))
	for i, w := range cat.Wallets() {
		all[i].Wallet, index[w.Account.ID] = w, i
		arg.BudgetIds = append(arg.BudgetIds, w.Account.ID)
		arg.WindowStarts = append(arg.WindowStarts, calendar.Always)
	}
	if len(all) == 0 {
		return nil, now, nil
	}
	err = s.db.Read(ctx, tenant, func(ctx context.Context, tx db.Tx) error {
		rows, err := budgetdb.New(tx).ReadWindows(ctx, arg)
		for _, row := range rows {
			w := window(budgetdb.LockWindowsRow(row))
			at := &all[index[w.Budget]]
			at.Credited, at.Spent, at.Held = w.Limit[amount.Cost], w.Spent[amount.Cost], w.Held[amount.Cost]
		}
		return err
	})
	return all, now, unreadable("read wallets", err)
}

// mostMovements bounds a statement.
const mostMovements = 10_000

// Period implements wallet.Store.
func (s *Store) Period(ctx context.Context, tenant, id uuid.UUID, from, to time.Time) (p wallet.Period, err error) {
	account := catalog.WalletAccount(id.String())
	err = s.db.WithTenant(ctx, tenant, func(ctx context.Context, tx db.Tx) error {
		q := budgetdb.New(tx)
		days, err := q.WalletDays(ctx, budgetdb.WalletDaysParams{TenantID: tenant, BudgetID: account, Since: from, Until: to})
		if err != nil {
			return err
		}
		for _, d := range days {
			p.Closing = d.CostNanoLimit - d.CostNanoSpent
		}
		for _, d := range days {
			if d.Day.Year() == 1 { // after the end, or nothing at all
				p.Closing -= d.Credited - d.Charged
				continue
			}
			p.Days = append(p.Days, wallet.Day{Date: d.Day, Credited: d.Credited, Charged: d.Charged})
		}
		rows, err := q.WalletMovements(ctx, budgetdb.WalletMovementsParams{
			TenantID: tenant, BudgetID: account, Since: from, Until: to, Lim: mostMovements + 1,
		})
		for _, row := range rows {
			p.Movements = append(p.Movements, movement(row))
		}
		return err
	})
	if len(p.Movements) > mostMovements {
		return p, fault.Field("from", "the statement would list more than %d movements: ask for a shorter span", mostMovements)
	}
	return p, unreadable("read a wallet's period", err)
}

// AddKey implements wallet.Store.
func (s *Store) AddKey(ctx context.Context, k wallet.Key) (at time.Time, err error) {
	payload, err := structpb.NewStruct(map[string]any{"wallet_id": k.Wallet.String(), "key_id": k.ID.String(), "public_key": fmt.Sprintf("%x", k.Public)})
	if err != nil {
		return at, fmt.Errorf("describe a key: %w", err)
	}
	err = s.db.WithTenant(ctx, k.Tenant, func(ctx context.Context, tx db.Tx) error {
		at, err = budgetdb.New(tx).InsertWalletKey(ctx, budgetdb.InsertWalletKeyParams{
			TenantID: k.Tenant, WalletID: k.Wallet, ID: k.ID, PublicKey: k.Public,
			SealedKey: k.Sealed.Data, WrappedDataKey: k.Sealed.DataKey, KekID: k.Sealed.KEK, CreatedBy: k.CreatedBy,
		})
		if err != nil {
			return err
		}
		return s.Outbox(ctx, tx, &busv1.Event{
			TenantId: k.Tenant.String(), Stream: busv1.Stream_STREAM_EVENTS, Type: "wallet_key_created", Origin: busv1.Origin_ORIGIN_SYSTEM,
			Writer: "budget", Actor: k.CreatedBy, Action: "create_key", Resource: "wallet:" + k.Wallet.String(),
			OccurredAt: timestamppb.New(at), Payload: payload,
		})
	})
	return at.UTC(), unreadable("store a wallet's key", err)
}

// Keys implements wallet.Store.
func (s *Store) Keys(ctx context.Context, tenant, id uuid.UUID) (keys []wallet.Key, err error) {
	err = s.db.Read(ctx, tenant, func(ctx context.Context, tx db.Tx) error {
		rows, err := budgetdb.New(tx).WalletKeys(ctx, budgetdb.WalletKeysParams{TenantID: tenant, WalletID: id})
		for _, row := range rows {
			keys = append(keys, walletKey(tenant, row))
		}
		return err
	})
	return keys, unreadable("read a wallet's keys", err)
}

// OldKeys implements wallet.Store.
func (s *Store) OldKeys(ctx context.Context, tenant uuid.UUID, kek string, most int) (keys []wallet.Key, err error) {
	err = s.db.Read(ctx, tenant, func(ctx context.Context, tx db.Tx) error {
		rows, err := budgetdb.New(tx).KeysToRewrap(ctx, budgetdb.KeysToRewrapParams{TenantID: tenant, KekID: kek, Lim: int32(most)})
		for _, row := range rows {
			keys = append(keys, walletKey(tenant, budgetdb.WalletKeysRow(row)))
		}
		return err
	})
	return keys, unreadable("find keys to rewrap", err)
}

// WithOldKeys implements wallet.Store.
func (s *Store) WithOldKeys(ctx context.Context, kek string, after uuid.UUID, most int) (tenants []uuid.UUID, err error) {
	err = s.db.GlobalOne(ctx, func(ctx context.Context, tx db.Tx) error {
		tenants, err = budgetdb.New(tx).TenantsToRewrap(ctx, budgetdb.TenantsToRewrapParams{KekID: kek, After: after, Lim: int32(most)})
		return err
	})
	return tenants, unreadable("find tenants with keys to rewrap", err)
}

// Rewrap implements wallet.Store.
func (s *Store) Rewrap(ctx context.Context, k wallet.Key, wrapped vault.Sealed) error {
	return unreadable("rewrap a key", s.db.One(ctx, k.Tenant, func(ctx context.Context, tx db.Tx) error {
		_, err := budgetdb.New(tx).RewrapKey(ctx, budgetdb.RewrapKeyParams{
			WrappedDataKey: wrapped.DataKey, KekID: wrapped.KEK, TenantID: k.Tenant, WalletID: k.Wallet, ID: k.ID, OldKekID: k.Sealed.KEK,
		})
		return err
	}))
}

func walletKey(tenant uuid.UUID, row budgetdb.WalletKeysRow) wallet.Key {
	return wallet.Key{
		Tenant: tenant, Wallet: row.WalletID, ID: row.ID, Public: row.PublicKey, CreatedAt: row.CreatedAt.UTC(),
		Sealed: vault.Sealed{Data: row.SealedKey, DataKey: row.WrappedDataKey, KEK: row.KekID},
	}
}
