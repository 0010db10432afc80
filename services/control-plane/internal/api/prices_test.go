package api_test

import (
	"fmt"
	"math"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fulcrum-io/fulcrum/db/dbtest"
	"github.com/fulcrum-io/fulcrum/pkg/fault"
	pricingv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/pricing/v1"
)

var march = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)

func priced(model string, from time.Time, input int64) *pricingv1.Price {
	p := &pricingv1.Price{Model: model, Rates: &pricingv1.Rates{InputNano: input, OutputNano: 2 * input}}
	if !from.IsZero() {
		p.EffectiveFrom = timestamppb.New(from)
	}
	return p
}

func (b *bench) importPrices(prices ...*pricingv1.Price) *pricingv1.ImportPricesResponse {
	b.t.Helper()
	resp, err := b.prices.ImportPrices(b.all(), &pricingv1.ImportPricesRequest{Prices: prices})
	if err != nil {
		b.t.Fatal(err)
	}
	return resp
}

func TestAPriceListIsImportedListedAndPublished(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	long := priced("GPT-X", march, 5)
	long.Rates.CachedInputNano, long.Rates.CacheWriteNano, long.Rates.ReasoningNano, long.Rates.PerCallNano = 1, 6, 20, 7
	long.Tiers = []*pricingv1.Tier{{AboveInputTokens: 200_000, Rates: &pricingv1.Rates{InputNano: 9}}}
	first := b.importPrices(long, priced("*", march, 100))
	if v := first.GetVersion(); v.GetVersion() != "tenant-1" || v.GetPrices() != 2 || v.GetCreatedBy() != "user:ada" || len(first.GetChanges()) != 2 {
		t.Fatalf("first import: %v", first)
	}
	published := b.budgetBundle(b.tenantA).GetPrices()
	if len(published) != 2 {
		t.Fatalf("published: %v", published)
	}
	p := published[1]
	if p.GetModel() != "gpt-x" || p.GetVersion() != "tenant-1" || p.GetRevision() != 1 || p.GetCacheWriteNanoPerMillion() != 6 ||
		p.GetTiers()[0].GetAboveInputTokens() != 200_000 || p.GetTiers()[0].GetInputNanoPerMillion() != 9 || !p.GetEffectiveFrom().AsTime().Equal(march) {
		t.Errorf("published: %v", p)
	}

	// The same again says nothing new; another price is another version.
	again := b.importPrices(long)
	if again.GetVersion() != nil || again.GetUnchanged() != 1 || again.GetEtag() != first.GetEtag() {
		t.Errorf("the same again: %v", again)
	}
	second := b.importPrices(priced("gpt-x", march, 4))
	if second.GetVersion().GetVersion() != "tenant-2" || second.GetChanges()[0].GetBefore().GetRates().GetInputNano() != 5 {
		t.Errorf("a correction: %v", second)
	}
	old, err := b.prices.GetPriceVersion(b.all(), &pricingv1.GetPriceVersionRequest{VersionId: "tenant-1"})
	if err != nil || len(old.GetPrices()) != 2 {
		t.Fatalf("the first version: %v %v", old, err)
	}
	long.Model, long.Version = "gpt-x", "tenant-1"
	if diff := cmp.Diff(long, old.GetPrices()[1], protocmp.Transform()); diff != "" {
		t.Errorf("the first version is not as imported (-want +got):\n%s", diff)
	}

	var names []string
	for token := ""; ; {
		resp, err := b.prices.ListPriceVersions(b.all(), &pricingv1.ListPriceVersionsRequest{PageSize: 1, PageToken: token})
		if err != nil {
			t.Fatal(err)
		}
		if resp.GetEtag() != second.GetEtag() {
			t.Errorf("etag %s, want %s", resp.GetEtag(), second.GetEtag())
		}
		names = append(names, resp.GetVersions()[0].GetVersion())
		if token = resp.GetNextPageToken(); token == "" {
			break
		}
	}
	if !slices.Equal(names, []string{"tenant-2", "tenant-1"}) {
		t.Errorf("versions: %v", names)
	}
	var types []string
	for _, e := range b.events(b.tenantA) {
		types = append(types, e.GetType())
	}
	if n := len(slices.DeleteFunc(types, func(s string) bool { return s != "prices_imported" })); n != 2 {
		t.Errorf("%d imports are on the record, want 2", n)
	}
}

