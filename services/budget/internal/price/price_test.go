package price_test

import (
	"math"
	"testing"
	"time"

	"github.com/fulcrum-io/fulcrum/services/budget/internal/price"
)

var now = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func TestAModelIsFoundByItsManyNames(t *testing.T) {
	t.Parallel()
	table := price.NewTable(nil)
	for name, model := range map[string]string{
		"gpt-4o": "gpt-4o", "openai/gpt-4o": "gpt-4o", "GPT-4o": "gpt-4o", "gpt-4o-2024-08-06": "gpt-4o", "gpt-4o-mini": "gpt-4o-mini",
		"anthropic/claude-sonnet-4-5-20250929": "claude-sonnet-4-5", "claude-3-5-haiku-latest": "claude-3-5-haiku", "gpt-4-0613": "gpt-4",
		"gemini-1.5-pro-002": "gemini-1.5-pro", "mistral-large-latest": "mistral-large",
	} {
		if p, ok := table.At(name, now); !ok || p.Model != model {
			t.Errorf("%s is %q, %v; want %s", name, p.Model, ok, model)
		}
	}
	for _, name := range []string{"", "gpt", "gpt-4o-ultra", "-latest", "/"} {
		if p, ok := table.At(name, now); ok {
			t.Errorf("%q is taken for %s", name, p.Model)
		}
	}
}

func TestATenantsOwnPriceComesFirstFromItsDayOn(t *testing.T) {
	t.Parallel()
	table := price.NewTable([]price.Price{
		{Model: "gpt-4o", Input: 1, From: now, Version: "v1"},
		{Model: "gpt-4o", Input: 2, From: now.AddDate(0, 1, 0), Version: "v2"},
	})
	for at, want := range map[time.Time]string{
		now.Add(-time.Second):        price.ShippedVersion,
		now:                          "v1",
		now.AddDate(0, 1, 0).Add(-1): "v1",
		now.AddDate(0, 2, 0):         "v2",
	} {
		if p, ok := table.At("gpt-4o", at); !ok || p.Version != want {
			t.Errorf("%v: %s, %v; want %s", at, p.Version, ok, want)
		}
	}
}

func TestCostsRoundUpAndNeverOverflow(t *testing.T) {
	t.Parallel()
	p := price.Price{Input: 1, Output: 1}
	if n, err := p.Cost(price.Usage{Input: 1, Output: 1}); err != nil || n != 2 {
		t.Errorf("two tokens: %d, %v; want a nano each", n, err)
	}
	p = price.Price{Input: math.MaxInt64, Output: math.MaxInt64}
	if n, err := p.Worst(math.MaxInt64, math.MaxInt64, 1); err == nil {
		t.Errorf("overflow: %d", n)
	}
	p = price.Price{Input: 10, Cached: 1, Output: 20, Reasoning: 50}
	for u := range int64(5) {
		use := price.Usage{Input: 5_000_000, Cached: u * 1_000_000, Output: 5_000_000, Reasoning: u * 1_000_000}
		real, err := p.Cost(use)
		worst, err2 := p.Worst(use.Input, use.Output, 0)
		if err != nil || err2 != nil || real > worst {
			t.Errorf("%+v costs %d, more than the worst case %d (%v, %v)", use, real, worst, err, err2)
		}
	}
}
