package money

import (
	"math"
	"strconv"
	"strings"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
)

const digits = 9 // decimals of a dollar that a Nano can hold

// FromUSD converts a dollar amount of the published contract, rounding up.
// It reads the float as the shortest decimal that denotes it, so 0.1 is ten
// cents and not a hair more. NaN, infinities, negative amounts and amounts
// out of range are Invalid faults.
func FromUSD(usd float64) (Nano, error) {
	switch {
	case math.IsNaN(usd) || math.IsInf(usd, 0):
		return 0, fault.New(fault.Invalid, "an amount of money must be a number")
	case usd < 0:
		return 0, fault.New(fault.Invalid, "an amount of money cannot be negative")
	case usd > float64(Max)/float64(USDollar):
		return 0, ErrOverflow
	}
	return parse(strconv.FormatFloat(usd, 'f', -1, 64), true)
}

// USD is the amount as the published contract writes it. FromUSD gives the
// same Nano back up to a million dollars; above that a float64 runs out.
func (n Nano) USD() float64 { return float64(n) / float64(USDollar) }

// Parse reads a decimal amount of dollars such as "12.5", "$0.000000001" or
// "-$3", exactly: what does not fit nine decimals is an Invalid fault.
func Parse(s string) (Nano, error) { return parse(s, false) }

// String is "$1.23": two decimals at least, as many as needed at most. Parse
// reads it back.
func (n Nano) String() string {
	var b [24]byte
	return string(n.append(b[:0]))
}

func (n Nano) append(b []byte) []byte {
	u := uint64(n)
	if n < 0 {
		b = append(b, '-')
		u = -u
	}
	b = append(b, '$')
	b = strconv.AppendUint(b, u/uint64(USDollar), 10)
	frac := strconv.FormatUint(u%uint64(USDollar)+uint64(USDollar), 10)[1:]
	for len(frac) > 2 && frac[len(frac)-1] == '0' {
		frac = frac[:len(frac)-1]
	}
	return append(append(b, '.'), frac...)
}

// parse reads an optional sign, an optional dollar sign, digits and up to
// nine decimals; further decimals round away from zero if up, else fail
// unless they are zeros.
func parse(s string, up bool) (Nano, error) {
	text := s
	negative := strings.HasPrefix(text, "-")
	text = strings.TrimPrefix(strings.TrimPrefix(text, "-"), "$")
	whole, frac, dotted := strings.Cut(text, ".")
	if whole == "" || !decimal(whole) || !decimal(frac) || (dotted && frac == "") {
		return 0, fault.New(fault.Invalid, "%q is not an amount of dollars like 12.50", clip(s))
	}
	rest := ""
	if len(frac) > digits {
		frac, rest = frac[:digits], strings.TrimRight(frac[digits:], "0")
	}
	if rest != "" && !up {
		return 0, fault.New(fault.Invalid, "%q has more than %d decimals", clip(s), digits)
	}
	u, err := strconv.ParseUint(whole+frac+strings.Repeat("0", digits-len(frac)), 10, 64)
	if err != nil || u > math.MaxInt64 {
		return 0, ErrOverflow
	}
	n := Nano(u)
	if rest != "" {
		if n == Max {
			return 0, ErrOverflow
		}
		n++
	}
	if negative {
		n = -n
	}
	return n, nil
}

func decimal(s string) bool { return strings.Trim(s, "0123456789") == "" }

// clip keeps a stranger's input from filling a message.
func clip(s string) string {
	if len(s) > 40 {
		return s[:40] + "..."
	}
	return s
}