func TestADryRunSaysWhatWouldChangeAndChangesNothing(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.importPrices(priced("a", march, 1))
	before := b.budgetBundle(b.tenantA)
	resp, err := b.prices.ImportPrices(b.all(), &pricingv1.ImportPricesRequest{DryRun: true, Prices: []*pricingv1.Price{
		priced("a", march, 1), priced("a", march.AddDate(0, 1, 0), 2), priced("b", time.Time{}, 3)}})
	if err != nil || resp.GetVersion() != nil || resp.GetUnchanged() != 1 || len(resp.GetChanges()) != 2 ||
		resp.GetChanges()[0].GetBefore().GetRates().GetInputNano() != 1 || resp.GetChanges()[1].GetPrice().GetEffectiveFrom() == nil {
		t.Errorf("dry run: %v %v", resp, err)
	}
	if diff := cmp.Diff(before, b.budgetBundle(b.tenantA), protocmp.Transform()); diff != "" {
		t.Errorf("the dry run published:\n%s", diff)
	}
	if n := dbtest.Count(t, b.Database, `select count(*) from fulcrum.price_lists`); n != 1 {
		t.Errorf("%d lists", n)
	}
}

func TestAnOverrideIsEndedAtItsMoment(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.importPrices(priced("gpt-4o", march, 1))
	for what, req := range map[string]*pricingv1.EndPriceRequest{
		"before it begins": {Model: "gpt-4o", EffectiveAt: timestamppb.New(march.Add(-time.Microsecond))},
		"nobody's":         {Model: "gpt-5"},
	} {
		_, err := b.prices.EndPrice(b.all(), req)
		wantKind(t, what, err, fault.NotFound, "PRICE_NOT_FOUND")
	}
	ended, err := b.prices.EndPrice(b.all(), &pricingv1.EndPriceRequest{Model: "GPT-4o", EffectiveAt: timestamppb.New(march.AddDate(0, 1, 0))})
	if err != nil || ended.GetVersion().GetVersion() != "tenant-2" {
		t.Fatalf("end: %v %v", ended, err)
	}
	p := b.budgetBundle(b.tenantA).GetPrices()
	if len(p) != 2 || !p[1].GetEnded() || !p[1].GetEffectiveFrom().AsTime().Equal(march.AddDate(0, 1, 0)) {
		t.Errorf("published: %v", p)
	}
	_, err = b.prices.EndPrice(b.all(), &pricingv1.EndPriceRequest{Model: "gpt-4o"})
	wantKind(t, "end again", err, fault.NotFound, "PRICE_NOT_FOUND")
}

func TestPricesThatCannotBeAreRefusedByField(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	many := make([]*pricingv1.Price, 2001)
	for i := range many {
		many[i] = priced(fmt.Sprint("m", i), march, 1)
	}
	for name, tt := range map[string]struct {
		prices []*pricingv1.Price
		field  string
	}{
		"none":          {nil, "prices"},
		"too many":      {many, "prices"},
		"no model":      {[]*pricingv1.Price{priced("", march, 1)}, "prices[0].model"},
		"negative":      {[]*pricingv1.Price{priced("a", march, 1), priced("b", march, -1)}, "prices[1].rates.input_nano"},
		"overflow":      {[]*pricingv1.Price{priced("a", march, math.MaxInt64)}, "prices[0].rates.input_nano"},
		"free":          {[]*pricingv1.Price{priced("a", march, 0)}, "prices[0].rates.input_nano"},
		"free fallback": {[]*pricingv1.Price{priced("*", march, 0)}, "prices[0].rates.input_nano"},
		"twice":         {[]*pricingv1.Price{priced("a", march, 1), priced("A", march, 2)}, "prices[1].model"},
		"a star inside": {[]*pricingv1.Price{priced("a*b", march, 1)}, "prices[0].model"},
		"before time":   {[]*pricingv1.Price{priced("a", time.Date(1969, 1, 1, 0, 0, 0, 0, time.UTC), 1)}, "prices[0].effective_from"},
		"tiers that fall": {[]*pricingv1.Price{{Model: "a", Rates: &pricingv1.Rates{InputNano: 1}, Tiers: []*pricingv1.Tier{
			{AboveInputTokens: 5, Rates: &pricingv1.Rates{InputNano: 1}}, {AboveInputTokens: 4, Rates: &pricingv1.Rates{InputNano: 1}}}}}, "prices[0].tiers[1].above_input_tokens"},
	} {
		_, err := b.prices.ImportPrices(b.all(), &pricingv1.ImportPricesRequest{Prices: tt.prices})
		if !fault.Is(err, fault.Invalid) || !slices.Contains(fields(err), tt.field) {
			t.Errorf("%s: %v names %v, want %s", name, describe(err), fields(err), tt.field)
		}
	}
	if n := dbtest.Count(t, b.Database, `select (select count(*) from fulcrum.price_versions) + (select count(*) from fulcrum.price_lists)`); n != 0 {
		t.Errorf("%d rows of lists that were refused", n)
	}
}

