package api

import (
	"context"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/page"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/policy"
)

// Policies is the part of PolicyService that keeps policies.
type Policies struct {
	policyv1.UnimplementedPolicyServiceServer
	service *policy.Service
}

// NewPolicies returns Policies over s.
func NewPolicies(s *policy.Service) *Policies { return &Policies{service: s} }

// CreatePolicy implements policyv1.PolicyServiceServer.
func (s *Policies) CreatePolicy(ctx context.Context, req *policyv1.CreatePolicyRequest) (*policyv1.CreatePolicyResponse, error) {
	by, err := identity.From(ctx)
	if err != nil {
		return nil, err
	}
	key, err := once(ctx, policyv1.PolicyService_CreatePolicy_FullMethodName, req)
	if err != nil {
		return nil, err
	}
	if req.GetPolicy() == nil {
		return nil, fault.Field("policy", "is required")
	}
	status := req.GetPolicy().GetStatus()
	p := policy.Content(req.GetPolicy())
	p.Status = status
	p, err = s.service.Create(ctx, by, p, key)
	if err != nil {
		return nil, err
	}
	return &policyv1.CreatePolicyResponse{Policy: p}, nil
}

// GetPolicy implements policyv1.PolicyServiceServer.
func (s *Policies) GetPolicy(ctx context.Context, req *policyv1.GetPolicyRequest) (*policyv1.GetPolicyResponse, error) {
	by, err := identity.From(ctx)
	if err != nil {
		return nil, err
	}
	u, err := id("policy_id", req.GetPolicyId())
	if err != nil {
		return nil, err
	}
	p, err := s.service.Policy(ctx, by.Tenant, u)
	if err != nil {
		return nil, err
	}
	return &policyv1.GetPolicyResponse{Policy: p}, nil
}

// UpdatePolicy implements policyv1.PolicyServiceServer.
func (s *Policies) UpdatePolicy(ctx context.Context, req *policyv1.UpdatePolicyRequest) (*policyv1.UpdatePolicyResponse, error) {
	by, err := identity.From(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := id("policy.policy_id", req.GetPolicy().GetPolicyId()); err != nil {
		return nil, err
	}
	p, err := s.service.Update(ctx, by, req.GetPolicy(), req.GetUpdateMask())
	if err != nil {
		return nil, err
	}
	return &policyv1.UpdatePolicyResponse{Policy: p}, nil
}

// DeletePolicy implements policyv1.PolicyServiceServer.
func (s *Policies) DeletePolicy(ctx context.Context, req *policyv1.DeletePolicyRequest) (*policyv1.DeletePolicyResponse, error) {
	by, err := identity.From(ctx)
	if err != nil {
		return nil, err
	}
	u, err := id("policy_id", req.GetPolicyId())
	if err != nil {
		return nil, err
	}
	if err := s.service.Delete(ctx, by, u); err != nil {
		return nil, err
	}
	return &policyv1.DeletePolicyResponse{Success: true}, nil
}

// ListPolicies implements policyv1.PolicyServiceServer.
func (s *Policies) ListPolicies(ctx context.Context, req *policyv1.ListPoliciesRequest) (*policyv1.ListPoliciesResponse, error) {
	by, err := identity.From(ctx)
	if err != nil {
		return nil, err
	}
	size, err := page.Size(req.GetPageSize())
	if err != nil {
		return nil, err
	}
	list := page.List{Tenant: by.Tenant, Kind: "policies", Filter: []string{req.GetStatus().String(), req.GetRuleType().String()}}
	var after *policy.Position
	if _, err := page.Read(list, req.GetPageToken(), &after); err != nil {
		return nil, err
	}
	all, total, err := s.service.Policies(ctx, by.Tenant, policy.Filter{Status: req.GetStatus(), RuleType: req.GetRuleType()}, after, size+1)
	if err != nil {
		return nil, err
	}
	all, next, err := page.Cut(list, all, size, func(p *policyv1.Policy) any {
		return policy.Position{Priority: p.GetPriority(), ID: uuid.MustParse(p.GetPolicyId())}
	})
	if err != nil {
		return nil, err
	}
	return &policyv1.ListPoliciesResponse{Policies: all, NextPageToken: next, TotalCount: total}, nil
}
