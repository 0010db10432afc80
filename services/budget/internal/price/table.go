package price

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fulcrum-io/fulcrum/pkg/pricelist"
)

// Hint says what gives a model a price.
const Hint = "Import a price for the model, or a fallback price for models without one (model \"*\"): " +
	"fulcrum price import FILE, or POST /v1/prices."

// Table is a tenant's price list: its own prices over the shipped ones, and its
// fallbacks for what neither knows. It is read-only and safe for concurrent use.
type Table struct {
	own       map[string][]Price // by model, latest first
	fallbacks []fallback         // longest beginning first
	given     []Price
	latest    int64 // revision of the tenant's lists
}

type fallback struct {
	prefix string
	prices []Price
}

// NewTable returns a table with a tenant's own prices. A model that has a price
// of the tenant's own is never priced by the shipped list from that price's
// start on, until it is ended. A Model ending in "*" is a fallback.
func NewTable(own []Price) *Table {
	t := &Table{own: byModel(own), given: own}
	for _, p := range own {
		t.latest = max(t.latest, p.Revision)
	}
	for name, prices := range t.own {
		if prefix, ok := pricelist.Fallback(name); ok {
			t.fallbacks = append(t.fallbacks, fallback{prefix, prices})
			delete(t.own, name)
		}
	}
	slices.SortFunc(t.fallbacks, func(a, b fallback) int {
		if n := len(b.prefix) - len(a.prefix); n != 0 {
			return n
		}
		return strings.Compare(a.prefix, b.prefix)
	})
	return t
}

// As returns the table as a version left it: "tenant-7" is without the tenant's
// later lists, "shipped" without any. False means that there is no such version.
func (t *Table) As(version string) (*Table, bool) {
	revision := int64(-1)
	if version != "shipped" && version != ShippedVersion {
		n, err := strconv.ParseInt(strings.TrimPrefix(version, "tenant-"), 10, 64)
		if err != nil || version != "tenant-"+strconv.FormatInt(n, 10) || n < 1 || n > t.latest {
			return nil, false
		}
		revision = n
	}
	return NewTable(slices.DeleteFunc(slices.Clone(t.given), func(p Price) bool { return p.Revision > revision })), true
}

// At returns what model costs at the moment at. It tries the name as given,
// then without a provider ("openai/gpt-4o"), then without a date or "latest"
// at its end ("gpt-4o-2024-08-06"), then the tenant's fallbacks; false means
// that nobody has a price. The tenant's own prices are tried under all of these
// names before the shipped ones.
func (t *Table) At(model string, at time.Time) (Price, bool) {
	tried := names(model)
	for _, name := range tried {
		if p, ok := pick(t.own[name], at); ok && !p.Ended {
			return p, true
		}
	}
	for _, name := range tried {
		if p, ok := pick(shipped.byModel[name], at); ok {
			return p, true
		}
	}
	if tried[0] == "" {
		return Price{}, false // no model at all is not an unknown one
	}
	for _, f := range t.fallbacks {
		if !slices.ContainsFunc(tried, func(name string) bool { return strings.HasPrefix(name, f.prefix) }) {
			continue
		}
		if p, ok := pick(f.prices, at); ok && !p.Ended {
			return p, true
		}
	}
	return Price{}, false
}

func pick(prices []Price, at time.Time) (Price, bool) {
	for _, p := range prices {
		if !p.From.After(at) {
			return p, true
		}
	}
	return Price{}, false
}

// In lists what is in force at the moment at, by model: the tenant's own prices
// and fallbacks and, unless ownOnly, the shipped ones that they do not replace.
func (t *Table) In(at time.Time, ownOnly bool) []Price {
	var out []Price
	for _, prices := range t.own {
		if p, ok := pick(prices, at); ok && !p.Ended {
			out = append(out, p)
		}
	}
	for _, f := range t.fallbacks {
		if p, ok := pick(f.prices, at); ok && !p.Ended {
			out = append(out, p)
		}
	}
	if !ownOnly {
		for name, prices := range shipped.byModel {
			if p, ok := pick(t.own[name], at); ok && !p.Ended {
				continue
			}
			if p, ok := pick(prices, at); ok {
				out = append(out, p)
			}
		}
	}
	slices.SortFunc(out, func(a, b Price) int { return strings.Compare(a.Model, b.Model) })
	return out
}

var dated = regexp.MustCompile(`(-\d{4}-\d{2}-\d{2}|-\d{8}|-\d{3,4}|-latest|@\d{8}|:latest)$`)

// names lists what model may be called in a price list, most exact first.
func names(model string) []string {
	name := pricelist.Name(model)
	out := []string{name}
	if i := strings.LastIndexByte(name, '/'); i >= 0 {
		name = name[i+1:]
		out = append(out, name)
	}
	if bare := dated.ReplaceAllString(name, ""); bare != name && bare != "" {
		out = append(out, bare)
	}
	return out
}

// byModel files prices by model: latest first, and of two that begin together
// the one of the later list.
func byModel(prices []Price) map[string][]Price {
	m := make(map[string][]Price)
	for _, p := range prices {
		name := pricelist.Name(p.Model)
		m[name] = append(m[name], p)
	}
	for _, list := range m {
		slices.SortStableFunc(list, func(a, b Price) int {
			if c := b.From.Compare(a.From); c != 0 {
				return c
			}
			return int(b.Revision - a.Revision)
		})
	}
	return m
}