func TestPricesAreTheTenantsOwnAndNeedTheirScope(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	other := dbtest.Tenant(t, b.Database)
	b.importPrices(priced("a", march, 1))
	stranger := as(t.Context(), other, "*")
	_, err := b.prices.GetPriceVersion(stranger, &pricingv1.GetPriceVersionRequest{VersionId: "tenant-1"})
	wantKind(t, "another tenant's version", err, fault.NotFound, "NOT_FOUND")
	resp, err := b.prices.ListPriceVersions(stranger, &pricingv1.ListPriceVersionsRequest{})
	if err != nil || len(resp.GetVersions()) != 0 {
		t.Errorf("another tenant's versions: %v %v", resp, err)
	}
	_, err = b.prices.EndPrice(stranger, &pricingv1.EndPriceRequest{Model: "a"})
	wantKind(t, "end another tenant's price", err, fault.NotFound, "PRICE_NOT_FOUND")
	_, err = b.prices.ImportPrices(as(t.Context(), b.tenantA, "cost:read"), &pricingv1.ImportPricesRequest{Prices: []*pricingv1.Price{priced("b", march, 1)}})
	wantKind(t, "import by a reader", err, fault.Denied, "")
	_, err = b.prices.ListPriceVersions(as(t.Context(), b.tenantA, "policy:write"), &pricingv1.ListPriceVersionsRequest{})
	wantKind(t, "list without the scope", err, fault.Denied, "")
	if p := b.budgetBundle(b.tenantA).GetPrices(); len(p) != 1 || p[0].GetEnded() {
		t.Errorf("published: %v", p)
	}
}

func TestAnImportHappensOnceAndOnWhatWasRead(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	req := &pricingv1.ImportPricesRequest{Prices: []*pricingv1.Price{priced("a", time.Time{}, 1)}}
	first, err := b.prices.ImportPrices(withKey(b.all(), "k"), req)
	if err != nil {
		t.Fatal(err)
	}
	again, err := b.prices.ImportPrices(withKey(b.all(), "k"), req)
	if diff := cmp.Diff(first, again, protocmp.Transform()); err != nil || diff != "" {
		t.Errorf("a lost answer is given again: %v\n%s", err, diff)
	}
	req.Prices[0].Rates.InputNano = 2
	_, err = b.prices.ImportPrices(withKey(b.all(), "k"), req)
	wantKind(t, "the key with other prices", err, fault.Conflict, "IDEMPOTENCY_KEY_REUSED")
	req.Etag = first.GetEtag()
	if _, err := b.prices.ImportPrices(b.all(), req); err != nil {
		t.Errorf("on the list as read: %v", err)
	}
	req.Prices[0].Rates.InputNano = 3
	_, err = b.prices.ImportPrices(b.all(), req)
	wantKind(t, "on an older list", err, fault.Conflict, "ETAG_MISMATCH")
}

// Of many who import at once, each makes one version, and none is lost.
func TestVersionsHaveNoGapsUnderContention(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	const n = 12
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			_, err := b.prices.ImportPrices(b.all(), &pricingv1.ImportPricesRequest{Prices: []*pricingv1.Price{priced(fmt.Sprint("m", i), march, 1)}})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := dbtest.Count(t, b.Database, `select max(revision) from fulcrum.price_lists`); got != n {
		t.Errorf("the latest is %d, want %d", got, n)
	}
	if p := b.budgetBundle(b.tenantA).GetPrices(); len(p) != n {
		t.Errorf("%d published", len(p))
	}
}
