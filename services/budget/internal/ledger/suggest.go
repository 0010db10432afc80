package ledger

import (
	"math"
	"sort"

	"github.com/fulcrum-io/fulcrum/services/budget/internal/amount"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/catalog"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/price"
)

// suggest is the most of each unit asked for that fits now in all windows at
// once, or nothing. What comes out is a request that would be granted now: of
// the tokens the output is cut first, and so far that their price fits as well.
// A unit that was asked for is never cut to zero: that would be another action.
func (r *Reserve) suggest(b *Books, windows []*Window) amount.Amounts {
	room, open := roomIn(windows)
	if !open {
		return amount.Amounts{}
	}
	fit := r.plan.amounts
	for u := range fit {
		if u := amount.Unit(u); u != amount.TotalTokens && u != amount.Cost {
			fit[u] = min(fit[u], room[u])
		}
	}
	last := amount.OutputTokens // the one that gives way
	if fit[last] == 0 {
		last = amount.InputTokens
	}
	others := fit[amount.InputTokens] + fit[amount.OutputTokens] - fit[last]
	fit[last] = min(fit[last], room[amount.TotalTokens]-others)
	if r.plan.priceVersion == "" {
		fit[amount.Cost] = min(fit[amount.Cost], room[amount.Cost])
	} else if p, known := b.Catalogs[r.Tenant].Prices.At(r.Subject.Model, b.Now); known {
		fit[last], fit[amount.Cost] = affordable(p, fit, last, room[amount.Cost])
	}
	fit[amount.TotalTokens] = fit[amount.InputTokens] + fit[amount.OutputTokens]
	for u, asked := range r.plan.amounts {
		if asked > 0 && fit[u] <= 0 {
			return amount.Amounts{}
		}
	}
	return fit
}

// roomIn is what is left of each unit in the windows that refuse beyond their
// limit, and false if one of them lets nothing through at all.
func roomIn(windows []*Window) (room amount.Amounts, open bool) {
	for u := range room {
		room[u] = math.MaxInt64
	}
	for _, w := range windows {
		if w.Suspended {
			return room, false
		}
		if w.Mode == catalog.Soft {
			continue
		}
		for u, limit := range w.Limit {
			if w.bounds(amount.Unit(u)) {
				room[u] = min(room[u], max(limit-w.Held[u]-w.Spent[u], 0))
			}
		}
	}
	return room, true
}

// affordable is how many tokens of one kind fit at p beside the others, and
// what all of them cost together.
func affordable(p price.Price, fit amount.Amounts, kind amount.Unit, room int64) (tokens, cost int64) {
	worst := func(n int64) int64 {
		fit[kind] = n
		c, err := p.Worst(fit[amount.InputTokens], fit[amount.OutputTokens], fit[amount.LLMCalls])
		if err != nil {
			return math.MaxInt64
		}
		return int64(c)
	}
	most := int(max(fit[kind], 0))
	n := sort.Search(most, func(n int) bool { return worst(int64(n)+1) > room })
	return int64(n), worst(int64(n))
}

// passes reports whether ask may fit into w some time without anybody changing
// a limit: in its next window, when holds come back, or when an override ends.
func (w *Window) passes(u amount.Unit, ask int64) bool {
	resets := w.End.Before(never) && ask <= w.Limit[u]
	return w.override != nil || resets || ask <= w.Limit[u]-w.Spent[u]
}
