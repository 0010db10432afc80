package api

import (
	"context"

	"google.golang.org/grpc"

	brainv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/brain/v1"
)

// Judge is fulcrum.brain.v1.SemanticJudgeService, which is the policy engine's.
type Judge struct {
	brainv1.UnimplementedSemanticJudgeServiceServer
	engine brainv1.SemanticJudgeServiceClient
}

// NewJudge returns the service over its owner.
func NewJudge(policyEngine grpc.ClientConnInterface) *Judge {
	return &Judge{engine: brainv1.NewSemanticJudgeServiceClient(policyEngine)}
}

// EvaluateCondition implements SemanticJudgeService.
func (s *Judge) EvaluateCondition(ctx context.Context, req *brainv1.EvaluateConditionRequest) (*brainv1.EvaluateConditionResponse, error) {
	return s.engine.EvaluateCondition(ctx, req)
}

// ClassifyRisk implements SemanticJudgeService.
func (s *Judge) ClassifyRisk(ctx context.Context, req *brainv1.ClassifyRiskRequest) (*brainv1.ClassifyRiskResponse, error) {
	return s.engine.ClassifyRisk(ctx, req)
}

// DeriveIntent implements SemanticJudgeService.
func (s *Judge) DeriveIntent(ctx context.Context, req *brainv1.DeriveIntentRequest) (*brainv1.DeriveIntentResponse, error) {
	return s.engine.DeriveIntent(ctx, req)
}
