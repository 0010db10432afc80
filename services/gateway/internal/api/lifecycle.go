package api

import (
	"context"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"

	"github.com/fulcrum-io/fulcrum/pkg/identity"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	policyenginev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policyengine/v1"
	lifecyclev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policylifecycle/v1"

	"github.com/fulcrum-io/fulcrum/services/gateway/internal/simulation"
)

// Lifecycle is fulcrum.policylifecycle.v1.PolicyLifecycleService: versions are
// the control plane's; what looks at recorded decisions is ours.
type Lifecycle struct {
	lifecyclev1.UnimplementedPolicyLifecycleServiceServer
	versions lifecyclev1.PolicyLifecycleServiceClient
	policies policyv1.PolicyServiceClient
	recorded simulation.Source
	engine   simulation.Engine
}

// NewLifecycle returns the service over its parts.
func NewLifecycle(controlPlane grpc.ClientConnInterface, recorded simulation.Source, engine simulation.Engine) *Lifecycle {
	return &Lifecycle{
		versions: lifecyclev1.NewPolicyLifecycleServiceClient(controlPlane), policies: policyv1.NewPolicyServiceClient(controlPlane),
		recorded: recorded, engine: engine,
	}
}

// SimulatePolicies implements PolicyLifecycleService.
func (s *Lifecycle) SimulatePolicies(req *lifecyclev1.SimulatePoliciesRequest, stream grpc.ServerStreamingServer[lifecyclev1.SimulatePoliciesResponse]) error {
	return s.Simulate(stream.Context(), req, stream.Send)
}

// Simulate is SimulatePolicies for any kind of stream.
func (s *Lifecycle) Simulate(ctx context.Context, req *lifecyclev1.SimulatePoliciesRequest, send func(*lifecyclev1.SimulatePoliciesResponse) error) error {
	tenant, err := identity.Tenant(ctx)
	if err != nil {
		return err
	}
	order := simulation.Order{
		Changes: &policyenginev1.SimulateChanges{Policies: req.GetPolicies(), Without: req.GetWithout()},
		Window:  simulation.Window{From: timeOf(req.GetStartTime()), To: timeOf(req.GetEndTime())},
		Max:     int(req.GetMaxDecisions()), Samples: int(req.GetSamples()),
	}
	if order.Window.From.IsZero() {
		order.Window.From = daysAgo(order.Window.To)
	}
	for _, ref := range req.GetVersions() {
		p, err := s.stored(ctx, ref)
		if err != nil {
			return err
		}
		order.Changes.Policies = append(order.Changes.Policies, p)
	}
	report, err := simulation.Run(ctx, tenant, s.recorded, s.engine, order, func(judged int64) error {
		return send(&lifecyclev1.SimulatePoliciesResponse{Judged: judged})
	})
	if err != nil {
		return err
	}
	return send(&lifecyclev1.SimulatePoliciesResponse{Judged: report.GetJudged(), Report: report})
}

// daysAgo is where a look at the past begins when the caller does not say.
func daysAgo(until time.Time) time.Time {
	if until.IsZero() {
		until = time.Now()
	}
	return until.AddDate(0, 0, -simulation.DefaultDays)
}

// stored is a version as the control plane has it.
func (s *Lifecycle) stored(ctx context.Context, ref *lifecyclev1.PolicyVersionRef) (*policyv1.Policy, error) {
	if ref.GetVersion() == 0 {
		resp, err := s.policies.GetPolicy(ctx, &policyv1.GetPolicyRequest{PolicyId: ref.GetPolicyId()})
		return resp.GetPolicy(), err
	}
	resp, err := s.versions.GetPolicyVersion(ctx, &lifecyclev1.GetPolicyVersionRequest{PolicyId: ref.GetPolicyId(), Version: ref.GetVersion()})
	return resp.GetVersion().GetPolicy(), err
}

// GetPolicyShadowReport implements PolicyLifecycleService.
func (s *Lifecycle) GetPolicyShadowReport(ctx context.Context, req *lifecyclev1.GetPolicyShadowReportRequest) (*lifecyclev1.GetPolicyShadowReportResponse, error) {
	tenant, err := identity.Tenant(ctx)
	if err != nil {
		return nil, err
	}
	id := uuid.MustParse(req.GetPolicyId())
	w := simulation.Window{From: timeOf(req.GetStartTime()), To: timeOf(req.GetEndTime()), Shadow: id.String()}
	if w.From.IsZero() {
		w.From = daysAgo(w.To)
	}
	report, err := simulation.Shadowed(ctx, tenant, s.recorded, w, req.GetVersion(), int(req.GetSamples()))
	if err != nil {
		return nil, err
	}
	return &lifecyclev1.GetPolicyShadowReportResponse{Report: report}, nil
}

