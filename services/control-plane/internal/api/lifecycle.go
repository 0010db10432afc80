package api

import (
	"context"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/pkg/identity"
	lifecyclev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policylifecycle/v1"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/exchange"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/page"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/policy"
)

// Lifecycle is the part of PolicyLifecycleService that stores something or asks
// the compiler; what looks at recorded decisions is the gateway's.
type Lifecycle struct {
	lifecyclev1.UnimplementedPolicyLifecycleServiceServer
	policies *policy.Service
	exchange *exchange.Service
}

// NewLifecycle returns Lifecycle over its parts.
func NewLifecycle(p *policy.Service, x *exchange.Service) *Lifecycle {
	return &Lifecycle{policies: p, exchange: x}
}

// named is who calls, and the policy they name; the zero UUID if they name none.
func named(ctx context.Context, policyID string) (by identity.Principal, u uuid.UUID, err error) {
	if by, err = identity.From(ctx); err != nil || policyID == "" {
		return by, u, err
	}
	u, err = id("policy_id", policyID)
	return by, u, err
}

// LintPolicy implements PolicyLifecycleServiceServer.
func (s *Lifecycle) LintPolicy(ctx context.Context, req *lifecyclev1.LintPolicyRequest) (*lifecyclev1.LintPolicyResponse, error) {
	by, u, err := named(ctx, req.GetPolicyId())
	if err != nil {
		return nil, err
	}
	return s.policies.Lint(ctx, by.Tenant, req.GetPolicy(), u, req.GetVersion())
}

// TestPolicy implements PolicyLifecycleServiceServer.
func (s *Lifecycle) TestPolicy(ctx context.Context, req *lifecyclev1.TestPolicyRequest) (*lifecyclev1.TestPolicyResponse, error) {
	by, u, err := named(ctx, req.GetPolicyId())
	if err != nil {
		return nil, err
	}
	return s.policies.Test(ctx, by.Tenant, req.GetPolicy(), u, req.GetVersion())
}

