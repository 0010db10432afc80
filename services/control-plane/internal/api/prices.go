package api

import (
	"context"
	"math"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	"github.com/fulcrum-io/fulcrum/pkg/pricelist"
	pricingv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/pricing/v1"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/change"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/page"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/price"
)

// Prices is the part of PriceService that keeps a tenant's lists. What holds at a
// moment, shipped prices included, and re-rating are the budget service's.
type Prices struct {
	pricingv1.UnimplementedPriceServiceServer
	service *price.Service
}

// NewPrices returns Prices over s.
func NewPrices(s *price.Service) *Prices { return &Prices{service: s} }

// ImportPrices implements pricingv1.PriceServiceServer.
func (s *Prices) ImportPrices(ctx context.Context, req *pricingv1.ImportPricesRequest) (*pricingv1.ImportPricesResponse, error) {
	by, err := identity.From(ctx)
	if err != nil {
		return nil, err
	}
	key, err := once(ctx, pricingv1.PriceService_ImportPrices_FullMethodName, req)
	if err != nil {
		return nil, err
	}
	if len(req.GetPrices()) == 0 {
		return nil, fault.Field("prices", "is empty")
	}
	c := price.Change{Etag: req.GetEtag(), Note: req.GetNote(), DryRun: req.GetDryRun()}
	for _, p := range req.GetPrices() {
		if t := p.GetEffectiveFrom(); t != nil && !t.IsValid() {
			return nil, fault.Field("prices.effective_from", "is not a time")
		}
		c.Entries = append(c.Entries, pricelist.FromWire(p))
	}
	return s.service.Import(ctx, by, c, key)
}

// EndPrice implements pricingv1.PriceServiceServer.
func (s *Prices) EndPrice(ctx context.Context, req *pricingv1.EndPriceRequest) (*pricingv1.EndPriceResponse, error) {
	by, err := identity.From(ctx)
	if err != nil {
		return nil, err
	}
	key, err := once(ctx, pricingv1.PriceService_EndPrice_FullMethodName, req)
	if err != nil {
		return nil, err
	}
	c := price.Change{End: req.GetModel(), Etag: req.GetEtag()}
	if t := req.GetEffectiveAt(); t != nil {
		if !t.IsValid() {
			return nil, fault.Field("effective_at", "is not a time")
		}
		c.At = t.AsTime().Truncate(1000)
	}
	done, err := s.service.End(ctx, by, c, key)
	if err != nil {
		return nil, err
	}
	return &pricingv1.EndPriceResponse{Version: done.GetVersion(), Etag: done.GetEtag()}, nil
}

// ListPriceVersions implements pricingv1.PriceServiceServer.
func (s *Prices) ListPriceVersions(ctx context.Context, req *pricingv1.ListPriceVersionsRequest) (*pricingv1.ListPriceVersionsResponse, error) {
	by, err := identity.From(ctx)
	if err != nil {
		return nil, err
	}
	size, err := page.Size(req.GetPageSize())
	if err != nil {
		return nil, err
	}
	list := page.List{Tenant: by.Tenant, Kind: "price versions"}
	before := int64(math.MaxInt64)
	if _, err := page.Read(list, req.GetPageToken(), &before); err != nil {
		return nil, err
	}
	all, latest, err := s.service.Lists(ctx, by.Tenant, before, size+1)
	if err != nil {
		return nil, err
	}
	all, next, err := page.Cut(list, all, size, func(n price.Numbered) any { return n.Revision })
	if err != nil {
		return nil, err
	}
	resp := &pricingv1.ListPriceVersionsResponse{NextPageToken: next, Etag: change.Etag(latest)}
	for _, n := range all {
		resp.Versions = append(resp.Versions, n.PriceVersion)
	}
	return resp, nil
}

// GetPriceVersion implements pricingv1.PriceServiceServer.
func (s *Prices) GetPriceVersion(ctx context.Context, req *pricingv1.GetPriceVersionRequest) (*pricingv1.GetPriceVersionResponse, error) {
	by, err := identity.From(ctx)
	if err != nil {
		return nil, err
	}
	version, kept, err := s.service.List(ctx, by.Tenant, req.GetVersionId())
	if err != nil {
		return nil, err
	}
	resp := &pricingv1.GetPriceVersionResponse{Version: version}
	for _, k := range kept {
		p := pricelist.Wire(k.Entry)
		p.Version, p.EffectiveFrom = k.Version, timestamppb.New(k.From)
		resp.Prices = append(resp.Prices, p)
	}
	return resp, nil
}
