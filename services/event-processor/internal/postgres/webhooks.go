package postgres

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/eventsdb"
	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	"github.com/fulcrum-io/fulcrum/pkg/outbox"
	"github.com/fulcrum-io/fulcrum/pkg/secret"
	"github.com/fulcrum-io/fulcrum/pkg/vault"
	busv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/bus/v1"
	"github.com/fulcrum-io/fulcrum/services/event-processor/internal/webhook"
)

// Webhooks keeps endpoints, what signs for them, and what is to be sent to them.
// It implements webhook.Store and webhook.Queue.
type Webhooks struct {
	db       *db.DB
	vault    *vault.Vault
	patience webhook.Patience
	nudge    func() // told of events to relay
}

// NewWebhooks returns a Webhooks in d whose secrets v seals.
func NewWebhooks(d *db.DB, v *vault.Vault, p webhook.Patience, nudge func()) *Webhooks {
	return &Webhooks{db: d, vault: v, patience: p, nudge: nudge}
}

// Create implements webhook.Store.
func (s *Webhooks) Create(ctx context.Context, by identity.Principal, e webhook.Endpoint, plain secret.Secret) (made webhook.Endpoint, err error) {
	err = s.change(ctx, by.Tenant, func(ctx context.Context, tx db.Tx, q *eventsdb.Queries) error {
		n, err := q.CountWebhooks(ctx, by.Tenant)
		if err != nil {
			return fmt.Errorf("count webhooks: %w", err)
		}
		if n >= webhook.MostEndpoints {
			return fault.New(fault.Exhausted, "there are %d webhooks, and more than %d are not kept", n, webhook.MostEndpoints).
				WithReason("TOO_MANY_WEBHOOKS").WithHint("Delete one that is not needed.")
		}
		if err := q.InsertWebhook(ctx, eventsdb.InsertWebhookParams{
			TenantID: by.Tenant, ID: e.ID, Url: e.URL, Description: e.Description, EventTypes: append([]string{}, e.Types...), CreatedBy: e.CreatedBy,
		}); err != nil {
			return known(err, e.URL)
		}
		if err := s.keep(ctx, q, by.Tenant, e.ID, plain); err != nil {
			return err
		}
		if made, err = one(ctx, q, by.Tenant, e.ID); err != nil {
			return err
		}
		return outbox.Append(ctx, tx, webhookEvent(by.Tenant, by.Actor(), "webhook_created", e.ID, sight(made)))
	})
	return made, err
}

// known tells a URL that is there already from other failures.
func known(err error, to string) error {
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.ConstraintName == "webhook_endpoints_url" {
		return fault.New(fault.Exists, "there is a webhook to %.128s already", to).WithReason("WEBHOOK_EXISTS").
			WithHint("Rotate its secret if that was lost, or delete it first.")
	}
	return fmt.Errorf("keep webhook: %w", err)
}

// secretName is what a secret is sealed under: nobody can move it.
func secretName(tenant, endpoint, id uuid.UUID) []byte {
	return fmt.Appendf(nil, "fulcrum webhook secret\n%s\n%s\n%s", tenant, endpoint, id)
}

func (s *Webhooks) keep(ctx context.Context, q *eventsdb.Queries, tenant, endpoint uuid.UUID, plain secret.Secret) error {
	id := uuid.Must(uuid.NewV7())
	sealed, err := s.vault.Seal(secretName(tenant, endpoint, id), plain)
	if err != nil {
		return err
	}
	if err := q.InsertWebhookSecret(ctx, eventsdb.InsertWebhookSecretParams{
		TenantID: tenant, EndpointID: endpoint, ID: id, Sealed: sealed.Data, WrappedDataKey: sealed.DataKey, KekID: sealed.KEK,
	}); err != nil {
		return fmt.Errorf("keep secret: %w", err)
	}
	return nil
}

// Endpoint implements webhook.Store.
func (s *Webhooks) Endpoint(ctx context.Context, tenant, id uuid.UUID) (e webhook.Endpoint, err error) {
	err = s.db.Read(ctx, tenant, func(ctx context.Context, tx db.Tx) error {
		e, err = one(ctx, eventsdb.New(tx), tenant, id)
		return err
	})
	return e, err
}

