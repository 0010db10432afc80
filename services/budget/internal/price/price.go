// Package price says what a model's tokens and calls cost, and by which
// version of which price list.
package price

import (
	"math"
	"math/bits"
	"time"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/money"
)

// Price is one model's price from a moment on, per million tokens and per call.
type Price struct {
	Model                            string
	Input, Output, Cached, Reasoning money.Nano // Cached 0: as Input; Reasoning 0: as Output
	CacheWrite                       money.Nano // 0: as Input
	PerCall                          money.Nano
	Tiers                            []Tier // by the length of the input, ascending
	From                             time.Time
	Version                          string // names the price list
	Source                           string // where the figure is from; empty for a tenant's own
	Ended                            bool   // the tenant has no price of its own any more
	Revision                         int64  // of the tenant's lists; of two with the same From the later counts
}

// Tier holds for the whole of a call whose input is longer than Above tokens. A
// rate of 0 is as in the tier below.
type Tier struct {
	Above                                        int64
	Input, Output, Cached, CacheWrite, Reasoning money.Nano
	PerCall                                      money.Nano
}

// Usage is what one call, or several, used. Cached and CacheWrite tokens are part
// of Input and reasoning tokens part of Output.
type Usage struct{ Input, Cached, CacheWrite, Output, Reasoning, Calls int64 }

// rates are the price of a call of known length, with nothing left to default.
type rates struct{ input, output, cached, cacheWrite, reasoning, perCall money.Nano }

// tier returns the rates of the n-th tier, 0 being the price itself.
func (p Price) tier(n int) rates {
	r := rates{p.Input, p.Output, p.Cached, p.CacheWrite, p.Reasoning, p.PerCall}
	for _, t := range p.Tiers[:n] {
		r = rates{
			or(t.Input, r.input), or(t.Output, r.output), or(t.Cached, r.cached),
			or(t.CacheWrite, r.cacheWrite), or(t.Reasoning, r.reasoning), or(t.PerCall, r.perCall),
		}
	}
	r.cached, r.cacheWrite, r.reasoning = or(r.cached, r.input), or(r.cacheWrite, r.input), or(r.reasoning, r.output)
	return r
}

// reached is how many tiers an input of so many tokens has passed.
func (p Price) reached(input int64) (n int) {
	for n < len(p.Tiers) && input > p.Tiers[n].Above {
		n++
	}
	return n
}

// Cost is what u costs at p, input and output each rounded up, or
// money.ErrOverflow. The tier is that of the whole input: of several calls
// together, the dearest they can have had.
func (p Price) Cost(u Usage) (money.Nano, error) {
	r := p.tier(p.reached(u.Input))
	return sum(r.perCall, u.Calls,
		[]part{{max(u.Input-u.Cached-u.CacheWrite, 0), r.input}, {u.Cached, r.cached}, {u.CacheWrite, r.cacheWrite}},
		[]part{{max(u.Output-u.Reasoning, 0), r.output}, {u.Reasoning, r.reasoning}},
	)
}

// Worst is the most that up to input and output tokens can cost at p, however
// many of them turn out to be cached or reasoning, and whichever tier that is.
func (p Price) Worst(input, output, calls int64) (money.Nano, error) {
	var in, out, call money.Nano
	for n := range p.reached(input) + 1 {
		r := p.tier(n)
		in, out, call = max(in, r.input, r.cached, r.cacheWrite), max(out, r.output, r.reasoning), max(call, r.perCall)
	}
	return sum(call, calls, []part{{input, in}}, []part{{output, out}})
}

type part struct {
	tokens int64
	price  money.Nano
}

// sum rounds up once for each group: were every part rounded by itself, what is
// charged could pass the worst case by a nano or two.
func sum(perCall money.Nano, calls int64, groups ...[]part) (money.Nano, error) {
	total, err := perCall.Mul(calls)
	for _, group := range groups {
		var cost money.Nano
		if err == nil {
			cost, err = perMillion(group)
		}
		if err == nil {
			total, err = total.Add(cost)
		}
	}
	return total, err
}

// perMillion is what parts cost together, rounded up.
func perMillion(parts []part) (money.Nano, error) {
	const million = 1_000_000
	var hi, lo uint64
	for _, p := range parts {
		if p.tokens < 0 || p.price < 0 {
			return 0, fault.New(fault.Invalid, "tokens and prices cannot be negative")
		}
		h, l := bits.Mul64(uint64(p.tokens), uint64(p.price))
		var carry uint64
		lo, carry = bits.Add64(lo, l, 0)
		if hi += h + carry; hi >= million { // h is below 2^62, so no carry is lost
			return 0, money.ErrOverflow
		}
	}
	lo, carry := bits.Add64(lo, million-1, 0)
	if hi += carry; hi >= million {
		return 0, money.ErrOverflow
	}
	cost, _ := bits.Div64(hi, lo, million)
	if cost > math.MaxInt64 {
		return 0, money.ErrOverflow
	}
	return money.Nano(cost), nil
}

func or(a, b money.Nano) money.Nano {
	if a != 0 {
		return a
	}
	return b
}
