package price

import (
	_ "embed"
	"fmt"
	"strings"
	"time"

	"github.com/fulcrum-io/fulcrum/pkg/pricelist"
)

// shippedCSV is the built-in list with where it is from; make prices writes it.
//
//go:embed shipped.csv
var shippedCSV []byte

// shipped is the built-in list. It changes only with a release.
var shipped = load(shippedCSV)

// ShippedVersion names the built-in list in every hold and charge priced by it.
var ShippedVersion = shipped.version

// list is a price list as it ships.
type list struct {
	version, source string
	byModel         map[string][]Price
}

// load reads a generated list; a test reads the same bytes, so that a broken one
// does not leave a build.
func load(text []byte) list {
	l := list{version: remark(text, "version"), source: remark(text, "source")}
	entries, err := pricelist.ParseShipped(text)
	if err != nil || l.version == "" {
		panic(fmt.Sprintf("price: the shipped list %q: %v", l.version, err))
	}
	prices := make([]Price, len(entries))
	for i, e := range entries {
		prices[i] = Of(e)
		prices[i].Version, prices[i].Source = l.version, l.source
		if e.From.IsZero() {
			prices[i].From = time.Unix(0, 0).UTC() // always
		}
	}
	l.byModel = byModel(prices)
	return l
}

// remark is what the head of the list says of name.
func remark(text []byte, name string) string {
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "#") {
			break
		}
		if said, ok := strings.CutPrefix(line, "# "+name+": "); ok {
			return strings.TrimSpace(said)
		}
	}
	return ""
}

// Of is an entry of a list as a price, without a version.
func Of(e pricelist.Entry) Price {
	p := Price{
		Model: pricelist.Name(e.Model), From: e.From, Ended: e.Ended,
		Input: e.Input, Output: e.Output, Cached: e.CachedInput, CacheWrite: e.CacheWrite, Reasoning: e.Reasoning, PerCall: e.PerCall,
	}
	for _, t := range e.Tiers {
		p.Tiers = append(p.Tiers, Tier{
			Above: t.Above, Input: t.Input, Output: t.Output, Cached: t.CachedInput, CacheWrite: t.CacheWrite, Reasoning: t.Reasoning, PerCall: t.PerCall,
		})
	}
	return p
}
