package api

import (
	"context"

	"github.com/fulcrum-io/fulcrum/pkg/identity"
	policyenginev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policyengine/v1"
	lifecyclev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policylifecycle/v1"

	"github.com/fulcrum-io/fulcrum/services/policy-engine/internal/policy"
)

// Test implements EvaluationService. It needs the tenant's policies for their
// settings: the time zone, and what a failure means.
func (s *Server) Test(ctx context.Context, req *policyenginev1.TestRequest) (*policyenginev1.TestResponse, error) {
	tenant, err := identity.Tenant(ctx)
	if err != nil {
		return nil, err
	}
	set, _, err := s.sets.Set(ctx, tenant, 0)
	if err != nil {
		return nil, err
	}
	report, problems := set.Try(ctx, s.compiler, req.GetPolicy())
	if report == nil {
		report = &lifecyclev1.TestPolicyResponse{Problems: found(problems)}
	}
	return &policyenginev1.TestResponse{Report: report}, nil
}

func found(problems []policy.Problem) (out []*lifecyclev1.Problem) {
	for _, p := range problems {
		severity := lifecyclev1.Severity_SEVERITY_ERROR
		if p.Warning {
			severity = lifecyclev1.Severity_SEVERITY_WARNING
		}
		out = append(out, &lifecyclev1.Problem{
			Check: p.Check, Field: p.Field, RuleId: p.Rule, Line: int32(p.Line), Column: int32(p.Column), Message: p.Message, Severity: severity,
		})
	}
	return out
}

// shadow judges by the shadows, unless so many requests are at it that live
// decisions would suffer.
func (s *Server) shadow(ctx context.Context, set *policy.Set, req *policyenginev1.EvaluateRequest, answer *policyenginev1.EvaluateResponse) []*policyenginev1.ShadowOutcome {
	select {
	case s.shadowing <- struct{}{}:
		defer func() { <-s.shadowing }()
		return set.Shadow(ctx, req.GetSampleKey(), req.GetFacts(), answer)
	default:
		return nil
	}
}
