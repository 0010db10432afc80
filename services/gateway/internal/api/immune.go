package api

import (
	"context"

	"google.golang.org/grpc"

	brainv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/brain/v1"
)

// Immune is fulcrum.brain.v1.ImmuneSystemService, which is the event
// processor's.
type Immune struct {
	brainv1.UnimplementedImmuneSystemServiceServer
	immune brainv1.ImmuneSystemServiceClient
}

// NewImmune returns the service over its owner.
func NewImmune(eventProcessor grpc.ClientConnInterface) *Immune {
	return &Immune{immune: brainv1.NewImmuneSystemServiceClient(eventProcessor)}
}

// ReportIncident implements ImmuneSystemService.
func (s *Immune) ReportIncident(ctx context.Context, req *brainv1.ReportIncidentRequest) (*brainv1.ReportIncidentResponse, error) {
	return s.immune.ReportIncident(ctx, req)
}

// ListIncidents implements ImmuneSystemService.
func (s *Immune) ListIncidents(ctx context.Context, req *brainv1.ListIncidentsRequest) (*brainv1.ListIncidentsResponse, error) {
	return s.immune.ListIncidents(ctx, req)
}

// GetAttackPatterns implements ImmuneSystemService.
func (s *Immune) GetAttackPatterns(ctx context.Context, req *brainv1.GetAttackPatternsRequest) (*brainv1.GetAttackPatternsResponse, error) {
	return s.immune.GetAttackPatterns(ctx, req)
}

// GetPendingPolicies implements ImmuneSystemService.
func (s *Immune) GetPendingPolicies(ctx context.Context, req *brainv1.GetPendingPoliciesRequest) (*brainv1.GetPendingPoliciesResponse, error) {
	return s.immune.GetPendingPolicies(ctx, req)
}

// ReviewGeneratedPolicy implements ImmuneSystemService.
func (s *Immune) ReviewGeneratedPolicy(ctx context.Context, req *brainv1.ReviewGeneratedPolicyRequest) (*brainv1.ReviewGeneratedPolicyResponse, error) {
	return s.immune.ReviewGeneratedPolicy(ctx, req)
}

// ListDetectors implements ImmuneSystemService.
func (s *Immune) ListDetectors(ctx context.Context, req *brainv1.ListDetectorsRequest) (*brainv1.ListDetectorsResponse, error) {
	return s.immune.ListDetectors(ctx, req)
}

// UpdateDetector implements ImmuneSystemService.
func (s *Immune) UpdateDetector(ctx context.Context, req *brainv1.UpdateDetectorRequest) (*brainv1.UpdateDetectorResponse, error) {
	return s.immune.UpdateDetector(ctx, req)
}
