package api

import (
	"context"

	"google.golang.org/grpc"

	controlplanev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/controlplane/v1"
)

// Webhooks is fulcrum.controlplane.v1.WebhookService, which is the event
// processor's.
type Webhooks struct {
	controlplanev1.UnimplementedWebhookServiceServer
	webhooks controlplanev1.WebhookServiceClient
}

// NewWebhooks returns the service over its owner.
func NewWebhooks(eventProcessor grpc.ClientConnInterface) *Webhooks {
	return &Webhooks{webhooks: controlplanev1.NewWebhookServiceClient(eventProcessor)}
}

// CreateWebhook implements WebhookService.
func (s *Webhooks) CreateWebhook(ctx context.Context, req *controlplanev1.CreateWebhookRequest) (*controlplanev1.CreateWebhookResponse, error) {
	return s.webhooks.CreateWebhook(ctx, req)
}

// ListWebhooks implements WebhookService.
func (s *Webhooks) ListWebhooks(ctx context.Context, req *controlplanev1.ListWebhooksRequest) (*controlplanev1.ListWebhooksResponse, error) {
	return s.webhooks.ListWebhooks(ctx, req)
}

// UpdateWebhook implements WebhookService.
func (s *Webhooks) UpdateWebhook(ctx context.Context, req *controlplanev1.UpdateWebhookRequest) (*controlplanev1.UpdateWebhookResponse, error) {
	return s.webhooks.UpdateWebhook(ctx, req)
}

// DeleteWebhook implements WebhookService.
func (s *Webhooks) DeleteWebhook(ctx context.Context, req *controlplanev1.DeleteWebhookRequest) (*controlplanev1.DeleteWebhookResponse, error) {
	return s.webhooks.DeleteWebhook(ctx, req)
}

// TestWebhook implements WebhookService.
func (s *Webhooks) TestWebhook(ctx context.Context, req *controlplanev1.TestWebhookRequest) (*controlplanev1.TestWebhookResponse, error) {
	return s.webhooks.TestWebhook(ctx, req)
}

// RotateWebhookSecret implements WebhookService.
func (s *Webhooks) RotateWebhookSecret(ctx context.Context, req *controlplanev1.RotateWebhookSecretRequest) (*controlplanev1.RotateWebhookSecretResponse, error) {
	return s.webhooks.RotateWebhookSecret(ctx, req)
}

// ListWebhookDeliveries implements WebhookService.
func (s *Webhooks) ListWebhookDeliveries(ctx context.Context, req *controlplanev1.ListWebhookDeliveriesRequest) (*controlplanev1.ListWebhookDeliveriesResponse, error) {
	return s.webhooks.ListWebhookDeliveries(ctx, req)
}
