package money

import (
	"errors"
	"math"
	"math/big"
	"testing"

	"pgregory.net/rapid"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
)

func TestFromUSDRoundsUpButAddsNothing(t *testing.T) {
	t.Parallel()
	tenth := 0.1
	for _, tt := range []struct {
		usd  float64
		want Nano
	}{
		{0, 0},
		{math.Copysign(0, -1), 0},
		{0.1, 100_000_000},
		{tenth + 2*tenth, 300_000_001}, // 0.30000000000000004: the float really is more
		{1e-9, 1},
		{1e-10, 1},
		{math.SmallestNonzeroFloat64, 1},
		{5.46875e-07, 547},
		{2.0000000001, 2_000_000_001},
		{12.5, 12_500_000_000},
		{9223372036, 9_223_372_036_000_000_000},
	} {
		got, err := FromUSD(tt.usd)
		if err != nil || got != tt.want {
			t.Errorf("FromUSD(%v) = %d, %v, want %d", tt.usd, got, err, tt.want)
		}
	}
}

func TestFromUSDRefusesWhatIsNoCharge(t *testing.T) {
	t.Parallel()
	for _, usd := range []float64{math.NaN(), math.Inf(1), math.Inf(-1), -1e-9, -1, 9.3e9, math.MaxFloat64} {
		if got, err := FromUSD(usd); !errors.Is(err, fault.Invalid) {
			t.Errorf("FromUSD(%v) = %d, %v", usd, got, err)
		}
	}
}

func TestUSDComesBackUpToAMillion(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := Nano(rapid.Int64Range(0, int64(1_000_000*USDollar)).Draw(t, "n"))
		if back, err := FromUSD(n.USD()); err != nil || back != n {
			t.Fatalf("%d became %d, %v", n, back, err)
		}
	})
}

func TestFromUSDIsNeverLessThanTheFloatSays(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		usd := rapid.Float64Range(0, 9e9).Draw(t, "usd")
		n, err := FromUSD(usd)
		if err != nil {
			t.Fatal(err)
		}
		// Not less, and not more than one nano above, give or take the float's own doubt.
		exact, _ := new(big.Float).Mul(big.NewFloat(usd), big.NewFloat(1e9)).Float64()
		doubt := 1 + usd*1e9*1e-15
		if d := float64(n) - exact; d < -doubt || d > 1+doubt {
			t.Fatalf("FromUSD(%v) = %d", usd, n)
		}
	})
}

