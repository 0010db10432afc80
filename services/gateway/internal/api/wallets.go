package api

import (
	"context"

	"google.golang.org/grpc"

	ledgerv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/ledger/v1"
	walletv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/wallet/v1"
)

// Wallets is fulcrum.wallet.v1.WalletService: wallets are the control plane's,
// what is in them is the budget service's.
type Wallets struct {
	walletv1.UnimplementedWalletServiceServer
	wallets walletv1.WalletServiceClient
	money   walletv1.WalletServiceClient
}

// NewWallets returns the service over its owners.
func NewWallets(controlPlane, budget grpc.ClientConnInterface) *Wallets {
	return &Wallets{wallets: walletv1.NewWalletServiceClient(controlPlane), money: walletv1.NewWalletServiceClient(budget)}
}

// CreateWallet implements WalletService.
func (s *Wallets) CreateWallet(ctx context.Context, req *walletv1.CreateWalletRequest) (*walletv1.CreateWalletResponse, error) {
	return s.wallets.CreateWallet(ctx, req)
}

// UpdateWallet implements WalletService.
func (s *Wallets) UpdateWallet(ctx context.Context, req *walletv1.UpdateWalletRequest) (*walletv1.UpdateWalletResponse, error) {
	return s.wallets.UpdateWallet(ctx, req)
}

// GetWallet implements WalletService.
func (s *Wallets) GetWallet(ctx context.Context, req *walletv1.GetWalletRequest) (*walletv1.GetWalletResponse, error) {
	return s.money.GetWallet(ctx, req)
}

// ListWallets implements WalletService.
func (s *Wallets) ListWallets(ctx context.Context, req *walletv1.ListWalletsRequest) (*walletv1.ListWalletsResponse, error) {
	return s.money.ListWallets(ctx, req)
}

// TopUpWallet implements WalletService.
func (s *Wallets) TopUpWallet(ctx context.Context, req *walletv1.TopUpWalletRequest) (*walletv1.TopUpWalletResponse, error) {
	return s.money.TopUpWallet(ctx, req)
}

// AdjustWallet implements WalletService.
func (s *Wallets) AdjustWallet(ctx context.Context, req *walletv1.AdjustWalletRequest) (*walletv1.AdjustWalletResponse, error) {
	return s.money.AdjustWallet(ctx, req)
}

// GetStatement implements WalletService.
func (s *Wallets) GetStatement(ctx context.Context, req *walletv1.GetStatementRequest) (*walletv1.GetStatementResponse, error) {
	return s.money.GetStatement(ctx, req)
}

// CreateSigningKey implements WalletService.
func (s *Wallets) CreateSigningKey(ctx context.Context, req *walletv1.CreateSigningKeyRequest) (*walletv1.CreateSigningKeyResponse, error) {
	return s.money.CreateSigningKey(ctx, req)
}

// ListSigningKeys implements WalletService.
func (s *Wallets) ListSigningKeys(ctx context.Context, req *walletv1.ListSigningKeysRequest) (*walletv1.ListSigningKeysResponse, error) {
	return s.money.ListSigningKeys(ctx, req)
}

// Books is fulcrum.ledger.v1.BookkeepingService.
type Books struct {
	ledgerv1.UnimplementedBookkeepingServiceServer
	books ledgerv1.BookkeepingServiceClient
}

// NewBooks returns the service over its owner.
func NewBooks(budget grpc.ClientConnInterface) *Books {
	return &Books{books: ledgerv1.NewBookkeepingServiceClient(budget)}
}

// ExportEntries implements BookkeepingService.
func (s *Books) ExportEntries(req *ledgerv1.ExportEntriesRequest, out grpc.ServerStreamingServer[ledgerv1.ExportEntriesResponse]) error {
	return s.Export(out.Context(), req, out.Send)
}

// Export passes the pages of an export to send.
func (s *Books) Export(ctx context.Context, req *ledgerv1.ExportEntriesRequest, send func(*ledgerv1.ExportEntriesResponse) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	from, err := s.books.ExportEntries(ctx, req)
	if err != nil {
		return err
	}
	return relay(ctx, from, send)
}

// CheckLedger implements BookkeepingService.
func (s *Books) CheckLedger(ctx context.Context, req *ledgerv1.CheckLedgerRequest) (*ledgerv1.CheckLedgerResponse, error) {
	return s.books.CheckLedger(ctx, req)
}

// CorrectCharge implements BookkeepingService.
func (s *Books) CorrectCharge(ctx context.Context, req *ledgerv1.CorrectChargeRequest) (*ledgerv1.CorrectChargeResponse, error) {
	return s.books.CorrectCharge(ctx, req)
}

// ListHolds implements BookkeepingService.
func (s *Books) ListHolds(ctx context.Context, req *ledgerv1.ListHoldsRequest) (*ledgerv1.ListHoldsResponse, error) {
	return s.books.ListHolds(ctx, req)
}

// ReleaseHold implements BookkeepingService.
func (s *Books) ReleaseHold(ctx context.Context, req *ledgerv1.ReleaseHoldRequest) (*ledgerv1.ReleaseHoldResponse, error) {
	return s.books.ReleaseHold(ctx, req)
}
