// Package pricelist is the file form of a list of model prices, and what every
// list must keep to: the table that ships, and the ones tenants import and export.
package pricelist

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/fulcrum-io/fulcrum/pkg/money"
)

// Rates are what a model costs: nano-USD per million tokens, and per call. A
// CachedInput or CacheWrite of 0 costs as Input, a Reasoning of 0 as Output.
type Rates struct {
	Input, Output, CachedInput, CacheWrite, Reasoning, PerCall money.Nano
}

// Tier holds for the whole of a call whose input is longer than Above tokens. A
// rate of 0 is that of the tier below.
type Tier struct {
	Above int64
	Rates
}

// Entry is the price of one model from a moment on.
type Entry struct {
	// Model is a name as callers send it, or a fallback for models without a
	// price: a beginning followed by "*", or "*" alone.
	Model string
	From  time.Time // zero: not said
	Ended bool      // from then on the list has no price for the model
	Rates
	Tiers []Tier // ascending
	Line  int    // where it begins in its file; 0: it is of no file
}

// The most that a list may hold and say.
const (
	MaxEntries    = 2000
	MaxTiers      = 16
	MaxAbove      = 1_000_000_000
	MaxPerMillion = 1_000_000 * money.USDollar
	MaxPerCall    = 1_000_000 * money.USDollar
	MaxModel      = 256
)

// Problem is one thing that is wrong with a list.
type Problem struct {
	Line  int // in the file; 0: unknown
	Entry int // index in the list; -1: it is of none
	Field string
	Text  string
}

func (p Problem) String() string {
	s := p.Text
	if p.Field != "" {
		s = p.Field + " " + s
	}
	if p.Line > 0 {
		s = fmt.Sprintf("line %d: %s", p.Line, s)
	}
	return s
}

// Problems is a list refused, with everything that is wrong.
type Problems []Problem

// Error says the first twenty.
func (ps Problems) Error() string {
	const most = 20
	lines := make([]string, 0, most)
	for i, p := range ps {
		if i == most {
			lines = append(lines, fmt.Sprintf("and %d more", len(ps)-most))
			break
		}
		lines = append(lines, p.String())
	}
	return strings.Join(lines, "\n")
}

// Name is a model's name as it is compared: letter case and space around it do
// not count.
func Name(model string) string { return strings.ToLower(strings.TrimSpace(model)) }

// Fallback reports whether model stands for models without a price, and how
// their names begin.
func Fallback(model string) (prefix string, ok bool) { return strings.CutSuffix(Name(model), "*") }

// Check returns everything that is wrong with a list, nil if nothing is. A price
// of nothing at all is wrong: no call is free by accident.
func Check(list []Entry) Problems { return check(list, MaxEntries) }

func check(list []Entry, most int) Problems {
	var wrong Problems
	if len(list) > most {
		return Problems{{Entry: -1, Text: fmt.Sprintf("the list has more than %d prices", most)}}
	}
	type key struct {
		model string
		from  int64
	}
	seen := make(map[key]int, len(list))
	for i, e := range list {
		bad := func(field, format string, a ...any) {
			wrong = append(wrong, Problem{e.Line, i, field, fmt.Sprintf(format, a...)})
		}
		checkModel(e.Model, bad)
		if y := e.From.Year(); !e.From.IsZero() && (y < 1970 || y > 9999) {
			bad("effective_from", "must be between 1970 and 9999")
		}
		switch {
		case e.Ended && (e.Rates != Rates{} || len(e.Tiers) > 0):
			bad("ended", "a price that ends has no rates")
		case !e.Ended:
			checkRates("", e.Rates, bad)
			checkTiers(e.Tiers, bad)
		}
		k := key{Name(e.Model), e.From.UnixMicro()}
		if first, twice := seen[k]; twice {
			bad("model", "%q is there already with this effective_from (%s)", e.Model, place(list[first], first))
		}
		seen[k] = i
	}
	return wrong
}

func place(e Entry, i int) string {
	if e.Line > 0 {
		return fmt.Sprintf("line %d", e.Line)
	}
	return fmt.Sprintf("entry %d", i)
}

func checkModel(model string, bad func(field, format string, a ...any)) {
	name := Name(model)
	switch {
	case name == "":
		bad("model", "is missing")
	case len(name) > MaxModel:
		bad("model", "is longer than %d bytes", MaxModel)
	case strings.IndexFunc(name, func(r rune) bool { return r <= ' ' || r == 0x7f }) >= 0:
		bad("model", "%q has spaces or control characters", model)
	case name[0] == '#':
		bad("model", "%q begins as a comment does", model)
	case strings.Contains(strings.TrimSuffix(name, "*"), "*"):
		bad("model", "%q: a * stands only at the end, for every model that begins so", model)
	}
}

// rate is one of the amounts of Rates, by its name in files and on the wire.
type rate struct {
	name string
	of   func(*Rates) *money.Nano
	most money.Nano
}

var rates = []rate{
	{"input", func(r *Rates) *money.Nano { return &r.Input }, MaxPerMillion},
	{"output", func(r *Rates) *money.Nano { return &r.Output }, MaxPerMillion},
	{"cached_input", func(r *Rates) *money.Nano { return &r.CachedInput }, MaxPerMillion},
	{"cache_write", func(r *Rates) *money.Nano { return &r.CacheWrite }, MaxPerMillion},
	{"reasoning", func(r *Rates) *money.Nano { return &r.Reasoning }, MaxPerMillion},
	{"per_call", func(r *Rates) *money.Nano { return &r.PerCall }, MaxPerCall},
}

func checkRates(at string, r Rates, bad func(field, format string, a ...any)) {
	if r == (Rates{}) {
		bad(at+"input", "is missing: a price needs a rate above zero")
	}
	for _, one := range rates {
		switch n := *one.of(&r); {
		case n < 0:
			bad(at+one.name, "cannot be negative")
		case n > one.most:
			bad(at+one.name, "is more than %s", one.most)
		}
	}
}

func checkTiers(tiers []Tier, bad func(field, format string, a ...any)) {
	if len(tiers) > MaxTiers {
		bad("tiers", "are more than %d", MaxTiers)
		return
	}
	above := int64(0)
	for i, t := range tiers {
		at := fmt.Sprintf("tiers[%d].", i)
		if t.Above <= above || t.Above > MaxAbove {
			bad(at+"above_input_tokens", "must be above %d and at most %d", above, MaxAbove)
		}
		above = t.Above
		checkRates(at, t.Rates, bad)
	}
}

// Equal reports whether two entries say the same price; not their lines.
func Equal(a, b Entry) bool {
	return Name(a.Model) == Name(b.Model) && a.From.Equal(b.From) && Same(a, b)
}

// Same reports whether two entries cost the same, whatever they are called.
func Same(a, b Entry) bool {
	return a.Ended == b.Ended && a.Rates == b.Rates && slices.Equal(a.Tiers, b.Tiers)
}
