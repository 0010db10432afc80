package pricelist

import (
	"strings"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fulcrum-io/fulcrum/pkg/money"
	pricingv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/pricing/v1"
)

// FromWire is a price of the public contract as an entry. Its moment is cut to
// microseconds, which is as exact as a database keeps it.
func FromWire(p *pricingv1.Price) Entry {
	e := Entry{Model: p.GetModel(), Ended: p.GetEnded(), Rates: ratesOf(p.GetRates())}
	if p.GetEffectiveFrom() != nil {
		e.From = p.GetEffectiveFrom().AsTime().Truncate(1000)
	}
	for _, t := range p.GetTiers() {
		e.Tiers = append(e.Tiers, Tier{t.GetAboveInputTokens(), ratesOf(t.GetRates())})
	}
	return e
}

// Wire is an entry as a price of the public contract.
func Wire(e Entry) *pricingv1.Price {
	p := &pricingv1.Price{Model: e.Model, Ended: e.Ended}
	if !e.From.IsZero() {
		p.EffectiveFrom = timestamppb.New(e.From)
	}
	if !e.Ended {
		p.Rates = wireRates(e.Rates)
	}
	for _, t := range e.Tiers {
		p.Tiers = append(p.Tiers, &pricingv1.Tier{AboveInputTokens: t.Above, Rates: wireRates(t.Rates)})
	}
	return p
}

// WireField is where a field that Check names is in a price of the contract.
func WireField(field string) string {
	at, name := "", field
	if i := strings.LastIndexByte(field, '.'); i >= 0 {
		at, name = field[:i+1], field[i+1:]
	}
	for _, r := range rates {
		if r.name == name {
			return at + "rates." + name + "_nano"
		}
	}
	return field
}

func ratesOf(r *pricingv1.Rates) Rates {
	return Rates{
		Input: money.Nano(r.GetInputNano()), Output: money.Nano(r.GetOutputNano()), CachedInput: money.Nano(r.GetCachedInputNano()),
		CacheWrite: money.Nano(r.GetCacheWriteNano()), Reasoning: money.Nano(r.GetReasoningNano()), PerCall: money.Nano(r.GetPerCallNano()),
	}
}

func wireRates(r Rates) *pricingv1.Rates {
	return &pricingv1.Rates{
		InputNano: int64(r.Input), OutputNano: int64(r.Output), CachedInputNano: int64(r.CachedInput),
		CacheWriteNano: int64(r.CacheWrite), ReasoningNano: int64(r.Reasoning), PerCallNano: int64(r.PerCall),
	}
}