// CreatePolicyVersion implements PolicyLifecycleServiceServer.
func (s *Lifecycle) CreatePolicyVersion(ctx context.Context, req *lifecyclev1.CreatePolicyVersionRequest) (*lifecyclev1.CreatePolicyVersionResponse, error) {
	by, err := identity.From(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := id("policy.policy_id", req.GetPolicy().GetPolicyId()); err != nil {
		return nil, err
	}
	v, err := s.policies.AddVersion(ctx, by, req.GetPolicy(), req.GetUpdateMask())
	if err != nil {
		return nil, err
	}
	return &lifecyclev1.CreatePolicyVersionResponse{Version: v}, nil
}

// ListPolicyVersions implements PolicyLifecycleServiceServer.
func (s *Lifecycle) ListPolicyVersions(ctx context.Context, req *lifecyclev1.ListPolicyVersionsRequest) (*lifecyclev1.ListPolicyVersionsResponse, error) {
	by, u, err := named(ctx, req.GetPolicyId())
	if err != nil {
		return nil, err
	}
	list, before, size, err := below(by.Tenant, "policy_versions", req.GetPolicyId(), req.GetPageToken(), req.GetPageSize())
	if err != nil {
		return nil, err
	}
	all, err := s.policies.Versions(ctx, by.Tenant, u, before, size+1)
	if err != nil {
		return nil, err
	}
	all, next, err := page.Cut(list, all, size, func(v *lifecyclev1.PolicyVersion) any { return v.GetPolicy().GetVersion() })
	if err != nil {
		return nil, err
	}
	return &lifecyclev1.ListPolicyVersionsResponse{Versions: all, NextPageToken: next}, nil
}

// below reads where a page of a policy's past begins: below a number, 0 being the
// newest.
func below(tenant uuid.UUID, kind, policyID, token string, asked int32) (list page.List, before int64, size int, err error) {
	list = page.List{Tenant: tenant, Kind: kind, Filter: []string{policyID}}
	if size, err = page.Size(asked); err != nil {
		return list, 0, 0, err
	}
	_, err = page.Read(list, token, &before)
	return list, before, size, err
}

// GetPolicyVersion implements PolicyLifecycleServiceServer.
func (s *Lifecycle) GetPolicyVersion(ctx context.Context, req *lifecyclev1.GetPolicyVersionRequest) (*lifecyclev1.GetPolicyVersionResponse, error) {
	by, u, err := named(ctx, req.GetPolicyId())
	if err != nil {
		return nil, err
	}
	v, err := s.policies.Version(ctx, by.Tenant, u, max(1, req.GetVersion()))
	if err != nil {
		return nil, err
	}
	return &lifecyclev1.GetPolicyVersionResponse{Version: v}, nil
}

// ActivatePolicy implements PolicyLifecycleServiceServer.
func (s *Lifecycle) ActivatePolicy(ctx context.Context, req *lifecyclev1.ActivatePolicyRequest) (*lifecyclev1.ActivatePolicyResponse, error) {
	by, _, err := named(ctx, req.GetPolicyId())
	if err != nil {
		return nil, err
	}
	return s.policies.Activate(ctx, by, req)
}

// RollBackPolicy implements PolicyLifecycleServiceServer.
func (s *Lifecycle) RollBackPolicy(ctx context.Context, req *lifecyclev1.RollBackPolicyRequest) (*lifecyclev1.RollBackPolicyResponse, error) {
	by, _, err := named(ctx, req.GetPolicyId())
	if err != nil {
		return nil, err
	}
	return s.policies.RollBack(ctx, by, req)
}

// ListPolicyActivations implements PolicyLifecycleServiceServer.
func (s *Lifecycle) ListPolicyActivations(ctx context.Context, req *lifecyclev1.ListPolicyActivationsRequest) (*lifecyclev1.ListPolicyActivationsResponse, error) {
	by, u, err := named(ctx, req.GetPolicyId())
	if err != nil {
		return nil, err
	}
	list, before, size, err := below(by.Tenant, "policy_activations", req.GetPolicyId(), req.GetPageToken(), req.GetPageSize())
	if err != nil {
		return nil, err
	}
	all, err := s.policies.Activations(ctx, by.Tenant, u, before, size+1)
	if err != nil {
		return nil, err
	}
	all, next, err := page.Cut(list, all, size, func(a policy.Activation) any { return a.Revision })
	if err != nil {
		return nil, err
	}
	out := &lifecyclev1.ListPolicyActivationsResponse{NextPageToken: next}
	for _, a := range all {
		out.Activations = append(out.Activations, a.Entry)
	}
	return out, nil
}

// StartPolicyShadow implements PolicyLifecycleServiceServer.
func (s *Lifecycle) StartPolicyShadow(ctx context.Context, req *lifecyclev1.StartPolicyShadowRequest) (*lifecyclev1.StartPolicyShadowResponse, error) {
	by, _, err := named(ctx, req.GetPolicyId())
	if err != nil {
		return nil, err
	}
	shadow, set, err := s.policies.StartShadow(ctx, by, req)
	if err != nil {
		return nil, err
	}
	return &lifecyclev1.StartPolicyShadowResponse{Shadow: shadow, PolicySetVersion: set}, nil
}

// StopPolicyShadow implements PolicyLifecycleServiceServer.
func (s *Lifecycle) StopPolicyShadow(ctx context.Context, req *lifecyclev1.StopPolicyShadowRequest) (*lifecyclev1.StopPolicyShadowResponse, error) {
	by, u, err := named(ctx, req.GetPolicyId())
	if err != nil {
		return nil, err
	}
	stopped, err := s.policies.StopShadow(ctx, by, u)
	if err != nil {
		return nil, err
	}
	return &lifecyclev1.StopPolicyShadowResponse{Stopped: stopped}, nil
}

// ListPolicyShadows implements PolicyLifecycleServiceServer.
func (s *Lifecycle) ListPolicyShadows(ctx context.Context, req *lifecyclev1.ListPolicyShadowsRequest) (*lifecyclev1.ListPolicyShadowsResponse, error) {
	by, _, err := named(ctx, req.GetPolicyId())
	if err != nil {
		return nil, err
	}
	all, err := s.policies.Shadows(ctx, by.Tenant)
	if err != nil {
		return nil, err
	}
	out := &lifecyclev1.ListPolicyShadowsResponse{}
	for _, shadow := range all {
		if req.GetPolicyId() == "" || shadow.GetPolicyId() == req.GetPolicyId() {
			out.Shadows = append(out.Shadows, shadow)
		}
	}
	return out, nil
}

// ExportPolicies implements PolicyLifecycleServiceServer.
func (s *Lifecycle) ExportPolicies(ctx context.Context, req *lifecyclev1.ExportPoliciesRequest) (*lifecyclev1.ExportPoliciesResponse, error) {
	by, err := identity.From(ctx)
	if err != nil {
		return nil, err
	}
	return s.exchange.Export(ctx, by, req.GetPolicyIds())
}

// ImportPolicies implements PolicyLifecycleServiceServer.
func (s *Lifecycle) ImportPolicies(ctx context.Context, req *lifecyclev1.ImportPoliciesRequest) (*lifecyclev1.ImportPoliciesResponse, error) {
	by, err := identity.From(ctx)
	if err != nil {
		return nil, err
	}
	return s.exchange.Import(ctx, by, req)
}
