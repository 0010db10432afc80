package ledger

import "github.com/fulcrum-io/fulcrum/services/budget/internal/amount"

// Difference is a counter of a window that is not what its entries add up to,
// or that is negative.
type Difference struct {
	Window           WindowKey
	Account          Account // Held, Spent, Overage, or Credit
	Unit             amount.Unit
	Counter, Entries int64
}

// Credit is what was put into a wallet: what left External.
const Credit Account = "credit"

// accounts are the counted accounts of every unit, in the order in which
// Differences expects their numbers. The credit of a wallet follows the last.
var accounts = [...]Account{Held, Spent, Overage}

const counted = int(amount.Units) * len(accounts)

// Differences compares the counters of a window with the sums of its entries.
// Both list held, spent and overage of each unit in the order of the units,
// and then the credit of a wallet.
func Differences(w WindowKey, counters, entries []int64) (out []Difference) {
	for i, n := range counters {
		var sum int64
		if i < len(entries) {
			sum = entries[i]
		}
		if n == sum && n >= 0 {
			continue
		}
		d := Difference{Window: w, Account: Credit, Unit: amount.Cost, Counter: n, Entries: sum}
		if i < counted {
			d.Account, d.Unit = accounts[i%len(accounts)], amount.Unit(i/len(accounts))
		}
		out = append(out, d)
	}
	return out
}

// By is by how much the counter is off.
func (d Difference) By() int64 { return d.Counter - d.Entries }
