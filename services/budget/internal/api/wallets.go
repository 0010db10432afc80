package api

import (
	"context"
	"strings"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	walletv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/wallet/v1"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/catalog"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/ledger"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/wallet"
)

// Wallets answers the part of WalletService that is about what is in wallets.
// Wallets themselves are the control plane's.
type Wallets struct {
	walletv1.UnimplementedWalletServiceServer
	lane    Lane
	wallets *wallet.Wallets
}

// NewWallets returns Wallets over lane and w.
func NewWallets(lane Lane, w *wallet.Wallets) *Wallets { return &Wallets{lane: lane, wallets: w} }

const writeScope = "cost:write"

// GetWallet implements walletv1.WalletServiceServer.
func (s *Wallets) GetWallet(ctx context.Context, req *walletv1.GetWalletRequest) (*walletv1.GetWalletResponse, error) {
	who, id, err := walletOf(ctx, scope, req.GetWalletId())
	if err != nil {
		return nil, err
	}
	w, err := s.wallets.One(ctx, who.Tenant, id)
	if err != nil {
		return nil, err
	}
	return &walletv1.GetWalletResponse{Wallet: protoWallet(w)}, nil
}

// ListWallets implements walletv1.WalletServiceServer.
func (s *Wallets) ListWallets(ctx context.Context, req *walletv1.ListWalletsRequest) (*walletv1.ListWalletsResponse, error) {
	who, err := identity.Allowed(ctx, scope)
	if err != nil {
		return nil, err
	}
	all, err := s.wallets.All(ctx, who.Tenant)
	if err != nil {
		return nil, err
	}
	out := &walletv1.ListWalletsResponse{}
	for _, w := range all {
		if req.GetName() == "" || req.GetName() == w.Account.Name {
			out.Wallets = append(out.Wallets, protoWallet(w))
		}
	}
	return out, nil
}

// TopUpWallet implements walletv1.WalletServiceServer.
func (s *Wallets) TopUpWallet(ctx context.Context, req *walletv1.TopUpWalletRequest) (*walletv1.TopUpWalletResponse, error) {
	m, w, err := s.move(ctx, req.GetWalletId(), &ledger.Move{
		Key: req.GetIdempotencyKey(), Kind: ledger.TopUp, Cost: req.GetAmountNano(), Reference: req.GetReference(),
	})
	if err != nil {
		return nil, err
	}
	return &walletv1.TopUpWalletResponse{Movement: m, Wallet: w}, nil
}

// AdjustWallet implements walletv1.WalletServiceServer.
func (s *Wallets) AdjustWallet(ctx context.Context, req *walletv1.AdjustWalletRequest) (*walletv1.AdjustWalletResponse, error) {
	kind := ledger.Adjust
	if req.GetKind() == walletv1.MovementKind_MOVEMENT_KIND_REFUND {
		kind = ledger.Refund
		if req.GetAmountNano() > 0 {
			return nil, fault.Field("amount_nano", "must be negative: a refund takes credit out")
		}
	}
	m, w, err := s.move(ctx, req.GetWalletId(), &ledger.Move{
		Key: req.GetIdempotencyKey(), Kind: kind, Cost: req.GetAmountNano(), Reference: req.GetReference(), Reason: req.GetReason(),
	})
	if err != nil {
		return nil, err
	}
	return &walletv1.AdjustWalletResponse{Movement: m, Wallet: w}, nil
}

func (s *Wallets) move(ctx context.Context, walletID string, m *ledger.Move) (*walletv1.Movement, *walletv1.Wallet, error) {
	who, id, err := walletOf(ctx, writeScope, walletID)
	if err != nil {
		return nil, nil, err
	}
	if err := plain(map[string]string{"idempotency_key": m.Key, "reference": m.Reference, "reason": m.Reason}); err != nil {
		return nil, nil, err
	}
	m.Tenant, m.Account, m.Actor = who.Tenant, catalog.WalletAccount(id.String()), who.Actor()
	a, err := s.lane.Do(ctx, m.Seal())
	if err != nil {
		return nil, nil, err
	}
	w, err := s.wallets.One(ctx, who.Tenant, id)
	if err != nil {
		return nil, nil, err
	}
	return protoMovement(a.Movement), protoWallet(w), nil
}

