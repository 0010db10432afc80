package api

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	controlplanev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/controlplane/v1"
	"github.com/fulcrum-io/fulcrum/services/event-processor/internal/postgres"
	"github.com/fulcrum-io/fulcrum/services/event-processor/internal/webhook"
)

// Webhooks is WebhookService.
type Webhooks struct {
	controlplanev1.UnimplementedWebhookServiceServer
	desk  *webhook.Desk
	store *postgres.Webhooks
}

// NewWebhooks returns Webhooks over its desk and what the desk keeps.
func NewWebhooks(d *webhook.Desk, s *postgres.Webhooks) *Webhooks {
	return &Webhooks{desk: d, store: s}
}

// manages is who may say where a tenant's events go: its administrators. An
// agent could otherwise lead questions about itself elsewhere.
func manages(ctx context.Context) (identity.Principal, error) {
	who, err := identity.Allowed(ctx, "tenant:admin")
	if err != nil {
		return who, err
	}
	if who.AgentID != "" {
		return who, fault.New(fault.Denied, "an agent does not manage webhooks").WithReason("CALLER_IS_AGENT")
	}
	return who, nil
}

// CreateWebhook implements WebhookService.
func (s *Webhooks) CreateWebhook(ctx context.Context, req *controlplanev1.CreateWebhookRequest) (*controlplanev1.CreateWebhookResponse, error) {
	by, err := manages(ctx)
	if err != nil {
		return nil, err
	}
	e, plain, err := s.desk.Create(ctx, by, webhook.Endpoint{URL: req.GetUrl(), Description: req.GetDescription(), Types: req.GetEventTypes()})
	if err != nil {
		return nil, err
	}
	return &controlplanev1.CreateWebhookResponse{Webhook: endpoint(e), Secret: plain.Reveal()}, nil
}

// ListWebhooks implements WebhookService.
func (s *Webhooks) ListWebhooks(ctx context.Context, _ *controlplanev1.ListWebhooksRequest) (*controlplanev1.ListWebhooksResponse, error) {
	by, err := manages(ctx)
	if err != nil {
		return nil, err
	}
	all, err := s.desk.Endpoints(ctx, by.Tenant)
	if err != nil {
		return nil, err
	}
	resp := &controlplanev1.ListWebhooksResponse{}
	for _, e := range all {
		resp.Webhooks = append(resp.Webhooks, endpoint(e))
	}
	return resp, nil
}

// UpdateWebhook implements WebhookService.
func (s *Webhooks) UpdateWebhook(ctx context.Context, req *controlplanev1.UpdateWebhookRequest) (*controlplanev1.UpdateWebhookResponse, error) {
	by, err := manages(ctx)
	if err != nil {
		return nil, err
	}
	c := webhook.Change{URL: req.Url, Description: req.Description, Enabled: req.Enabled}
	if req.GetEventTypes() != nil {
		types := req.GetEventTypes().GetValues()
		c.Types = &types
	}
	e, err := s.desk.Update(ctx, by, uuid.MustParse(req.GetWebhookId()), c)
	if err != nil {
		return nil, err
	}
	return &controlplanev1.UpdateWebhookResponse{Webhook: endpoint(e)}, nil
}

