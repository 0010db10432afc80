// Package money counts nano-dollars exactly: no floats inside, no silent
// overflow, and charges that round up.
package money

import (
	"math"
	"math/bits"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
)

// Nano is an amount in nano-USD: 1 USD = 1,000,000,000. Its range is about
// nine billion dollars either way.
type Nano int64

// USDollar is one dollar.
const USDollar Nano = 1_000_000_000

// Max is the largest amount.
const Max Nano = math.MaxInt64

// ErrOverflow says that a result does not fit a Nano. It is an Invalid fault,
// because only amounts that a caller sent can be that large.
var ErrOverflow = fault.New(fault.Invalid, "the amount is too large").WithReason("AMOUNT_TOO_LARGE")

// Add returns n+m, or ErrOverflow.
func (n Nano) Add(m Nano) (Nano, error) {
	sum := n + m
	if (sum > n) != (m > 0) && m != 0 {
		return 0, ErrOverflow
	}
	return sum, nil
}

// Sub returns n-m, or ErrOverflow.
func (n Nano) Sub(m Nano) (Nano, error) {
	diff := n - m
	if (diff < n) != (m > 0) && m != 0 {
		return 0, ErrOverflow
	}
	return diff, nil
}

// Mul returns n times k, or ErrOverflow.
func (n Nano) Mul(k int64) (Nano, error) {
	if n == 0 || k == 0 {
		return 0, nil
	}
	product := int64(n) * k
	if product/k != int64(n) || (k == -1 && int64(n) == math.MinInt64) {
		return 0, ErrOverflow
	}
	return Nano(product), nil
}

// Sum adds all amounts, or returns ErrOverflow.
func Sum(amounts ...Nano) (total Nano, err error) {
	for _, n := range amounts {
		if total, err = total.Add(n); err != nil {
			return 0, err
		}
	}
	return total, nil
}

// PricePerMillion is what tokens cost at price per million tokens, rounded up
// to the next nano-dollar, so that no use is ever free because it is small.
// Negative arguments are refused.
func PricePerMillion(tokens int64, price Nano) (Nano, error) {
	if tokens < 0 || price < 0 {
		return 0, fault.New(fault.Invalid, "tokens and prices cannot be negative")
	}
	const million = 1_000_000
	hi, lo := bits.Mul64(uint64(tokens), uint64(price))
	lo, carry := bits.Add64(lo, million-1, 0)
	hi += carry
	if hi >= million {
		return 0, ErrOverflow
	}
	cost, _ := bits.Div64(hi, lo, million)
	if cost > math.MaxInt64 {
		return 0, ErrOverflow
	}
	return Nano(cost), nil
}
