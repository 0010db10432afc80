package api

import (
	"context"

	"github.com/fulcrum-io/fulcrum/pkg/identity"
	walletv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/wallet/v1"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/wallet"
)

// Wallets is the part of WalletService that configures wallets. What is in them
// the budget service answers.
type Wallets struct {
	walletv1.UnimplementedWalletServiceServer
	service *wallet.Service
}

// NewWallets returns Wallets over s.
func NewWallets(s *wallet.Service) *Wallets { return &Wallets{service: s} }

// CreateWallet implements walletv1.WalletServiceServer.
func (s *Wallets) CreateWallet(ctx context.Context, req *walletv1.CreateWalletRequest) (*walletv1.CreateWalletResponse, error) {
	by, err := identity.From(ctx)
	if err != nil {
		return nil, err
	}
	key, err := once(ctx, walletv1.WalletService_CreateWallet_FullMethodName, req)
	if err != nil {
		return nil, err
	}
	w, err := s.service.Create(ctx, by, &walletv1.Wallet{
		Name: req.GetName(), Description: req.GetDescription(), LowBalanceNano: req.GetLowBalanceNano(),
	}, key)
	if err != nil {
		return nil, err
	}
	return &walletv1.CreateWalletResponse{Wallet: w}, nil
}

// UpdateWallet implements walletv1.WalletServiceServer.
func (s *Wallets) UpdateWallet(ctx context.Context, req *walletv1.UpdateWalletRequest) (*walletv1.UpdateWalletResponse, error) {
	by, err := identity.From(ctx)
	if err != nil {
		return nil, err
	}
	u, err := id("wallet_id", req.GetWalletId())
	if err != nil {
		return nil, err
	}
	w, err := s.service.Update(ctx, by, u, req)
	if err != nil {
		return nil, err
	}
	return &walletv1.UpdateWalletResponse{Wallet: w}, nil
}
