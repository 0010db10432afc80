// Package tenant keeps the tenants of the platform and their settings.
package tenant

import (
	"context"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	configv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/config/v1"
	controlplanev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/controlplane/v1"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/change"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/zone"
)

// Store keeps tenants.
type Store interface {
	// CreateTenant stores a tenant together with version 1 of its bundles, so
	// that the data plane knows it from the start. Repeated, it returns the
	// tenant it made the first time; it is a Conflict if once stands for
	// another request.
	CreateTenant(ctx context.Context, by identity.Principal, name string, settings *configv1.TenantSettings, once change.Once) (*controlplanev1.Tenant, error)
	// Tenants returns up to limit tenants after an id, oldest first.
	Tenants(ctx context.Context, after uuid.UUID, limit int) ([]*controlplanev1.Tenant, error)
	// ReplaceSettings stores settings, publishes both bundles with them and
	// returns the policy bundle's version. NotFound if there is no such tenant.
	ReplaceSettings(ctx context.Context, by identity.Principal, tenant uuid.UUID, settings *configv1.TenantSettings) (*controlplanev1.Tenant, int64, error)
}

// AdminScope lets a tenant's own administrator change its settings.
const AdminScope = "tenant:admin"

// Service is what may be done with tenants.
type Service struct{ store Store }

// New returns a Service over store.
func New(store Store) *Service { return &Service{store: store} }

// Create makes a tenant.
func (s *Service) Create(ctx context.Context, by identity.Principal, name string, settings *configv1.TenantSettings, once change.Once) (*controlplanev1.Tenant, error) {
	if err := by.MustBeAdmin(); err != nil {
		return nil, err
	}
	name = strings.TrimSpace(name)
	if n := utf8.RuneCountInString(name); n < 1 || n > 128 {
		return nil, fault.Field("name", "must have 1 to 128 characters")
	}
	if settings == nil {
		settings = &configv1.TenantSettings{}
	}
	if err := check(settings); err != nil {
		return nil, err
	}
	return s.store.CreateTenant(ctx, by, name, settings, once)
}

// Tenants returns up to limit tenants after an id.
func (s *Service) Tenants(ctx context.Context, by identity.Principal, after uuid.UUID, limit int) ([]*controlplanev1.Tenant, error) {
	if err := by.MustBeAdmin(); err != nil {
		return nil, err
	}
	return s.store.Tenants(ctx, after, limit)
}

// ReplaceSettings changes a tenant's settings: any tenant's for the platform's
// administrator, their own for everybody else. To those, another tenant is no
// different from one that does not exist.
func (s *Service) ReplaceSettings(ctx context.Context, by identity.Principal, tenant uuid.UUID, settings *configv1.TenantSettings) (*controlplanev1.Tenant, int64, error) {
	if !by.Admin {
		if err := by.Can(AdminScope); err != nil {
			return nil, 0, err
		}
		if by.Tenant != tenant {
			return nil, 0, Missing()
		}
	}
	if err := check(settings); err != nil {
		return nil, 0, err
	}
	return s.store.ReplaceSettings(ctx, by, tenant, settings)
}

// Missing says that there is no such tenant.
func Missing() error {
	return fault.New(fault.NotFound, "there is no such tenant").WithReason("TENANT_NOT_FOUND")
}

func check(s *configv1.TenantSettings) error {
	if _, ok := governancev1.Decision_name[int32(s.GetDefaultDecision())]; !ok {
		return fault.Field("settings.default_decision", "%d is not a decision", s.GetDefaultDecision())
	}
	if _, ok := governancev1.Decision_name[int32(s.GetUnknownTool())]; !ok {
		return fault.Field("settings.unknown_tool", "%d is not a decision", s.GetUnknownTool())
	}
	if !zone.Valid(s.GetTimeZone()) {
		return fault.Field("settings.time_zone", "%.64q is not an IANA time zone such as Europe/Berlin", s.GetTimeZone())
	}
	return nil
}
