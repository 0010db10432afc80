package api

import (
	"context"

	"github.com/fulcrum-io/fulcrum/pkg/identity"
	controlplanev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/controlplane/v1"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/page"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/tool"
)

// Tools is ToolService.
type Tools struct {
	controlplanev1.UnimplementedToolServiceServer
	service *tool.Service
}

// NewTools returns Tools over s.
func NewTools(s *tool.Service) *Tools { return &Tools{service: s} }

// RegisterTool implements controlplanev1.ToolServiceServer. It needs no
// idempotency key: a tool is what was last said of its name.
func (s *Tools) RegisterTool(ctx context.Context, req *controlplanev1.RegisterToolRequest) (*controlplanev1.RegisterToolResponse, error) {
	by, err := identity.From(ctx)
	if err != nil {
		return nil, err
	}
	t, version, err := s.service.Register(ctx, by, req.GetTool())
	if err != nil {
		return nil, err
	}
	return &controlplanev1.RegisterToolResponse{Tool: t, PolicySetVersion: version}, nil
}

// ImportTools implements controlplanev1.ToolServiceServer. It needs no
// idempotency key: what is registered already is the same.
func (s *Tools) ImportTools(ctx context.Context, req *controlplanev1.ImportToolsRequest) (*controlplanev1.ImportToolsResponse, error) {
	by, err := identity.From(ctx)
	if err != nil {
		return nil, err
	}
	changes, version, err := s.service.Import(ctx, by, req)
	if err != nil {
		return nil, err
	}
	return &controlplanev1.ImportToolsResponse{Changes: changes, PolicySetVersion: version}, nil
}

// ListTools implements controlplanev1.ToolServiceServer.
func (s *Tools) ListTools(ctx context.Context, req *controlplanev1.ListToolsRequest) (*controlplanev1.ListToolsResponse, error) {
	by, err := identity.From(ctx)
	if err != nil {
		return nil, err
	}
	size, err := page.Size(req.GetPageSize())
	if err != nil {
		return nil, err
	}
	list := page.List{Tenant: by.Tenant, Kind: "tools"}
	var after string
	if _, err := page.Read(list, req.GetPageToken(), &after); err != nil {
		return nil, err
	}
	all, err := s.service.Tools(ctx, by.Tenant, after, size+1)
	if err != nil {
		return nil, err
	}
	all, next, err := page.Cut(list, all, size, func(t *controlplanev1.Tool) any { return t.GetName() })
	if err != nil {
		return nil, err
	}
	return &controlplanev1.ListToolsResponse{Tools: all, NextPageToken: next}, nil
}

// DeleteTool implements controlplanev1.ToolServiceServer.
func (s *Tools) DeleteTool(ctx context.Context, req *controlplanev1.DeleteToolRequest) (*controlplanev1.DeleteToolResponse, error) {
	by, err := identity.From(ctx)
	if err != nil {
		return nil, err
	}
	version, err := s.service.Delete(ctx, by, req.GetName())
	if err != nil {
		return nil, err
	}
	return &controlplanev1.DeleteToolResponse{PolicySetVersion: version}, nil
}