// What follows belongs to the control plane.

// LintPolicy implements PolicyLifecycleService.
func (s *Lifecycle) LintPolicy(ctx context.Context, req *lifecyclev1.LintPolicyRequest) (*lifecyclev1.LintPolicyResponse, error) {
	return s.versions.LintPolicy(ctx, req)
}

// TestPolicy implements PolicyLifecycleService.
func (s *Lifecycle) TestPolicy(ctx context.Context, req *lifecyclev1.TestPolicyRequest) (*lifecyclev1.TestPolicyResponse, error) {
	return s.versions.TestPolicy(ctx, req)
}

// CreatePolicyVersion implements PolicyLifecycleService.
func (s *Lifecycle) CreatePolicyVersion(ctx context.Context, req *lifecyclev1.CreatePolicyVersionRequest) (*lifecyclev1.CreatePolicyVersionResponse, error) {
	return s.versions.CreatePolicyVersion(ctx, req)
}

// ListPolicyVersions implements PolicyLifecycleService.
func (s *Lifecycle) ListPolicyVersions(ctx context.Context, req *lifecyclev1.ListPolicyVersionsRequest) (*lifecyclev1.ListPolicyVersionsResponse, error) {
	return s.versions.ListPolicyVersions(ctx, req)
}

// GetPolicyVersion implements PolicyLifecycleService.
func (s *Lifecycle) GetPolicyVersion(ctx context.Context, req *lifecyclev1.GetPolicyVersionRequest) (*lifecyclev1.GetPolicyVersionResponse, error) {
	return s.versions.GetPolicyVersion(ctx, req)
}

// ActivatePolicy implements PolicyLifecycleService.
func (s *Lifecycle) ActivatePolicy(ctx context.Context, req *lifecyclev1.ActivatePolicyRequest) (*lifecyclev1.ActivatePolicyResponse, error) {
	return s.versions.ActivatePolicy(ctx, req)
}

// RollBackPolicy implements PolicyLifecycleService.
func (s *Lifecycle) RollBackPolicy(ctx context.Context, req *lifecyclev1.RollBackPolicyRequest) (*lifecyclev1.RollBackPolicyResponse, error) {
	return s.versions.RollBackPolicy(ctx, req)
}

// ListPolicyActivations implements PolicyLifecycleService.
func (s *Lifecycle) ListPolicyActivations(ctx context.Context, req *lifecyclev1.ListPolicyActivationsRequest) (*lifecyclev1.ListPolicyActivationsResponse, error) {
	return s.versions.ListPolicyActivations(ctx, req)
}

// StartPolicyShadow implements PolicyLifecycleService.
func (s *Lifecycle) StartPolicyShadow(ctx context.Context, req *lifecyclev1.StartPolicyShadowRequest) (*lifecyclev1.StartPolicyShadowResponse, error) {
	return s.versions.StartPolicyShadow(ctx, req)
}

// StopPolicyShadow implements PolicyLifecycleService.
func (s *Lifecycle) StopPolicyShadow(ctx context.Context, req *lifecyclev1.StopPolicyShadowRequest) (*lifecyclev1.StopPolicyShadowResponse, error) {
	return s.versions.StopPolicyShadow(ctx, req)
}

// ListPolicyShadows implements PolicyLifecycleService.
func (s *Lifecycle) ListPolicyShadows(ctx context.Context, req *lifecyclev1.ListPolicyShadowsRequest) (*lifecyclev1.ListPolicyShadowsResponse, error) {
	return s.versions.ListPolicyShadows(ctx, req)
}

// ExportPolicies implements PolicyLifecycleService.
func (s *Lifecycle) ExportPolicies(ctx context.Context, req *lifecyclev1.ExportPoliciesRequest) (*lifecyclev1.ExportPoliciesResponse, error) {
	return s.versions.ExportPolicies(ctx, req)
}

// ImportPolicies implements PolicyLifecycleService.
func (s *Lifecycle) ImportPolicies(ctx context.Context, req *lifecyclev1.ImportPoliciesRequest) (*lifecyclev1.ImportPoliciesResponse, error) {
	return s.versions.ImportPolicies(ctx, req)
}
