package price_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"regexp"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/fulcrum-io/fulcrum/pkg/money"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/price"
)

func usd(dollars float64) money.Nano { return money.Nano(dollars * 1e9) }

func TestModelsPeopleUseHaveTheirPublishedPrices(t *testing.T) {
	t.Parallel()
	table := price.NewTable(nil)
	for model, want := range map[string]price.Price{
		"gpt-4o":                 {Input: usd(2.5), Output: usd(10), Cached: usd(1.25)},
		"gpt-4o-mini":            {Input: usd(0.15), Output: usd(0.6), Cached: usd(0.075)},
		"gpt-5":                  {Input: usd(1.25), Output: usd(10), Cached: usd(0.125)},
		"claude-3-5-haiku":       {Input: usd(0.8), Output: usd(4), Cached: usd(0.08), CacheWrite: usd(1)},
		"text-embedding-3-small": {Input: usd(0.02)},
		"mistral-large":          {Input: usd(2), Output: usd(6)},
		"nova-pro":               {Input: usd(0.8), Output: usd(3.2), Cached: usd(0.2)},
	} {
		p, ok := table.At(model, now)
		if !ok || p.Input != want.Input || p.Output != want.Output || p.Cached != want.Cached || p.CacheWrite != want.CacheWrite {
			t.Errorf("%s: %+v, %v", model, p, ok)
		}
		if p.Version != price.ShippedVersion || p.Source == "" {
			t.Errorf("%s: of %q from %q", model, p.Version, p.Source)
		}
	}
	if n := len(table.In(now, false)); n < 500 {
		t.Errorf("%d models are shipped", n)
	}
}

// The list is a generator's: whoever edits it by hand is told.
func TestTheShippedListIsAsItWasGenerated(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("shipped.csv")
	if err != nil {
		t.Fatal(err)
	}
	body := text[bytes.Index(text, []byte("\nmodel,"))+1:]
	sum := sha256.Sum256(body)
	said := regexp.MustCompile(`# rows sha256: ([0-9a-f]{64})\n`).FindSubmatch(text)
	if said == nil || string(said[1]) != hex.EncodeToString(sum[:]) {
		t.Error("shipped.csv was changed by hand; run: make prices")
	}
	pinned, err := os.ReadFile("../../../../deploy/prices/requirements.txt")
	if err != nil {
		t.Fatal(err)
	}
	pin := regexp.MustCompile(`genai-prices==(\S+) --hash=sha256:([0-9a-f]{64})`).FindSubmatch(pinned)
	if pin == nil || !bytes.Contains(text, append([]byte("sha256 "), pin[2]...)) || price.ShippedVersion != "shipped-genai-prices-"+string(pin[1]) {
		t.Errorf("shipped.csv is %s, which is not what deploy/prices/requirements.txt pins; run: make prices", price.ShippedVersion)
	}
}

func TestADatedPriceHoldsFromItsFirstMoment(t *testing.T) {
	t.Parallel()
	day := time.Date(2025, 6, 10, 0, 0, 0, 0, time.UTC) // o3 became cheaper
	table := price.NewTable([]price.Price{{Model: "o3", Input: 1, From: day.AddDate(1, 0, 0), Version: "tenant-1"},
		{Model: "o3", Ended: true, From: day.AddDate(2, 0, 0), Version: "tenant-2"}})
	for at, input := range map[time.Time]money.Nano{
		day.Add(-1): usd(10), day: usd(2),
		day.AddDate(1, 0, 0).Add(-1): usd(2), day.AddDate(1, 0, 0): 1,
		day.AddDate(2, 0, 0).Add(-1): 1, day.AddDate(2, 0, 0): usd(2), // ended: as shipped again
	} {
		if p, ok := table.At("o3", at); !ok || p.Input != input {
			t.Errorf("at %v: %+v, %v; want %v", at, p, ok, input)
		}
	}
}

func TestTheLaterListCountsOfTwoThatBeginTogether(t *testing.T) {
	t.Parallel()
	own := []price.Price{
		{Model: "m", Input: 2, From: now, Version: "tenant-2", Revision: 2},
		{Model: "m", Input: 1, From: now, Version: "tenant-1", Revision: 1},
	}
	for _, version := range []string{"tenant-1", "tenant-2"} {
		table, ok := price.NewTable(own).As(version)
		if !ok {
			t.Fatalf("there is no %s", version)
		}
		if p, ok := table.At("m", now); !ok || p.Version != version {
			t.Errorf("as of %s: %+v, %v", version, p, ok)
		}
	}
	for _, version := range []string{"shipped", price.ShippedVersion} {
		if table, ok := price.NewTable(own).As(version); !ok {
			t.Errorf("there is no %s", version)
		} else if p, ok := table.At("m", now); ok {
			t.Errorf("before any list: %+v", p)
		}
	}
	for _, version := range []string{"", "tenant-0", "tenant-3", "tenant-01", "tenant--1", "tenant-x", "shipped-1999"} {
		if _, ok := price.NewTable(own).As(version); ok {
			t.Errorf("there is a version %q", version)
		}
	}
}