func one(ctx context.Context, q *eventsdb.Queries, tenant, id uuid.UUID) (webhook.Endpoint, error) {
	row, err := q.Webhook(ctx, eventsdb.WebhookParams{TenantID: tenant, ID: id})
	if errors.Is(err, pgx.ErrNoRows) {
		return webhook.Endpoint{}, webhook.ErrNotFound(id)
	}
	if err != nil {
		return webhook.Endpoint{}, fmt.Errorf("read webhook: %w", err)
	}
	return endpoint(eventsdb.WebhooksRow(row)), nil
}

// Endpoints implements webhook.Store.
func (s *Webhooks) Endpoints(ctx context.Context, tenant uuid.UUID) (all []webhook.Endpoint, err error) {
	err = s.db.Read(ctx, tenant, func(ctx context.Context, tx db.Tx) error {
		rows, err := eventsdb.New(tx).Webhooks(ctx, tenant)
		for _, row := range rows {
			all = append(all, endpoint(row))
		}
		return err
	})
	return all, err
}

func endpoint(r eventsdb.WebhooksRow) webhook.Endpoint {
	return webhook.Endpoint{
		ID: r.ID, URL: r.Url, Description: r.Description, Types: r.EventTypes,
		Health:      webhook.Health{Disabled: r.DisabledReason, Failures: r.Failures, FailingSince: timeOf(r.FailingSince), LastError: r.LastError},
		LastAttempt: timeOf(r.LastAttemptAt), LastSuccess: timeOf(r.LastSuccessAt),
		CreatedBy: r.CreatedBy, CreatedAt: r.CreatedAt, UpdatedAt: r.UpdatedAt, Pending: r.Pending,
	}
}

func timeOf(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}

func orNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func status(h webhook.Health) string {
	if h.Disabled != "" {
		return "DISABLED"
	}
	return "ACTIVE"
}

// Update implements webhook.Store.
func (s *Webhooks) Update(ctx context.Context, by identity.Principal, id uuid.UUID, do func(*webhook.Endpoint) error) (after webhook.Endpoint, err error) {
	err = s.change(ctx, by.Tenant, func(ctx context.Context, tx db.Tx, q *eventsdb.Queries) error {
		before, _, err := lock(ctx, q, by.Tenant, id)
		if err != nil {
			return err
		}
		e := before
		if err := do(&e); err != nil {
			return err
		}
		if err := q.UpdateWebhook(ctx, eventsdb.UpdateWebhookParams{
			TenantID: by.Tenant, ID: id, Url: e.URL, Description: e.Description, EventTypes: append([]string{}, e.Types...), Status: status(e.Health),
			DisabledReason: e.Disabled, Failures: e.Failures, FailingSince: orNil(e.FailingSince), LastError: e.LastError,
		}); err != nil {
			return known(err, e.URL)
		}
		if e.Disabled != "" && before.Disabled == "" {
			if err := abandon(ctx, q, by.Tenant, id, e.Disabled); err != nil {
				return err
			}
		}
		if after, err = one(ctx, q, by.Tenant, id); err != nil {
			return err
		}
		return outbox.Append(ctx, tx, webhookEvent(by.Tenant, by.Actor(), "webhook_updated", id,
			map[string]any{"before": sight(before), "after": sight(after)}))
	})
	return after, err
}

// abandon gives up all that waits for an endpoint that is disabled.
func abandon(ctx context.Context, q *eventsdb.Queries, tenant, id uuid.UUID, why string) error {
	_, err := q.FailPendingWebhooks(ctx, eventsdb.FailPendingWebhooksParams{TenantID: tenant, EndpointID: id, Error: why})
	if err != nil {
		return fmt.Errorf("give up what waits: %w", err)
	}
	return nil
}

