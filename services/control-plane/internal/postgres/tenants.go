package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/controldb"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	configv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/config/v1"
	controlplanev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/controlplane/v1"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/change"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/tenant"
)

// CreateTenant implements tenant.Store. The tenants themselves keep the
// idempotency key, as the one thing that exists before the tenant does; what
// was asked for is kept beside it, in the tenant.
func (s *Store) CreateTenant(ctx context.Context, by identity.Principal, name string, settings *configv1.TenantSettings, once change.Once) (*controlplanev1.Tenant, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return nil, fmt.Errorf("new tenant id: %w", err)
	}
	raw, err := writeSettings(settings)
	if err != nil {
		return nil, err
	}
	var created *controlplanev1.Tenant
	err = s.db.WithTenant(ctx, id, func(ctx context.Context, tx db.Tx) error {
		q := controldb.New(tx)
		row, err := q.CreateTenant(ctx, controldb.CreateTenantParams{TenantID: id, Name: name, Settings: raw, IdempotencyKey: once.Key})
		if err != nil {
			return fmt.Errorf("create tenant: %w", err)
		}
		if !row.Created {
			id = row.TenantID
			return errUsed
		}
		if created, err = tenantOf(controldb.TenantRow{
			TenantID: row.TenantID, TenantName: row.TenantName, Status: row.Status, TenantSettings: row.TenantSettings, CreatedAt: row.CreatedAt,
		}); err != nil {
			return err
		}
		if err := keepForever(ctx, q, id, once, created); err != nil {
			return err
		}
		versions, err := advance(ctx, q, id, []kind{policies, budgets})
		if err != nil {
			return err
		}
		return finish(ctx, tx, q, by, id, versions, fact(change.Fact{
			Type: "tenant_created", Action: "tenant.create", Resource: "tenant:" + id.String(), After: created,
		}))
	})
	if errors.Is(err, errUsed) {
		return s.tenantAgain(ctx, id, once)
	}
	if err != nil {
		return nil, err
	}
	s.nudge()
	return created, nil
}

// ofTenant is once under a name that no caller of the tenant can use.
func ofTenant(once change.Once) change.Once {
	return change.Once{Key: "create tenant " + once.Key, Hash: once.Hash}
}

func keepForever(ctx context.Context, q *controldb.Queries, id uuid.UUID, once change.Once, answer *controlplanev1.Tenant) error {
	if once.Key == "" {
		return nil
	}
	once = ofTenant(once)
	if err := claim(ctx, q, id, once); err != nil {
		return err
	}
	return keep(ctx, q, id, once, answer)
}

// tenantAgain answers a repeated creation.
func (s *Store) tenantAgain(ctx context.Context, id uuid.UUID, once change.Once) (*controlplanev1.Tenant, error) {
	answer := &controlplanev1.Tenant{}
	found, err := s.Replay(ctx, id, ofTenant(once), answer)
	if err != nil {
		return nil, err
	}
	if !found { // created by other means under this key
		return nil, change.KeyReused()
	}
	return answer, nil
}

// Tenants implements tenant.Store.
func (s *Store) Tenants(ctx context.Context, after uuid.UUID, limit int) (page []*controlplanev1.Tenant, err error) {
	err = s.db.GlobalOne(ctx, func(ctx context.Context, tx db.Tx) error {
		rows, err := controldb.New(tx).Tenants(ctx, controldb.TenantsParams{After: after, Lim: int32(limit)})
		if err != nil {
			return fmt.Errorf("list tenants: %w", err)
		}
		for _, row := range rows {
			t, err := tenantOf(controldb.TenantRow(row))
			if err != nil {
				return err
			}
			page = append(page, t)
		}
		return nil
	})
	return page, err
}

// ReplaceSettings implements tenant.Store.
func (s *Store) ReplaceSettings(ctx context.Context, by identity.Principal, id uuid.UUID, settings *configv1.TenantSettings) (stored *controlplanev1.Tenant, version int64, err error) {
	raw, err := writeSettings(settings)
	if err != nil {
		return nil, 0, err
	}
	versions, err := s.change(ctx, by, id, []kind{policies, budgets}, func(ctx context.Context, q *controldb.Queries) (told, error) {
		row, err := q.Tenant(ctx, id)
		if errors.Is(err, pgx.ErrNoRows) {
			return told{}, tenant.Missing()
		}
		if err != nil {
			return told{}, fmt.Errorf("read tenant: %w", err)
		}
		old, err := tenantOf(row)
		if err != nil {
			return told{}, err
		}
		changed, err := q.UpdateTenantSettings(ctx, controldb.UpdateTenantSettingsParams{TenantID: id, Settings: raw})
		if err != nil {
			return told{}, fmt.Errorf("update tenant settings: %w", err)
		}
		if stored, err = tenantOf(controldb.TenantRow(changed)); err != nil {
			return told{}, err
		}
		return fact(change.Fact{
			Type: "tenant_updated", Action: "tenant.update_settings", Resource: "tenant:" + id.String(), Before: old, After: stored,
		}), nil
	})
	if err != nil {
		return nil, 0, noTenant(err)
	}
	return stored, versions[policies], nil
}

func tenantOf(row controldb.TenantRow) (*controlplanev1.Tenant, error) {
	settings, err := readSettings(row.TenantSettings)
	if err != nil {
		return nil, err
	}
	status := controlplanev1.TenantStatus_TENANT_STATUS_ACTIVE
	if row.Status == "suspended" {
		status = controlplanev1.TenantStatus_TENANT_STATUS_SUSPENDED
	}
	return &controlplanev1.Tenant{
		TenantId: row.TenantID.String(), Name: row.TenantName, Status: status, Settings: settings,
		CreatedAt: timestamppb.New(row.CreatedAt),
	}, nil
}