// DeleteWebhook implements WebhookService.
func (s *Webhooks) DeleteWebhook(ctx context.Context, req *controlplanev1.DeleteWebhookRequest) (*controlplanev1.DeleteWebhookResponse, error) {
	by, err := manages(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.desk.Delete(ctx, by, uuid.MustParse(req.GetWebhookId())); err != nil {
		return nil, err
	}
	return &controlplanev1.DeleteWebhookResponse{}, nil
}

// TestWebhook implements WebhookService.
func (s *Webhooks) TestWebhook(ctx context.Context, req *controlplanev1.TestWebhookRequest) (*controlplanev1.TestWebhookResponse, error) {
	by, err := manages(ctx)
	if err != nil {
		return nil, err
	}
	id, r, err := s.desk.Test(ctx, by, uuid.MustParse(req.GetWebhookId()))
	if err != nil {
		return nil, err
	}
	return &controlplanev1.TestWebhookResponse{
		Delivered: r.Delivered(), StatusCode: int32(r.Status), Error: r.Error, MessageId: id, DurationMs: r.Took.Milliseconds(),
	}, nil
}

// RotateWebhookSecret implements WebhookService.
func (s *Webhooks) RotateWebhookSecret(ctx context.Context, req *controlplanev1.RotateWebhookSecretRequest) (*controlplanev1.RotateWebhookSecretResponse, error) {
	by, err := manages(ctx)
	if err != nil {
		return nil, err
	}
	overlap := 24 * time.Hour
	if req.OverlapSeconds != nil {
		overlap = time.Duration(req.GetOverlapSeconds()) * time.Second
	}
	plain, until, err := s.desk.Rotate(ctx, by, uuid.MustParse(req.GetWebhookId()), overlap)
	if err != nil {
		return nil, err
	}
	return &controlplanev1.RotateWebhookSecretResponse{Secret: plain.Reveal(), OldUntil: timestamp(until)}, nil
}

// ListWebhookDeliveries implements WebhookService.
func (s *Webhooks) ListWebhookDeliveries(ctx context.Context, req *controlplanev1.ListWebhookDeliveriesRequest) (*controlplanev1.ListWebhookDeliveriesResponse, error) {
	by, err := manages(ctx)
	if err != nil {
		return nil, err
	}
	kind := "deliveries " + req.GetWebhookId()
	size, err := pageSize(req.GetPageSize())
	if err != nil {
		return nil, err
	}
	from, err := placed(kind, by.Tenant, req.GetPageToken())
	if err != nil {
		return nil, err
	}
	all, places, err := s.store.Deliveries(ctx, by.Tenant, uuid.MustParse(req.GetWebhookId()), from, size+1)
	if err != nil {
		return nil, err
	}
	all, next := cut(kind, by.Tenant, all, places, size)
	resp := &controlplanev1.ListWebhookDeliveriesResponse{NextPageToken: next}
	for _, d := range all {
		out := &controlplanev1.WebhookDelivery{
			MessageId: webhook.MessageID(d.Event), EventType: d.Type, Attempts: d.Attempts, StatusCode: d.Status, Error: d.Error,
			State:     controlplanev1.WebhookDeliveryState(controlplanev1.WebhookDeliveryState_value["WEBHOOK_DELIVERY_STATE_"+d.State]),
			CreatedAt: timestamp(d.CreatedAt), AttemptedAt: timestamp(d.AttemptedAt),
		}
		if out.GetState() == controlplanev1.WebhookDeliveryState_WEBHOOK_DELIVERY_STATE_PENDING {
			out.NextAttemptAt = timestamp(d.NextAt)
		}
		resp.Deliveries = append(resp.Deliveries, out)
	}
	return resp, nil
}

func endpoint(e webhook.Endpoint) *controlplanev1.Webhook {
	status := controlplanev1.WebhookStatus_WEBHOOK_STATUS_ACTIVE
	if e.Disabled != "" {
		status = controlplanev1.WebhookStatus_WEBHOOK_STATUS_DISABLED
	}
	return &controlplanev1.Webhook{
		WebhookId: e.ID.String(), Url: e.URL, Description: e.Description, EventTypes: e.Types, Status: status, DisabledReason: e.Disabled,
		Failures: e.Failures, FailingSince: timestamp(e.FailingSince), LastError: e.LastError, LastAttemptAt: timestamp(e.LastAttempt),
		LastSuccessAt: timestamp(e.LastSuccess), Pending: small(e.Pending), CreatedAt: timestamp(e.CreatedAt), UpdatedAt: timestamp(e.UpdatedAt), CreatedBy: e.CreatedBy,
	}
}