// lock is an endpoint that nobody else changes until tx ends, and the time.
func lock(ctx context.Context, q *eventsdb.Queries, tenant, id uuid.UUID) (webhook.Endpoint, time.Time, error) {
	r, err := q.LockWebhook(ctx, eventsdb.LockWebhookParams{TenantID: tenant, ID: id})
	if errors.Is(err, pgx.ErrNoRows) {
		return webhook.Endpoint{}, time.Time{}, webhook.ErrNotFound(id)
	}
	if err != nil {
		return webhook.Endpoint{}, time.Time{}, fmt.Errorf("lock webhook: %w", err)
	}
	return endpoint(eventsdb.WebhooksRow{
		ID: r.ID, Url: r.Url, Description: r.Description, EventTypes: r.EventTypes, Status: r.Status, DisabledReason: r.DisabledReason, Failures: r.Failures,
		FailingSince: r.FailingSince, LastError: r.LastError, LastAttemptAt: r.LastAttemptAt, LastSuccessAt: r.LastSuccessAt, CreatedBy: r.CreatedBy,
		CreatedAt: r.CreatedAt, UpdatedAt: r.UpdatedAt,
	}), r.At, nil
}

// Delete implements webhook.Store.
func (s *Webhooks) Delete(ctx context.Context, by identity.Principal, id uuid.UUID) error {
	return s.change(ctx, by.Tenant, func(ctx context.Context, tx db.Tx, q *eventsdb.Queries) error {
		before, err := one(ctx, q, by.Tenant, id)
		if err != nil {
			return err
		}
		if _, err := q.DeleteWebhook(ctx, eventsdb.DeleteWebhookParams{TenantID: by.Tenant, ID: id}); err != nil {
			return fmt.Errorf("delete webhook: %w", err)
		}
		return outbox.Append(ctx, tx, webhookEvent(by.Tenant, by.Actor(), "webhook_deleted", id, sight(before)))
	})
}

// Rotate implements webhook.Store.
func (s *Webhooks) Rotate(ctx context.Context, by identity.Principal, id uuid.UUID, plain secret.Secret, overlap time.Duration) (until time.Time, err error) {
	err = s.change(ctx, by.Tenant, func(ctx context.Context, tx db.Tx, q *eventsdb.Queries) error {
		if _, _, err := lock(ctx, q, by.Tenant, id); err != nil {
			return err
		}
		until, err = q.RetireWebhookSecrets(ctx, eventsdb.RetireWebhookSecretsParams{TenantID: by.Tenant, EndpointID: id, OverlapSeconds: overlap.Seconds()})
		if err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return fmt.Errorf("retire secret: %w", err)
		}
		if err := q.DropRetiredWebhookSecrets(ctx, eventsdb.DropRetiredWebhookSecretsParams{TenantID: by.Tenant, EndpointID: id}); err != nil {
			return fmt.Errorf("drop old secrets: %w", err)
		}
		if err := s.keep(ctx, q, by.Tenant, id, plain); err != nil {
			return err
		}
		return outbox.Append(ctx, tx, webhookEvent(by.Tenant, by.Actor(), "webhook_secret_rotated", id,
			map[string]any{"old_until": until.UTC().Format(time.RFC3339)}))
	})
	return until, err
}

// change is one change of a tenant's endpoints at a time.
func (s *Webhooks) change(ctx context.Context, tenant uuid.UUID, do func(context.Context, db.Tx, *eventsdb.Queries) error) error {
	err := s.db.WithTenant(ctx, tenant, func(ctx context.Context, tx db.Tx) error {
		q := eventsdb.New(tx)
		if err := q.LockWebhooks(ctx, tenant.String()); err != nil {
			return fmt.Errorf("lock webhooks: %w", err)
		}
		return do(ctx, tx, q)
	})
	if err == nil {
		s.nudge()
	}
	return err
}

// sight is an endpoint as events show it. A path may be a password of the
// receiver's, so only the host is in it.
func sight(e webhook.Endpoint) map[string]any {
	host := ""
	if u, err := url.Parse(e.URL); err == nil {
		host = u.Scheme + "://" + u.Host
	}
	types := make([]any, 0, len(e.Types))
	for _, t := range e.Types {
		types = append(types, t)
	}
	return map[string]any{"host": host, "description": e.Description, "event_types": types, "status": status(e.Health), "disabled_reason": e.Disabled}
}

func webhookEvent(tenant uuid.UUID, actor, kind string, id uuid.UUID, facts map[string]any) *busv1.Event {
	e := immuneEvent(tenant, kind, actor, facts)
	e.Action, e.Resource = "webhook", "webhook:"+id.String()
	e.Labels = map[string]string{"webhook_id": id.String()}
	return e
}
