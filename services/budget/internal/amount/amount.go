// Package amount counts what budgets limit: money, tokens, calls and time.
package amount

import (
	"math"
	"strconv"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/money"
)

// Unit is one thing that budgets limit.
type Unit int

// The units, in the order in which a refusal looks at them.
const (
	Cost Unit = iota // nano-USD
	TotalTokens
	InputTokens
	OutputTokens
	LLMCalls
	ToolCalls
	Seconds

	Units // how many there are
)

// String is the unit's name on the wire.
func (u Unit) String() string {
	return [Units]string{"cost_usd", "total_tokens", "input_tokens", "output_tokens", "llm_calls", "tool_calls", "seconds"}[u]
}

// Shown is n of this unit as the wire shows it: money in dollars, the rest as it is.
func (u Unit) Shown(n int64) float64 {
	if u == Cost {
		return money.Nano(n).USD()
	}
	return float64(n)
}

// Text is n of this unit for people.
func (u Unit) Text(n int64) string {
	if u == Cost {
		return money.Nano(n).String()
	}
	return itoa(n)
}

// Amounts is one quantity of each unit.
type Amounts [Units]int64

// Most is the largest quantity of one unit that a single call may name. Sums
// of millions of them still fit.
const Most = math.MaxInt64 / 8

// WithTotal returns a with the total tokens as the sum of input and output, or
// a fault naming the field that is negative or too large.
func (a Amounts) WithTotal(field string) (Amounts, error) {
	for u, n := range a {
		name := field + "." + wireField(Unit(u))
		if n < 0 {
			return a, fault.Field(name, "cannot be negative")
		}
		if n > Most {
			return a, fault.Field(name, "is too large").WithReason("AMOUNT_TOO_LARGE")
		}
	}
	a[TotalTokens] = a[InputTokens] + a[OutputTokens]
	return a, nil
}

// IsZero reports whether there is nothing of any unit.
func (a Amounts) IsZero() bool { return a == Amounts{} }

// Plus returns a+b, and false if a unit does not fit.
func (a Amounts) Plus(b Amounts) (Amounts, bool) {
	for u, n := range b {
		sum := a[u] + n
		if (n > 0) != (sum > a[u]) && n != 0 {
			return Amounts{}, false
		}
		a[u] = sum
	}
	return a, true
}

// Minus returns a-b unit by unit.
func (a Amounts) Minus(b Amounts) Amounts {
	for u, n := range b {
		a[u] -= n
	}
	return a
}

// Above returns what of a exceeds b, unit by unit, never negative.
func (a Amounts) Above(b Amounts) Amounts {
	for u, n := range b {
		a[u] = max(a[u]-n, 0)
	}
	return a
}

// Excess returns what of a stands above limit. A limit of 0 is no limit.
func (a Amounts) Excess(limit Amounts) Amounts {
	for u, n := range limit {
		if n == 0 {
			a[u] = 0
		} else {
			a[u] = max(a[u]-n, 0)
		}
	}
	return a
}

func wireField(u Unit) string {
	if u == Cost {
		return "cost_nano"
	}
	return u.String()
}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }
