package api

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	brainv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/brain/v1"
	"github.com/fulcrum-io/fulcrum/services/policy-engine/internal/outside"
	"github.com/fulcrum-io/fulcrum/services/policy-engine/internal/policy"
)

// Model answers questions of people. Its errors are faults.
type Model interface {
	Judge(ctx context.Context, tenant uuid.UUID, q policy.Asked) (outside.Judgement, error)
	Rate(ctx context.Context, tenant uuid.UUID, a outside.Action) (outside.Risk, error)
	Derive(ctx context.Context, tenant uuid.UUID, signature string, indicators []string) (outside.Intent, error)
}

// Judge is the published SemanticJudgeService. What it says decides nothing.
type Judge struct {
	brainv1.UnimplementedSemanticJudgeServiceServer
	model Model
}

// NewJudge returns a Judge that asks m.
func NewJudge(m Model) *Judge { return &Judge{model: m} }

// EvaluateCondition implements SemanticJudgeService.
func (s *Judge) EvaluateCondition(ctx context.Context, req *brainv1.EvaluateConditionRequest) (*brainv1.EvaluateConditionResponse, error) {
	began := time.Now()
	tenant, err := caller(ctx, req.GetTenantId(), req.GetContext().GetTenantId())
	if err != nil {
		return nil, err
	}
	q, err := policy.SemanticQuestion(tenant, req.GetCondition(), req.GetContext())
	if err != nil {
		return nil, fault.Field("condition", "%s", err)
	}
	method := brainv1.EvaluationMethod_EVALUATION_METHOD_LLM
	j, err := s.model.Judge(ctx, tenant, q)
	if err != nil && req.GetFallbackEnabled() && ctx.Err() == nil && !fault.Is(err, fault.Invalid) {
		method, j, err = brainv1.EvaluationMethod_EVALUATION_METHOD_DETERMINISTIC_FALLBACK, outside.Plain(q.Intent, q.Text, q.Threshold), nil
	}
	if err != nil {
		return nil, err
	}
	return &brainv1.EvaluateConditionResponse{
		Matches: j.Match != req.GetCondition().GetNegate(), Reason: j.Reason, Method: method, Confidence: j.Confidence, LatencyMs: time.Since(began).Milliseconds(),
	}, nil
}

// ClassifyRisk implements SemanticJudgeService.
func (s *Judge) ClassifyRisk(ctx context.Context, req *brainv1.ClassifyRiskRequest) (*brainv1.ClassifyRiskResponse, error) {
	began := time.Now()
	tenant, err := caller(ctx, req.GetTenantId())
	if err != nil {
		return nil, err
	}
	if req.GetToolName() == "" && req.GetAction() == "" {
		return nil, fault.Field("tool_name", "must name a tool, or action say what is done")
	}
	r, err := s.model.Rate(ctx, tenant, outside.Action{
		Tool: req.GetToolName(), Action: req.GetAction(), Parameters: req.GetParameters(), Description: req.GetContextDescription(),
	})
	if err != nil {
		return nil, err
	}
	return &brainv1.ClassifyRiskResponse{
		RiskLevel: brainv1.RiskLevel(brainv1.RiskLevel_value["RISK_LEVEL_"+r.Level]), Reasoning: r.Reasoning, RiskFactors: r.Factors,
		Confidence: r.Confidence, LatencyMs: time.Since(began).Milliseconds(),
	}, nil
}

// DeriveIntent implements SemanticJudgeService.
func (s *Judge) DeriveIntent(ctx context.Context, req *brainv1.DeriveIntentRequest) (*brainv1.DeriveIntentResponse, error) {
	began := time.Now()
	tenant, err := caller(ctx, req.GetTenantId())
	if err != nil {
		return nil, err
	}
	if req.GetPatternSignature() == "" && len(req.GetIndicators()) == 0 {
		return nil, fault.Field("pattern_signature", "must not be empty where there are no indicators")
	}
	in, err := s.model.Derive(ctx, tenant, req.GetPatternSignature(), req.GetIndicators())
	if err != nil {
		return nil, err
	}
	return &brainv1.DeriveIntentResponse{Intent: in.Text, Confidence: in.Confidence, LatencyMs: time.Since(began).Milliseconds()}, nil
}

// caller returns whose question it is. A request may repeat the tenant and may
// not name another.
func caller(ctx context.Context, named ...string) (uuid.UUID, error) {
	p, err := identity.Allowed(ctx, "policy:read")
	if err != nil {
		return uuid.Nil, err
	}
	for _, name := range named {
		if id, err := uuid.Parse(name); name != "" && (err != nil || id != p.Tenant) {
			return uuid.Nil, fault.New(fault.Denied, "tenant_id is not the tenant of this credential").
				WithReason("TENANT_MISMATCH").WithViolation("tenant_id", "is not the tenant of this credential").
				WithHint("Leave tenant_id out: the credential names the tenant.")
		}
	}
	return p.Tenant, nil
}
