package api

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	tenantv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/tenant/v1"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/keys"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/page"
)

// Keys is TenantService: the API keys of the caller's tenant.
type Keys struct {
	tenantv1.UnimplementedTenantServiceServer
	service *keys.Service
}

// NewKeys returns Keys over s.
func NewKeys(s *keys.Service) *Keys { return &Keys{service: s} }

// CreateApiKey implements tenantv1.TenantServiceServer.
func (s *Keys) CreateApiKey(ctx context.Context, req *tenantv1.CreateApiKeyRequest) (*tenantv1.CreateApiKeyResponse, error) {
	by, err := identity.From(ctx)
	if err != nil {
		return nil, err
	}
	key, err := once(ctx, tenantv1.TenantService_CreateApiKey_FullMethodName, req)
	if err != nil {
		return nil, err
	}
	ttl, err := lifetime(req.GetExpiresInSeconds())
	if err != nil {
		return nil, err
	}
	made, whole, err := s.service.Create(ctx, by, keys.Spec{Name: req.GetName(), Scopes: req.GetScopes(), TTL: ttl}, key)
	if err != nil {
		return nil, err
	}
	return &tenantv1.CreateApiKeyResponse{Key: keyMessage(made), KeySecret: whole.Reveal()}, nil
}

// ListApiKeys implements tenantv1.TenantServiceServer.
func (s *Keys) ListApiKeys(ctx context.Context, req *tenantv1.ListApiKeysRequest) (*tenantv1.ListApiKeysResponse, error) {
	by, err := identity.From(ctx)
	if err != nil {
		return nil, err
	}
	size, err := page.Size(req.GetPageSize())
	if err != nil {
		return nil, err
	}
	list := page.List{Tenant: by.Tenant, Kind: "keys"}
	var after *keys.Position
	if _, err := page.Read(list, req.GetPageToken(), &after); err != nil {
		return nil, err
	}
	all, err := s.service.Keys(ctx, by.Tenant, after, size+1)
	if err != nil {
		return nil, err
	}
	all, next, err := page.Cut(list, all, size, func(k keys.Key) any { return keys.Position{CreatedAt: k.CreatedAt, ID: k.ID} })
	if err != nil {
		return nil, err
	}
	resp := &tenantv1.ListApiKeysResponse{NextPageToken: next}
	for _, k := range all {
		resp.Keys = append(resp.Keys, keyMessage(k))
	}
	return resp, nil
}

// RevokeApiKey implements tenantv1.TenantServiceServer.
func (s *Keys) RevokeApiKey(ctx context.Context, req *tenantv1.RevokeApiKeyRequest) (*tenantv1.RevokeApiKeyResponse, error) {
	by, err := identity.From(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.service.Revoke(ctx, by, req.GetKeyId()); err != nil {
		return nil, err
	}
	return &tenantv1.RevokeApiKeyResponse{Success: true}, nil
}

func lifetime(seconds int64) (time.Duration, error) {
	const most = 315360000
	if seconds < 0 || seconds > most {
		return 0, fault.Field("expires_in_seconds", "must be between 0 and %d", most)
	}
	return time.Duration(seconds) * time.Second, nil
}

func keyMessage(k keys.Key) *tenantv1.ApiKey {
	m := &tenantv1.ApiKey{Id: k.ID, Name: k.Name, KeyHint: k.Hint(), Scopes: k.Scopes, CreatedAt: timestamppb.New(k.CreatedAt)}
	if k.ExpiresAt != nil {
		m.ExpiresAt = timestamppb.New(*k.ExpiresAt)
	}
	if k.UsedAt != nil {
		m.LastUsedAt = timestamppb.New(*k.UsedAt)
	}
	return m
}