func TestStringsComeBack(t *testing.T) {
	t.Parallel()
	for n, want := range map[Nano]string{
		0:              "$0.00",
		1:              "$0.000000001",
		USDollar:       "$1.00",
		1_230_000_000:  "$1.23",
		1_234_500_000:  "$1.2345",
		-USDollar / 2:  "-$0.50",
		Max:            "$9223372036.854775807",
		math.MinInt64:  "-$9223372036.854775808",
		10 * USDollar:  "$10.00",
		-1:             "-$0.000000001",
		100_000_000:    "$0.10",
		-1_000_000_001: "-$1.000000001",
	} {
		if got := n.String(); got != want {
			t.Errorf("%d is %q, want %q", int64(n), got, want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		n := Nano(rapid.Int64Range(math.MinInt64+1, math.MaxInt64).Draw(t, "n"))
		if back, err := Parse(n.String()); err != nil || back != n {
			t.Fatalf("%d printed as %s and came back as %d, %v", int64(n), n, int64(back), err)
		}
	})
}

func TestParseIsExactOrFails(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]Nano{
		"1":             USDollar,
		"007.50":        7_500_000_000,
		"$0.1":          100_000_000,
		"-3":            -3 * USDollar,
		"1.0000000010":  1_000_000_001, // more decimals, but zeros
		"$9223372036.0": 9_223_372_036 * USDollar,
	} {
		if got, err := Parse(s); err != nil || got != want {
			t.Errorf("Parse(%q) = %d, %v, want %d", s, got, err, want)
		}
	}
	for _, s := range []string{"", "$", "-", ".5", "5.", "1e3", "+1", " 1", "1 ", "1,000", "0x10", "--1", "$-1", "1.2.3",
		"1.0000000001", "9223372036.854775808", "99999999999999999999", "٣", "NaN", "1_000"} {
		if got, err := Parse(s); !errors.Is(err, fault.Invalid) {
			t.Errorf("Parse(%q) = %d, %v", s, got, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"1", "-$1.5", "0.000000001", "9223372036.854775807", "1e9", "..", "$"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := Parse(s)
		if err != nil {
			if !errors.Is(err, fault.Invalid) {
				t.Fatalf("Parse(%q) = %v", s, err)
			}
			return
		}
		if back, err := Parse(n.String()); err != nil || back != n {
			t.Fatalf("%q is %d, but %s is %d, %v", s, n, n, back, err)
		}
	})
}

// wide does arithmetic that cannot overflow, to check ours against.
func wide(n Nano) *big.Int { return big.NewInt(int64(n)) }

func agrees(t *rapid.T, what string, got Nano, err error, exact *big.Int) {
	t.Helper()
	if exact.IsInt64() {
		if err != nil || int64(got) != exact.Int64() {
			t.Fatalf("%s = %d, %v, want %s", what, got, err, exact)
		}
	} else if !errors.Is(err, ErrOverflow) {
		t.Fatalf("%s = %d, %v, want overflow for %s", what, got, err, exact)
	}
}

func TestArithmeticIsExactOrOverflows(t *testing.T) {
	t.Parallel()
	any64 := rapid.OneOf(rapid.Int64(), rapid.Int64Range(-3, 3),
		rapid.SampledFrom([]int64{math.MinInt64, math.MinInt64 + 1, math.MaxInt64, math.MaxInt64 - 1}))
	rapid.Check(t, func(t *rapid.T) {
		a, b := Nano(any64.Draw(t, "a")), Nano(any64.Draw(t, "b"))
		sum, err := a.Add(b)
		agrees(t, "Add", sum, err, new(big.Int).Add(wide(a), wide(b)))
		diff, err := a.Sub(b)
		agrees(t, "Sub", diff, err, new(big.Int).Sub(wide(a), wide(b)))
		product, err := a.Mul(int64(b))
		agrees(t, "Mul", product, err, new(big.Int).Mul(wide(a), wide(b)))
	})
	if total, err := Sum(1, 2, 3); total != 6 || err != nil {
		t.Errorf("Sum = %d, %v", total, err)
	}
	if _, err := Sum(Max, 1); !errors.Is(err, ErrOverflow) {
		t.Errorf("Sum past the end: %v", err)
	}
}

func TestPricePerMillionRoundsUpExactly(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		tokens int64
		price  Nano
		want   Nano
	}{
		{0, USDollar, 0},
		{1, 0, 0},
		{1, 1, 1}, // a millionth of a nano-dollar still costs one
		{1_000_000, 3 * USDollar, 3 * USDollar},
		{1, 60_000_000, 60}, // $0.06 per million
		{3, 333_333, 1},
		{3, 333_334, 2},
	} {
		if got, err := PricePerMillion(tt.tokens, tt.price); err != nil || got != tt.want {
			t.Errorf("PricePerMillion(%d, %d) = %d, %v, want %d", tt.tokens, tt.price, got, err, tt.want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		tokens := rapid.Int64Min(0).Draw(t, "tokens")
		price := Nano(rapid.Int64Min(0).Draw(t, "price"))
		exact := new(big.Int).Mul(big.NewInt(tokens), wide(price))
		exact.Add(exact, big.NewInt(999_999)).Div(exact, big.NewInt(1_000_000))
		got, err := PricePerMillion(tokens, price)
		agrees(t, "PricePerMillion", got, err, exact)
	})
	for _, bad := range [][2]int64{{-1, 1}, {1, -1}} {
		if _, err := PricePerMillion(bad[0], Nano(bad[1])); !errors.Is(err, fault.Invalid) {
			t.Errorf("PricePerMillion(%v) = %v", bad, err)
		}
	}
}

func BenchmarkPricePerMillion(b *testing.B) {
	for b.Loop() {
		if _, err := PricePerMillion(1234, 3*USDollar); err != nil {
			b.Fatal(err)
		}
	}
}
