package api

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"strings"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	"github.com/fulcrum-io/fulcrum/pkg/pricelist"
	pricingv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/pricing/v1"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/catalog"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/price"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/rerate"
)

// Catalogs is where prices in force are read from.
type Catalogs interface {
	Fresh(ctx context.Context, tenant uuid.UUID) (*catalog.Catalog, time.Time, error)
	Rerate(ctx context.Context, tenant, id uuid.UUID) (*rerate.Report, error)
	Rerates(ctx context.Context, tenant, before uuid.UUID, limit int) ([]rerate.Report, error)
}

// Prices answers the part of PriceService that is about what holds and what was
// charged. Lists themselves are the control plane's.
type Prices struct {
	pricingv1.UnimplementedPriceServiceServer
	catalogs Catalogs
	rerater  *rerate.Rerater
}

// NewPrices returns Prices over catalogs and r.
func NewPrices(catalogs Catalogs, r *rerate.Rerater) *Prices {
	return &Prices{catalogs: catalogs, rerater: r}
}

// GetPrice implements pricingv1.PriceServiceServer.
func (s *Prices) GetPrice(ctx context.Context, req *pricingv1.GetPriceRequest) (*pricingv1.GetPriceResponse, error) {
	who, err := identity.Allowed(ctx, scope)
	if err != nil {
		return nil, err
	}
	cat, at, err := s.at(ctx, who.Tenant, req.GetAt())
	if err != nil {
		return nil, err
	}
	p, known := cat.Prices.At(req.GetModel(), at)
	if !known {
		return nil, fault.New(fault.NotFound, "no price is known for model %.256q", req.GetModel()).WithReason("PRICE_UNKNOWN").WithHint(price.Hint)
	}
	_, fallback := pricelist.Fallback(p.Model)
	return &pricingv1.GetPriceResponse{Price: wirePrice(p), Fallback: fallback}, nil
}

// at is the tenant's catalog and the moment that is asked about.
func (s *Prices) at(ctx context.Context, tenant uuid.UUID, asked *timestamppb.Timestamp) (*catalog.Catalog, time.Time, error) {
	if asked != nil && !asked.IsValid() {
		return nil, time.Time{}, fault.Field("at", "is not a time")
	}
	cat, now, err := s.catalogs.Fresh(ctx, tenant)
	if asked != nil {
		now = asked.AsTime()
	}
	return cat, now, err
}

// position is where a page of ListPrices ends.
type position struct {
	After string    // model
	At    time.Time // the moment that the first page was about
}

// ListPrices implements pricingv1.PriceServiceServer.
func (s *Prices) ListPrices(ctx context.Context, req *pricingv1.ListPricesRequest) (*pricingv1.ListPricesResponse, error) {
	who, err := identity.Allowed(ctx, scope)
	if err != nil {
		return nil, err
	}
	cat, at, err := s.at(ctx, who.Tenant, req.GetAt())
	if err != nil {
		return nil, err
	}
	from := position{At: at}
	if err := readToken(req.GetPageToken(), &from); err != nil {
		return nil, err
	}
	resp := &pricingv1.ListPricesResponse{ShippedVersion: price.ShippedVersion}
	prefix, size := pricelist.Name(req.GetModelPrefix()), pageSize(req.GetPageSize())
	for _, p := range cat.Prices.In(from.At, req.GetOwnOnly()) {
		if p.Model <= from.After || !strings.HasPrefix(p.Model, prefix) {
			continue
		}
		if len(resp.Prices) == size {
			resp.NextPageToken, err = token(position{resp.GetPrices()[size-1].GetModel(), from.At})
			return resp, err
		}
		resp.Prices = append(resp.Prices, wirePrice(p))
	}
	return resp, nil
}

func pageSize(asked int32) int {
	if asked <= 0 {
		return 50
	}
	return int(min(asked, 1000))
}

func token(at any) (string, error) {
	raw, err := json.Marshal(at)
	return base64.RawURLEncoding.EncodeToString(raw), err
}

func readToken(text string, into any) error {
	if text == "" {
		return nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || json.Unmarshal(raw, into) != nil {
		return fault.Field("page_token", "is not a token of ours")
	}
	return nil
}

func wirePrice(p price.Price) *pricingv1.Price {
	e := pricelist.Entry{
		Model: p.Model, From: p.From, Ended: p.Ended,
		Rates: pricelist.Rates{Input: p.Input, Output: p.Output, CachedInput: p.Cached, CacheWrite: p.CacheWrite, Reasoning: p.Reasoning, PerCall: p.PerCall},
	}
	for _, t := range p.Tiers {
		e.Tiers = append(e.Tiers, pricelist.Tier{Above: t.Above, Rates: pricelist.Rates{
			Input: t.Input, Output: t.Output, CachedInput: t.Cached, CacheWrite: t.CacheWrite, Reasoning: t.Reasoning, PerCall: t.PerCall,
		}})
	}
	out := pricelist.Wire(e)
	out.Version, out.Source = p.Version, p.Source
	return out
}
