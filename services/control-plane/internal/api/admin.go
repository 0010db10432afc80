package api

import (
	"context"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	controlplanev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/controlplane/v1"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/change"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/keys"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/page"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/tenant"
)

// Admin is AdminService: the tenants, for the platform's administrator.
type Admin struct {
	controlplanev1.UnimplementedAdminServiceServer
	tenants *tenant.Service
	keys    *keys.Service
}

// NewAdmin returns Admin over the two services it is made of.
func NewAdmin(t *tenant.Service, k *keys.Service) *Admin { return &Admin{tenants: t, keys: k} }

// CreateTenant implements controlplanev1.AdminServiceServer. Its idempotency
// key may come in the request, or like everywhere else in the metadata.
func (s *Admin) CreateTenant(ctx context.Context, req *controlplanev1.CreateTenantRequest) (*controlplanev1.CreateTenantResponse, error) {
	by, err := identity.From(ctx)
	if err != nil {
		return nil, err
	}
	body := proto.CloneOf(req)
	body.IdempotencyKey = ""
	key, err := once(ctx, controlplanev1.AdminService_CreateTenant_FullMethodName, body)
	if err != nil {
		return nil, err
	}
	if req.GetIdempotencyKey() != "" {
		key, err = change.NewOnce(req.GetIdempotencyKey(), controlplanev1.AdminService_CreateTenant_FullMethodName, body)
		if err != nil {
			return nil, err
		}
	}
	t, err := s.tenants.Create(ctx, by, req.GetName(), req.GetSettings(), key)
	if err != nil {
		return nil, err
	}
	return &controlplanev1.CreateTenantResponse{Tenant: t}, nil
}

// ListTenants implements controlplanev1.AdminServiceServer.
func (s *Admin) ListTenants(ctx context.Context, req *controlplanev1.ListTenantsRequest) (*controlplanev1.ListTenantsResponse, error) {
	by, err := identity.From(ctx)
	if err != nil {
		return nil, err
	}
	size, err := page.Size(req.GetPageSize())
	if err != nil {
		return nil, err
	}
	list := page.List{Kind: "tenants"}
	var after uuid.UUID
	if _, err := page.Read(list, req.GetPageToken(), &after); err != nil {
		return nil, err
	}
	all, err := s.tenants.Tenants(ctx, by, after, size+1)
	if err != nil {
		return nil, err
	}
	all, next, err := page.Cut(list, all, size, func(t *controlplanev1.Tenant) any { return t.GetTenantId() })
	if err != nil {
		return nil, err
	}
	return &controlplanev1.ListTenantsResponse{Tenants: all, NextPageToken: next}, nil
}

// IssueApiKey implements controlplanev1.AdminServiceServer.
func (s *Admin) IssueApiKey(ctx context.Context, req *controlplanev1.IssueApiKeyRequest) (*controlplanev1.IssueApiKeyResponse, error) {
	by, err := identity.From(ctx)
	if err != nil {
		return nil, err
	}
	owner, err := id("tenant_id", req.GetTenantId())
	if err != nil {
		return nil, err
	}
	key, err := once(ctx, controlplanev1.AdminService_IssueApiKey_FullMethodName, req)
	if err != nil {
		return nil, err
	}
	ttl, err := lifetime(req.GetExpiresInSeconds())
	if err != nil {
		return nil, err
	}
	made, whole, err := s.keys.Issue(ctx, by, owner, keys.Spec{
		Name: req.GetName(), Scopes: req.GetScopes(), Roles: req.GetRoles(),
		Agent: req.GetAgentId(), Team: req.GetTeam(), User: req.GetUserId(), TTL: ttl,
	}, key)
	if err != nil {
		return nil, err
	}
	return &controlplanev1.IssueApiKeyResponse{Key: keyMessage(made), KeySecret: whole.Reveal()}, nil
}

// UpdateTenantSettings implements controlplanev1.AdminServiceServer.
func (s *Admin) UpdateTenantSettings(ctx context.Context, req *controlplanev1.UpdateTenantSettingsRequest) (*controlplanev1.UpdateTenantSettingsResponse, error) {
	by, err := identity.From(ctx)
	if err != nil {
		return nil, err
	}
	u, err := id("tenant_id", req.GetTenantId())
	if err != nil {
		return nil, err
	}
	if req.GetSettings() == nil {
		return nil, fault.Field("settings", "is required")
	}
	t, version, err := s.tenants.ReplaceSettings(ctx, by, u, req.GetSettings())
	if err != nil {
		return nil, err
	}
	return &controlplanev1.UpdateTenantSettingsResponse{Tenant: t, PolicySetVersion: version}, nil
}