// GetStatement implements walletv1.WalletServiceServer.
func (s *Wallets) GetStatement(ctx context.Context, req *walletv1.GetStatementRequest) (*walletv1.GetStatementResponse, error) {
	who, id, err := walletOf(ctx, scope, req.GetWalletId())
	if err != nil {
		return nil, err
	}
	from, err := moment("from", req.GetFrom())
	if err != nil {
		return nil, err
	}
	to, err := moment("to", req.GetTo())
	if err != nil {
		return nil, err
	}
	signed, unsigned, err := s.wallets.Statement(ctx, who.Tenant, id, from, to)
	if err != nil {
		return nil, err
	}
	return &walletv1.GetStatementResponse{
		Document: signed.Document, Signature: signed.Signature, KeyId: signed.KeyID, PublicKey: signed.PublicKey, UnsignedReason: unsigned,
	}, nil
}

// CreateSigningKey implements walletv1.WalletServiceServer.
func (s *Wallets) CreateSigningKey(ctx context.Context, req *walletv1.CreateSigningKeyRequest) (*walletv1.CreateSigningKeyResponse, error) {
	who, id, err := walletOf(ctx, writeScope, req.GetWalletId())
	if err != nil {
		return nil, err
	}
	k, err := s.wallets.CreateKey(ctx, who.Tenant, id, who.Actor())
	if err != nil {
		return nil, err
	}
	return &walletv1.CreateSigningKeyResponse{Key: protoKey(k)}, nil
}

// ListSigningKeys implements walletv1.WalletServiceServer.
func (s *Wallets) ListSigningKeys(ctx context.Context, req *walletv1.ListSigningKeysRequest) (*walletv1.ListSigningKeysResponse, error) {
	who, id, err := walletOf(ctx, scope, req.GetWalletId())
	if err != nil {
		return nil, err
	}
	keys, err := s.wallets.Keys(ctx, who.Tenant, id)
	if err != nil {
		return nil, err
	}
	out := &walletv1.ListSigningKeysResponse{}
	for _, k := range keys {
		out.Keys = append(out.Keys, protoKey(k))
	}
	return out, nil
}

// walletOf is who calls, if the scope allows it, and about which wallet.
func walletOf(ctx context.Context, scope, walletID string) (identity.Principal, uuid.UUID, error) {
	who, err := identity.Allowed(ctx, scope)
	if err != nil {
		return who, uuid.Nil, err
	}
	id, err := uuid.Parse(walletID)
	if err != nil {
		return who, id, fault.Field("wallet_id", "is not a UUID")
	}
	return who, id, nil
}

// plain refuses texts that no database stores: they would fail the whole batch.
func plain(texts map[string]string) error {
	for field, v := range texts {
		if strings.ContainsRune(v, 0) {
			return fault.Field(field, "contains a zero byte")
		}
	}
	return nil
}

// moment is a time that a caller named; unset is the zero time.
func moment(field string, t *timestamppb.Timestamp) (time.Time, error) {
	if t == nil {
		return time.Time{}, nil
	}
	at := t.AsTime()
	if !t.IsValid() || at.Year() < 1970 || at.Year() > 9998 {
		return at, fault.Field(field, "is not a time between the years 1970 and 9998")
	}
	return at.Truncate(time.Microsecond), nil
}

func protoWallet(w wallet.Standing) *walletv1.Wallet {
	return &walletv1.Wallet{
		WalletId: w.ID, Name: w.Account.Name, Description: w.Description, LowBalanceNano: w.LowBalances,
		Frozen: w.Account.Suspended, FrozenReason: w.FrozenReason, Etag: w.Etag,
		CreatedAt: timestamppb.New(w.CreatedAt), UpdatedAt: timestamppb.New(w.UpdatedAt),
		CreditedNano: w.Credited, SpentNano: w.Spent, HeldNano: w.Held, BalanceNano: w.Balance(), AvailableNano: w.Balance() - w.Held,
	}
}

func protoMovement(m *ledger.Movement) *walletv1.Movement {
	return &walletv1.Movement{
		MovementId: m.ID.String(), AmountNano: m.Cost, BalanceNano: m.Balance, Reference: m.Reference, Reason: m.Reason, Actor: m.Actor,
		OccurredAt: timestamppb.New(m.At),
		Kind: map[ledger.MoveKind]walletv1.MovementKind{
			ledger.TopUp:  walletv1.MovementKind_MOVEMENT_KIND_TOP_UP,
			ledger.Refund: walletv1.MovementKind_MOVEMENT_KIND_REFUND,
			ledger.Adjust: walletv1.MovementKind_MOVEMENT_KIND_ADJUSTMENT,
			ledger.ByHand: walletv1.MovementKind_MOVEMENT_KIND_CORRECTION,
		}[m.Kind],
	}
}

func protoKey(k wallet.Key) *walletv1.SigningKey {
	return &walletv1.SigningKey{KeyId: k.ID.String(), PublicKey: k.Public, CreatedAt: timestamppb.New(k.CreatedAt)}
}