func TestAnUnknownModelCostsTheTenantsFallbackOrIsUnknown(t *testing.T) {
	t.Parallel()
	if _, ok := price.NewTable(nil).At("house-model", now); ok {
		t.Error("a price for nothing")
	}
	table := price.NewTable([]price.Price{
		{Model: "*", Input: 9, From: now, Version: "any"},
		{Model: "house-*", Input: 5, From: now, Version: "house"},
		{Model: "house-b*", Input: 6, From: now.AddDate(0, 0, 1), Version: "later"},
	})
	for model, want := range map[string]string{
		"house-a": "house", "acme/House-a": "house", "house-b": "house", "other": "any", "gpt-4o": price.ShippedVersion,
	} {
		if p, ok := table.At(model, now); !ok || p.Version != want {
			t.Errorf("%s: %+v, %v; want %s", model, p, ok, want)
		}
	}
	if p, _ := table.At("house-b", now.AddDate(0, 0, 1)); p.Version != "later" {
		t.Errorf("the longest beginning: %+v", p)
	}
	if _, ok := table.At("other", now.Add(-1)); ok {
		t.Error("the fallback holds before it begins")
	}
	if _, ok := table.At("", now); ok {
		t.Error("no model is priced as an unknown one")
	}
}

func TestTheTierIsThatOfTheWholeInput(t *testing.T) {
	t.Parallel()
	p := price.Price{Input: usd(1), Output: usd(10), Cached: usd(0.1), Tiers: []price.Tier{{Above: 200_000, Input: usd(2), Output: usd(15)}}}
	for input, want := range map[int64]money.Nano{200_000: usd(0.2), 200_001: usd(0.400002)} {
		if got, err := p.Cost(price.Usage{Input: input}); err != nil || got != want {
			t.Errorf("%d tokens cost %v, %v; want %v", input, got, err, want)
		}
	}
	if got, _ := p.Cost(price.Usage{Input: 300_000, Cached: 300_000, Output: 1_000_000}); got != usd(15.03) {
		t.Errorf("cached input in the tier: %v", got)
	}
}

// Whatever a call turns out to be, within its estimate it costs no more than was
// held for it.
func TestNoChargeWithinTheEstimateIsMoreThanTheHold(t *testing.T) {
	t.Parallel()
	amount := rapid.Int64Range(0, 200_000_000_000)
	nano := func(t *rapid.T, name string) money.Nano {
		return money.Nano(rapid.OneOf(rapid.Just(int64(0)), rapid.Int64Range(1, 20), amount).Draw(t, name))
	}
	rapid.Check(t, func(t *rapid.T) {
		p := price.Price{Input: nano(t, "input"), Output: nano(t, "output"), Cached: nano(t, "cached"),
			CacheWrite: nano(t, "write"), Reasoning: nano(t, "reasoning"), PerCall: nano(t, "call")}
		above := int64(0)
		for range rapid.IntRange(0, 3).Draw(t, "tiers") {
			above += rapid.Int64Range(1, 5000).Draw(t, "above")
			p.Tiers = append(p.Tiers, price.Tier{Above: above, Input: nano(t, "input"), Output: nano(t, "output"),
				Cached: nano(t, "cached"), CacheWrite: nano(t, "write"), Reasoning: nano(t, "reasoning"), PerCall: nano(t, "call")})
		}
		input, output := rapid.Int64Range(0, 20_000).Draw(t, "most in"), rapid.Int64Range(0, 20_000).Draw(t, "most out")
		calls := rapid.Int64Range(0, 3).Draw(t, "calls")
		held, err := p.Worst(input, output, calls)
		if err != nil {
			t.Fatal(err)
		}
		use := price.Usage{Input: rapid.Int64Range(0, input).Draw(t, "in"), Output: rapid.Int64Range(0, output).Draw(t, "out"),
			Calls: rapid.Int64Range(0, calls).Draw(t, "real calls")}
		use.Cached = rapid.Int64Range(0, use.Input).Draw(t, "cached in")
		use.CacheWrite = rapid.Int64Range(0, use.Input-use.Cached).Draw(t, "written")
		use.Reasoning = rapid.Int64Range(0, use.Output).Draw(t, "reasoned")
		charged, err := p.Cost(use)
		if err != nil || charged > held {
			t.Fatalf("%+v of %+v: charged %v, held %v (%v)", use, p, charged, held, err)
		}
	})
}

func BenchmarkAt(b *testing.B) {
	table := price.NewTable(nil)
	for _, name := range []string{"gpt-4o", "openai/gpt-4o-2024-08-06", "nobody/knows-this"} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				table.At(name, now)
			}
		})
	}
}
