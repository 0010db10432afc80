// Package wallet keeps wallets as people configure them. What is in one is the
// ledger's business.
package wallet

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	walletv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/wallet/v1"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/change"
)

// Most is how many wallets a tenant may have: each instance of the data plane
// holds them.
const Most = 100

// cent is in nano-USD.
const cent = 10_000_000

// Store keeps wallets. Each change is one transaction that also publishes the
// tenant's next budget bundle and records what happened.
type Store interface {
	// CreateWallet stores a wallet under an id of its own. Repeated, it returns
	// what it returned the first time; it is a Conflict if once stands for
	// another request, or if there is a wallet of that name.
	CreateWallet(ctx context.Context, by identity.Principal, w *walletv1.Wallet, once change.Once) (*walletv1.Wallet, error)
	// ChangeWallet applies edit to the wallet while nobody else can change it, or
	// returns NotFound. A wallet that edit leaves as it was is not changed.
	ChangeWallet(ctx context.Context, by identity.Principal, id uuid.UUID, edit func(*walletv1.Wallet) error) (*walletv1.Wallet, error)
}

// Service is what may be done with wallets.
type Service struct{ store Store }

// New returns a Service over store.
func New(store Store) *Service { return &Service{store: store} }

// Create makes an empty wallet.
func (s *Service) Create(ctx context.Context, by identity.Principal, w *walletv1.Wallet, once change.Once) (*walletv1.Wallet, error) {
	w.Name = strings.TrimSpace(w.GetName())
	normalize(w)
	if err := check(w, "low_balance_nano"); err != nil {
		return nil, err
	}
	return s.store.CreateWallet(ctx, by, w, once)
}

// Update changes what the request sets. With an etag it is a Conflict if the
// wallet has changed since that etag.
func (s *Service) Update(ctx context.Context, by identity.Principal, id uuid.UUID, req *walletv1.UpdateWalletRequest) (*walletv1.Wallet, error) {
	reason := strings.TrimSpace(req.GetReason())
	if req.Frozen != nil && reason == "" {
		return nil, fault.Field("reason", "is required to freeze or thaw a wallet")
	}
	return s.store.ChangeWallet(ctx, by, id, func(w *walletv1.Wallet) error {
		if req.GetEtag() != "" && req.GetEtag() != w.GetEtag() {
			return change.Stale("wallet")
		}
		if req.Name != nil {
			w.Name = strings.TrimSpace(req.GetName())
		}
		if req.Description != nil {
			w.Description = req.GetDescription()
		}
		if req.LowBalances != nil {
			w.LowBalanceNano = slices.Clone(req.GetLowBalances().GetNano())
		}
		if req.Frozen != nil && req.GetFrozen() != w.GetFrozen() {
			w.Frozen, w.FrozenReason = req.GetFrozen(), ""
			if w.GetFrozen() {
				w.FrozenReason = reason
			}
		}
		normalize(w)
		return check(w, "low_balances.nano")
	})
}

func normalize(w *walletv1.Wallet) {
	slices.SortFunc(w.GetLowBalanceNano(), func(a, b int64) int { return int(min(max(b-a, -1), 1)) })
	w.LowBalanceNano = slices.Compact(w.GetLowBalanceNano())
}

// check says everything that is wrong with a wallet; low is the field that the
// caller named its low balances in.
func check(w *walletv1.Wallet, low string) error {
	var wrong []fault.Violation
	bad := func(field, format string, a ...any) {
		wrong = append(wrong, fault.Violation{Field: field, Description: fmt.Sprintf(format, a...)})
	}
	if w.GetName() == "" {
		bad("name", "is required")
	}
	for field, v := range map[string]string{"name": w.GetName(), "description": w.GetDescription(), "reason": w.GetFrozenReason()} {
		if strings.ContainsRune(v, 0) {
			bad(field, "contains a zero byte")
		}
	}
	for i, n := range w.GetLowBalanceNano() {
		if n%cent != 0 {
			bad(fmt.Sprintf("%s[%d]", low, i), "%d is not in whole cents of %d nano-USD", n, cent)
		}
	}
	if len(wrong) > 0 {
		return fault.Fields(wrong...).WithReason("WALLET_INVALID")
	}
	return nil
}
