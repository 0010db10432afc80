package app_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/dbtest"
	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	budgetv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/budget/v1"
	configv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/config/v1"
	costv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/cost/v1"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	pricingv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/pricing/v1"
)

// priced publishes a budget and prices, as the control plane would.
func priced(t *testing.T, d *dbtest.Database, tenant uuid.UUID, prices ...*configv1.Price) {
	t.Helper()
	content, err := proto.Marshal(&configv1.BudgetBundle{Prices: prices, Budgets: []*costv1.Budget{{BudgetId: "b", Limits: &costv1.BudgetLimits{MaxCostUsd: 100}}}})
	if err != nil {
		t.Fatal(err)
	}
	err = d.DB.WithTenant(t.Context(), tenant, func(ctx context.Context, tx db.Tx) error {
		_, err := tx.Exec(ctx, `insert into fulcrum.config_bundles as b (tenant_id, kind, version, content) values ($1, 'budgets', 1, $2)
			on conflict (tenant_id, kind) do update set version = b.version + 1, content = excluded.content`, tenant, content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func own(model string, from time.Time, dollars int64) *configv1.Price {
	return &configv1.Price{Model: model, Version: "tenant-1", Revision: 1, EffectiveFrom: timestamppb.New(from),
		InputNanoPerMillion: dollars * 1e9, OutputNanoPerMillion: dollars * 1e9}
}

var always = time.Unix(0, 0)

func TestTheEffectivePriceIsToldForAMoment(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	tenant, other := dbtest.Tenant(t, d), dbtest.Tenant(t, d)
	day := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	priced(t, d, tenant, own("gpt-4o", day, 7), own("house-*", always, 9))
	client := start(t, d)
	get := func(ctx context.Context, model string, at time.Time) (*pricingv1.GetPriceResponse, error) {
		return client.prices.GetPrice(ctx, &pricingv1.GetPriceRequest{Model: model, At: timestamppb.New(at)})
	}
	ctx := as(t.Context(), tenant)
	for at, input := range map[time.Time]int64{day.Add(-time.Microsecond): 2_500_000_000, day: 7e9} {
		if p, err := get(ctx, "openai/gpt-4o", at); err != nil || p.GetPrice().GetRates().GetInputNano() != input || p.GetFallback() {
			t.Errorf("at %v: %v, %v", at, p, err)
		}
	}
	if p, err := get(as(t.Context(), other), "gpt-4o", day); err != nil || p.GetPrice().GetRates().GetInputNano() != 2_500_000_000 || p.GetPrice().GetSource() == "" {
		t.Errorf("another tenant: %v, %v", p, err)
	}
	if p, err := get(ctx, "house-model", day); err != nil || !p.GetFallback() || p.GetPrice().GetVersion() != "tenant-1" {
		t.Errorf("the fallback: %v, %v", p, err)
	}
	_, err := get(as(t.Context(), other), "house-model", day)
	if f, _ := fault.As(err); !fault.Is(err, fault.NotFound) || !fault.HasReason(err, "PRICE_UNKNOWN") || f.Hint == "" {
		t.Errorf("nobody's: %v", err)
	}

	// A list is read whole in pages, and is about one moment.
	var models []string
	for token := ""; ; {
		resp, err := client.prices.ListPrices(ctx, &pricingv1.ListPricesRequest{At: timestamppb.New(day), PageToken: token, PageSize: 400})
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range resp.GetPrices() {
			models = append(models, p.GetModel())
		}
		if token = resp.GetNextPageToken(); token == "" {
			break
		}
	}
	if len(models) < 800 || !slices.IsSorted(models) || len(slices.Compact(slices.Clone(models))) != len(models) {
		t.Errorf("%d models are listed, sorted: %v", len(models), slices.IsSorted(models))
	}
	if _, err := client.prices.ListPrices(ctx, &pricingv1.ListPricesRequest{PageToken: "x!"}); !fault.Is(err, fault.Invalid) {
		t.Errorf("a token of nobody's: %v", err)
	}
}

func TestEveryHoldAndChargeNamesItsPriceVersion(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	tenant := dbtest.Tenant(t, d)
	priced(t, d, tenant, own("mine", always, 1))
	client := start(t, d)
	ctx := as(t.Context(), tenant)
	call := func(model string) (*budgetv1.ReserveResponse, *budgetv1.SettleResponse) {
		t.Helper()
		req := &budgetv1.ReserveRequest{ReservationId: uuid.NewString(), Subject: &budgetv1.Subject{Model: model},
			Amounts: &governancev1.Amounts{InputTokens: 300_000, OutputTokens: 100, LlmCalls: 1}}
		held, err := client.Reserve(ctx, req)
		if err != nil {
			t.Fatal(err)
		}
		if !held.GetGranted() {
			return held, nil
		}
		done, err := client.Settle(ctx, &budgetv1.SettleRequest{ReservationId: req.GetReservationId(), IdempotencyKey: "k",
			Usage: &governancev1.Usage{Model: model, InputTokens: 100_000, CachedTokens: 20_000, CacheWriteTokens: 30_000, OutputTokens: 100}})
		if err != nil {
			t.Fatal(err)
		}
		return held, done
	}
	if held, done := call("mine"); held.GetPriceVersion() != "tenant-1" || done.GetPriceVersion() != "tenant-1" {
		t.Errorf("own: %v, %v", held, done)
	}
	// The estimate reaches the tier above 200,000 tokens and its cache writes ($7.50); what was used does not.
	held, done := call("claude-sonnet-4-5")
	if held.GetHold().GetAmounts().GetCostNano() != 300_000*7_500+100*22_500 {
		t.Errorf("held: %v", held)
	}
	if done.GetCharged().GetCostNano() != 50_000*3_000+20_000*300+30_000*3_750+100*15_000 {
		t.Errorf("charged: %v", done)
	}
	if held.GetPriceVersion() != done.GetPriceVersion() || held.GetPriceVersion()[:8] != "shipped-" {
		t.Errorf("shipped: %s, %s", held.GetPriceVersion(), done.GetPriceVersion())
	}
	if held, _ := call("nobody-knows"); held.GetGranted() || held.GetReason() != "PRICE_UNKNOWN" {
		t.Errorf("unknown: %v", held)
	}
	if n := dbtest.Count(t, d, `select count(*) from fulcrum.settlements where price_version <> '' and cached_tokens = 20000 and cache_write_tokens = 30000`); n != 2 {
		t.Errorf("%d settlements keep what they were priced from", n)
	}
}

func TestRerateRequestsAreRefusedByField(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	tenant := dbtest.Tenant(t, d)
	priced(t, d, tenant, own("mine", always, 1))
	client := start(t, d)
	good := func() *pricingv1.RerateRequest {
		return &pricingv1.RerateRequest{From: timestamppb.New(always), Until: timestamppb.Now(), Apply: true, IdempotencyKey: "k"}
	}
	for name, change := range map[string]func(*pricingv1.RerateRequest){
		"no from":          func(r *pricingv1.RerateRequest) { r.From = nil },
		"no until":         func(r *pricingv1.RerateRequest) { r.Until = nil },
		"until before":     func(r *pricingv1.RerateRequest) { r.Until = timestamppb.New(always.Add(-time.Second)) },
		"nothing between":  func(r *pricingv1.RerateRequest) { r.Until = r.From },
		"not a time":       func(r *pricingv1.RerateRequest) { r.From = &timestamppb.Timestamp{Nanos: -1} },
		"no key":           func(r *pricingv1.RerateRequest) { r.IdempotencyKey = "" },
		"no such version":  func(r *pricingv1.RerateRequest) { r.PriceVersion = "tenant-2" },
		"a zero in a name": func(r *pricingv1.RerateRequest) { r.Model = "a\x00" },
	} {
		req := good()
		change(req)
		if _, err := client.prices.Rerate(as(t.Context(), tenant), req); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	reader := identity.With(t.Context(), identity.Principal{Tenant: tenant, UserID: "ada", Scopes: []string{"cost:read"}})
	if _, err := client.prices.Rerate(reader, good()); !fault.Is(err, fault.Denied) {
		t.Errorf("applied by a reader: %v", err)
	}
	look := good()
	look.Apply = false
	if _, err := client.prices.Rerate(reader, look); err != nil {
		t.Errorf("looked at by a reader: %v", err)
	}
	if _, err := client.prices.Rerate(identity.With(t.Context(), identity.Principal{Tenant: tenant, Scopes: []string{"policy:read"}}), look); !fault.Is(err, fault.Denied) {
		t.Errorf("looked at by somebody else: %v", err)
	}
	if n := dbtest.Count(t, d, `select count(*) from fulcrum.price_rerates`); n != 0 {
		t.Errorf("%d re-ratings of requests that were refused", n)
	}
}
