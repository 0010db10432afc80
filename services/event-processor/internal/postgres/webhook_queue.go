package postgres

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/eventsdb"
	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/outbox"
	"github.com/fulcrum-io/fulcrum/pkg/secret"
	"github.com/fulcrum-io/fulcrum/pkg/vault"
	"github.com/fulcrum-io/fulcrum/services/event-processor/internal/webhook"
)

// queue writes what endpoints are told, beside the events themselves: whoever
// has the event in the journal has the message in the queue.
func (b *batch) queue(ctx context.Context, w webhook.Writer) error {
	var p eventsdb.QueueWebhooksParams
	for _, f := range b.facts {
		kind, body, ok := w.Write(f)
		if !ok {
			continue
		}
		p.TenantIds, p.EventIds = append(p.TenantIds, f.Tenant), append(p.EventIds, f.ID)
		p.Types, p.Bodies = append(p.Types, kind), append(p.Bodies, body)
		if !slices.Contains(p.Tenants, f.Tenant) {
			p.Tenants = append(p.Tenants, f.Tenant)
		}
	}
	if len(p.EventIds) == 0 {
		return nil
	}
	return b.q.QueueWebhooks(ctx, p)
}

// DueTenants implements webhook.Queue.
func (s *Webhooks) DueTenants(ctx context.Context, after uuid.UUID, limit int) (tenants []uuid.UUID, err error) {
	err = s.db.GlobalOne(ctx, func(ctx context.Context, tx db.Tx) error {
		tenants, err = eventsdb.New(tx).WebhookDueTenants(ctx, eventsdb.WebhookDueTenantsParams{After: after, Lim: int32(limit)})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("find tenants with webhooks due: %w", err)
	}
	return tenants, nil
}

// Claim implements webhook.Queue.
func (s *Webhooks) Claim(ctx context.Context, tenant uuid.UUID, lease time.Duration, each, limit int, busy []uuid.UUID) (all []webhook.Message, err error) {
	err = s.db.One(ctx, tenant, func(ctx context.Context, tx db.Tx) error {
		rows, err := eventsdb.New(tx).ClaimWebhooks(ctx, eventsdb.ClaimWebhooksParams{
			TenantID: tenant, LeaseSeconds: lease.Seconds(), Each: int32(each), Lim: int32(limit), Busy: append([]uuid.UUID{}, busy...),
		})
		for _, r := range rows {
			all = append(all, webhook.Message{
				Tenant: tenant, Endpoint: r.EndpointID, Event: r.EventID, Type: r.Type, Body: r.Body, URL: r.Url, Attempt: r.Attempts, CreatedAt: r.CreatedAt,
			})
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("claim webhooks: %w", err)
	}
	return all, nil
}

// Secrets implements webhook.Store and webhook.Queue.
func (s *Webhooks) Secrets(ctx context.Context, tenant, endpoint uuid.UUID) (all []secret.Secret, err error) {
	var rows []eventsdb.WebhookSecretsRow
	err = s.db.Read(ctx, tenant, func(ctx context.Context, tx db.Tx) error {
		rows, err = eventsdb.New(tx).WebhookSecrets(ctx, eventsdb.WebhookSecretsParams{TenantID: tenant, EndpointID: endpoint})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read secrets: %w", err)
	}
	for _, r := range rows {
		plain, err := s.vault.Open(secretName(tenant, endpoint, r.ID), vault.Sealed{Data: r.Sealed, DataKey: r.WrappedDataKey, KEK: r.KekID})
		if err != nil {
			return nil, err
		}
		all = append(all, plain)
	}
	return all, nil
}

// Finish implements webhook.Queue.
func (s *Webhooks) Finish(ctx context.Context, m webhook.Message, r webhook.Result) error {
	disabled := false
	err := s.db.WithTenant(ctx, m.Tenant, func(ctx context.Context, tx db.Tx) error {
		q := eventsdb.New(tx)
		e, now, err := lock(ctx, q, m.Tenant, m.Endpoint)
		if fault.Is(err, fault.NotFound) {
			return nil // deleted meanwhile, with all that waited
		}
		if err != nil {
			return err
		}
		out := s.patience.Judge(m, r, e.Health, now)
		state := "PENDING"
		switch {
		case r.Delivered():
			state = "DELIVERED"
		case out.Over || out.Health.Disabled != "":
			state = "FAILED"
		}
		n, err := q.EndWebhook(ctx, eventsdb.EndWebhookParams{
			TenantID: m.Tenant, EndpointID: m.Endpoint, EventID: m.Event, Attempt: m.Attempt,
			State: state, StatusCode: int32(r.Status), Error: r.Error, WaitSeconds: out.Wait.Seconds(),
		})
		if err != nil {
			return fmt.Errorf("end attempt: %w", err)
		}
		if n == 0 {
			return nil // somebody else has it: the lease ran out while we sent
		}
		if err := q.NoteWebhookAttempt(ctx, eventsdb.NoteWebhookAttemptParams{
			TenantID: m.Tenant, ID: m.Endpoint, Status: status(out.Health), DisabledReason: out.Health.Disabled, Failures: out.Health.Failures,
			FailingSince: orNil(out.Health.FailingSince), LastError: out.Health.LastError, Succeeded: r.Delivered(),
		}); err != nil {
			return fmt.Errorf("note attempt: %w", err)
		}
		if disabled = out.Exhausted; !disabled {
			return nil
		}
		if err := abandon(ctx, q, m.Tenant, m.Endpoint, out.Health.Disabled); err != nil {
			return err
		}
		e.Health = out.Health
		return outbox.Append(ctx, tx, webhookEvent(m.Tenant, "service:event-processor", "webhook_disabled", m.Endpoint, sight(e)))
	})
	if err == nil && disabled {
		s.nudge()
	}
	return err
}

// Forget implements webhook.Queue.
func (s *Webhooks) Forget(ctx context.Context) error {
	stale := func(ctx context.Context, q *eventsdb.Queries, after uuid.UUID) ([]uuid.UUID, error) {
		return q.WebhookStaleTenants(ctx, eventsdb.WebhookStaleTenantsParams{After: after, Lim: tenantsAtOnce})
	}
	return s.each(ctx, stale, func(ctx context.Context, q *eventsdb.Queries, tenant uuid.UUID) error {
		_, err := q.ForgetWebhooks(ctx, tenant)
		return err
	})
}

// Rewrap wraps what an earlier key-encryption key wraps by the one of now, so
// that the earlier one can go.
func (s *Webhooks) Rewrap(ctx context.Context) error {
	if s.vault.Current() == "" {
		return nil
	}
	others := func(ctx context.Context, q *eventsdb.Queries, after uuid.UUID) ([]uuid.UUID, error) {
		return q.WebhookRewrapTenants(ctx, eventsdb.WebhookRewrapTenantsParams{Kek: s.vault.Current(), After: after, Lim: tenantsAtOnce})
	}
	return s.each(ctx, others, func(ctx context.Context, q *eventsdb.Queries, tenant uuid.UUID) error {
		rows, err := q.SecretsToRewrap(ctx, eventsdb.SecretsToRewrapParams{TenantID: tenant, Kek: s.vault.Current()})
		if err != nil {
			return err
		}
		for _, r := range rows {
			sealed, err := s.vault.Rewrap(secretName(tenant, r.EndpointID, r.ID), vault.Sealed{Data: r.Sealed, DataKey: r.WrappedDataKey, KEK: r.KekID})
			if err != nil {
				return err
			}
			if err := q.RewrapWebhookSecret(ctx, eventsdb.RewrapWebhookSecretParams{TenantID: tenant, ID: r.ID, WrappedDataKey: sealed.DataKey, KekID: sealed.KEK}); err != nil {
				return err
			}
		}
		return nil
	})
}

// tenantsAtOnce is how many are asked for at a time.
const tenantsAtOnce = 64

// each does something for every tenant that next finds, each in a transaction.
func (s *Webhooks) each(ctx context.Context, next func(context.Context, *eventsdb.Queries, uuid.UUID) ([]uuid.UUID, error),
	do func(context.Context, *eventsdb.Queries, uuid.UUID) error) error {
	for after := uuid.Nil; ; {
		var tenants []uuid.UUID
		err := s.db.GlobalOne(ctx, func(ctx context.Context, tx db.Tx) (err error) {
			tenants, err = next(ctx, eventsdb.New(tx), after)
			return err
		})
		if err != nil || len(tenants) == 0 {
			return err
		}
		for _, tenant := range tenants {
			err := s.db.WithTenant(ctx, tenant, func(ctx context.Context, tx db.Tx) error { return do(ctx, eventsdb.New(tx), tenant) })
			if err != nil {
				return err
			}
		}
		after = tenants[len(tenants)-1]
	}
}

// Delivery is a message as its tenant sees it.
type Delivery struct {
	Event       uuid.UUID
	Type, State string
	Attempts    int32
	Status      int32
	Error       string
	CreatedAt   time.Time
	AttemptedAt time.Time // zero: never
	NextAt      time.Time
}

// Deliveries returns up to limit messages of an endpoint before a place, newest
// first, and where each is.
func (s *Webhooks) Deliveries(ctx context.Context, tenant, endpoint uuid.UUID, from Place, limit int) (all []Delivery, places []Place, err error) {
	err = s.db.Read(ctx, tenant, func(ctx context.Context, tx db.Tx) error {
		q := eventsdb.New(tx)
		if _, err := one(ctx, q, tenant, endpoint); err != nil {
			return err
		}
		rows, err := q.WebhookDeliveries(ctx, eventsdb.WebhookDeliveriesParams{
			TenantID: tenant, EndpointID: endpoint, BeforeAt: from.At, BeforeID: from.ID, Lim: int32(limit),
		})
		for _, r := range rows {
			all = append(all, Delivery{
				Event: r.EventID, Type: r.Type, State: r.State, Attempts: r.Attempts, Status: r.StatusCode, Error: r.Error,
				CreatedAt: r.CreatedAt, AttemptedAt: timeOf(r.AttemptedAt), NextAt: r.NextAt,
			})
			places = append(places, Place{At: r.CreatedAt, ID: r.EventID})
		}
		return err
	})
	return all, places, err
}
