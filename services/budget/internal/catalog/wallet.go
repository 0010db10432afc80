package catalog

import (
	"math"
	"slices"
	"strings"
	"time"

	"github.com/fulcrum-io/fulcrum/services/budget/internal/calendar"
)

// A wallet is in the ledger what a budget without an end is, except that its
// limit is the credit put in: that the ledger knows, and no configuration.

const walletPrefix = "wallet:"

// cent is in nano-USD.
const cent = 10_000_000

// Wallet is one wallet at one version of its tenant's configuration, read-only.
type Wallet struct {
	ID, Description, FrozenReason, Etag string

	LowBalances          []int64 // nano-USD
	CreatedAt, UpdatedAt time.Time
	Account              *Budget // its name, and what the ledger needs to know
}

// WalletAccount is the id under which a wallet is in the ledger.
func WalletAccount(walletID string) string { return walletPrefix + walletID }

// OfWallet returns the wallet that a ledger's account is of, and whether it is
// of one.
func OfWallet(account string) (walletID string, ok bool) {
	return strings.CutPrefix(account, walletPrefix)
}

// NewWallet returns the account of a wallet. It is called low when its balance
// falls to one of lowCents, and always when nothing is left.
func NewWallet(walletID, name string, frozen bool, lowCents []int32) *Budget {
	b := &Budget{
		ID:        WalletAccount(walletID),
		Name:      name,
		Mode:      Prepaid,
		Suspended: frozen,
		Period:    calendar.Period{Kind: calendar.Infinite},
	}
	for _, cents := range append(slices.Clone(lowCents), 0) {
		b.Thresholds = append(b.Thresholds, math.MaxInt32-cents)
	}
	slices.Sort(b.Thresholds)
	b.Thresholds = slices.Compact(b.Thresholds)
	return b
}

// LowBalance is the balance in nano-USD that a threshold of a wallet stands
// for. Thresholds rise as balances fall, like those of budgets do as spending
// rises; adding one never takes another's place.
func LowBalance(threshold int32) int64 {
	return int64(math.MaxInt32-threshold) * cent
}

// Suspense pays for charges that no budget covers. It limits nothing: it is
// there so that they are counted and checked like all others.
var Suspense = &Budget{
	ID:     "suspense",
	Name:   "charges that no budget covers",
	Mode:   Soft,
	Period: calendar.Period{Kind: calendar.Infinite},
}
