// Package api serves fulcrum.policyengine.v1.EvaluationService.
package api

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	policyenginev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policyengine/v1"
	"github.com/fulcrum-io/fulcrum/services/policy-engine/internal/policy"
)

// Sets are the tenants' policies. Set fails with a fault when none of at least
// that version can be had.
type Sets interface {
	Set(ctx context.Context, tenant uuid.UUID, atLeast int64) (set *policy.Set, degraded bool, err error)
}

// Outside answers questions that others must be asked. What it cannot find out
// in time it leaves out.
type Outside interface {
	Ask(ctx context.Context, tenant uuid.UUID, questions []policy.Asked) policy.Answers
}

// Server implements EvaluationService.
type Server struct {
	policyenginev1.UnimplementedEvaluationServiceServer
	sets     Sets
	compiler *policy.Compiler
	outside  Outside

	shadowing   chan struct{} // one for each request whose shadows may be judged at once
	simulations simulations

	evaluations metric.Int64Counter
	latency     metric.Float64Histogram
	decisions   map[governancev1.Decision]metric.MeasurementOption
}

// New returns a Server that counts with m. A nil outside answers nothing.
func New(sets Sets, compiler *policy.Compiler, outside Outside, m metric.Meter) (*Server, error) {
	s := &Server{
		sets: sets, compiler: compiler, outside: outside,
		shadowing:   make(chan struct{}, max(2, runtime.GOMAXPROCS(0))),
		simulations: simulations{slots: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)), running: map[uuid.UUID]bool{}},
		decisions:   map[governancev1.Decision]metric.MeasurementOption{},
	}
	var err1, err2 error
	s.evaluations, err1 = m.Int64Counter("fulcrum_policy_evaluations_total", metric.WithDescription("Evaluations by decision."))
	s.latency, err2 = m.Float64Histogram("fulcrum_policy_latency_seconds", metric.WithUnit("s"), metric.WithDescription("Time to judge one request."))
	for n, name := range governancev1.Decision_name {
		s.decisions[governancev1.Decision(n)] = metric.WithAttributeSet(attribute.NewSet(
			attribute.String("decision", strings.TrimPrefix(name, "DECISION_"))))
	}
	return s, errors.Join(err1, err2)
}

// Evaluate implements EvaluationService.
func (s *Server) Evaluate(ctx context.Context, req *policyenginev1.EvaluateRequest) (*policyenginev1.EvaluateResponse, error) {
	began := time.Now()
	tenant, err := identity.Tenant(ctx)
	if err != nil {
		return nil, err
	}
	set, degraded, err := s.sets.Set(ctx, tenant, req.GetAtLeastVersion())
	if err != nil {
		return nil, err
	}
	question := policy.Request{Facts: req.GetFacts(), Only: req.GetPolicyIds(), StopOnDeny: req.GetStopOnDeny()}
	if s.outside != nil {
		if asked := set.Questions(question); len(asked) > 0 {
			question.Answers = s.outside.Ask(ctx, tenant, asked)
		}
	}
	answer, err := set.Evaluate(ctx, question)
	if err != nil {
		return nil, asFault(err)
	}
	answer.Degraded = degraded
	if id := req.GetSampleKey(); id != "" && set.Sampled(id) {
		answer.Shadows = s.shadow(ctx, set, req, answer)
	}
	s.evaluations.Add(ctx, 1, s.decisions[answer.GetDecision()])
	s.latency.Record(ctx, time.Since(began).Seconds())
	return answer, nil
}

func asFault(err error) error {
	var unknown *policy.UnknownPolicyError
	if errors.As(err, &unknown) {
		return fault.New(fault.NotFound, "there is no active policy %q", unknown.ID)
	}
	return fmt.Errorf("evaluate: %w", err)
}

// Validate implements EvaluationService.
func (s *Server) Validate(ctx context.Context, req *policyenginev1.ValidateRequest) (*policyenginev1.ValidateResponse, error) {
	if _, err := identity.From(ctx); err != nil {
		return nil, err
	}
	out := &policyenginev1.ValidateResponse{Problems: onTheWire(s.compiler.Validate(req.GetPolicy()))}
	if req.GetFormat() {
		out.FormattedRego = policy.Format(req.GetPolicy().GetRego())
	}
	return out, nil
}

// ValidateTool implements EvaluationService.
func (s *Server) ValidateTool(ctx context.Context, req *policyenginev1.ValidateToolRequest) (*policyenginev1.ValidateToolResponse, error) {
	if _, err := identity.From(ctx); err != nil {
		return nil, err
	}
	return &policyenginev1.ValidateToolResponse{Problems: onTheWire(s.compiler.ValidateTool(req.GetInputSchema()))}, nil
}

func onTheWire(found []policy.Problem) (out []*policyenginev1.Problem) {
	for _, p := range found {
		severity := policyenginev1.ProblemSeverity_PROBLEM_SEVERITY_ERROR
		if p.Warning {
			severity = policyenginev1.ProblemSeverity_PROBLEM_SEVERITY_WARNING
		}
		out = append(out, &policyenginev1.Problem{
			Field: p.Field, Line: int32(p.Line), Column: int32(p.Column), Message: p.Message, Severity: severity,
			Check: p.Check, RuleId: p.Rule,
		})
	}
	return out
}
