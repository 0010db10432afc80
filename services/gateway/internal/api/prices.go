package api

import (
	"context"

	"google.golang.org/grpc"

	pricingv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/pricing/v1"
)

// Prices is fulcrum.pricing.v1.PriceService: a tenant's lists are the control
// plane's; what holds at a moment, and re-rating, are the budget service's.
type Prices struct {
	pricingv1.UnimplementedPriceServiceServer
	lists  pricingv1.PriceServiceClient
	ledger pricingv1.PriceServiceClient
}

// NewPrices returns the service over its owners.
func NewPrices(controlPlane, budget grpc.ClientConnInterface) *Prices {
	return &Prices{lists: pricingv1.NewPriceServiceClient(controlPlane), ledger: pricingv1.NewPriceServiceClient(budget)}
}

// ImportPrices implements PriceService.
func (s *Prices) ImportPrices(ctx context.Context, req *pricingv1.ImportPricesRequest) (*pricingv1.ImportPricesResponse, error) {
	return s.lists.ImportPrices(ctx, req)
}

// EndPrice implements PriceService.
func (s *Prices) EndPrice(ctx context.Context, req *pricingv1.EndPriceRequest) (*pricingv1.EndPriceResponse, error) {
	return s.lists.EndPrice(ctx, req)
}

// ListPriceVersions implements PriceService.
func (s *Prices) ListPriceVersions(ctx context.Context, req *pricingv1.ListPriceVersionsRequest) (*pricingv1.ListPriceVersionsResponse, error) {
	return s.lists.ListPriceVersions(ctx, req)
}

// GetPriceVersion implements PriceService.
func (s *Prices) GetPriceVersion(ctx context.Context, req *pricingv1.GetPriceVersionRequest) (*pricingv1.GetPriceVersionResponse, error) {
	return s.lists.GetPriceVersion(ctx, req)
}

// ListPrices implements PriceService.
func (s *Prices) ListPrices(ctx context.Context, req *pricingv1.ListPricesRequest) (*pricingv1.ListPricesResponse, error) {
	return s.ledger.ListPrices(ctx, req)
}

// GetPrice implements PriceService.
func (s *Prices) GetPrice(ctx context.Context, req *pricingv1.GetPriceRequest) (*pricingv1.GetPriceResponse, error) {
	return s.ledger.GetPrice(ctx, req)
}

// Rerate implements PriceService.
func (s *Prices) Rerate(ctx context.Context, req *pricingv1.RerateRequest) (*pricingv1.RerateResponse, error) {
	return s.ledger.Rerate(ctx, req)
}

// GetRerate implements PriceService.
func (s *Prices) GetRerate(ctx context.Context, req *pricingv1.GetRerateRequest) (*pricingv1.GetRerateResponse, error) {
	return s.ledger.GetRerate(ctx, req)
}

// ListRerates implements PriceService.
func (s *Prices) ListRerates(ctx context.Context, req *pricingv1.ListReratesRequest) (*pricingv1.ListReratesResponse, error) {
	return s.ledger.ListRerates(ctx, req)
}
