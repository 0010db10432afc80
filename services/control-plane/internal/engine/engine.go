// Package engine asks the policy-engine whether a policy compiles.
package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	policyenginev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policyengine/v1"
	lifecyclev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policylifecycle/v1"
)

// patience is how long a compilation may take before the caller is told to try
// again. Compiling is bounded on the other side too.
const patience = 5 * time.Second

// Engine judges policies by the one compiler that will run them.
type Engine struct {
	client policyenginev1.EvaluationServiceClient
}

// New returns an Engine that asks client.
func New(client policyenginev1.EvaluationServiceClient) *Engine { return &Engine{client: client} }

// Check returns nil if the policy compiles, an Invalid fault with the place of
// every error if it does not, and a Down fault if nobody can tell: a policy
// that no compiler has seen is never stored.
func (e *Engine) Check(ctx context.Context, p *policyv1.Policy) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	answer, err := e.client.Validate(ctx, &policyenginev1.ValidateRequest{Policy: p})
	if err != nil {
		return unanswered(ctx, err)
	}
	return refused(answer.GetProblems(), "policy", "POLICY_DOES_NOT_COMPILE")
}

// CheckTool returns nil if arguments can be checked by the schema, and fails as
// Check does.
func (e *Engine) CheckTool(ctx context.Context, schema string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	answer, err := e.client.ValidateTool(ctx, &policyenginev1.ValidateToolRequest{InputSchema: schema})
	if err != nil {
		return unanswered(ctx, err)
	}
	return refused(answer.GetProblems(), "tool", "TOOL_SCHEMA_UNUSABLE")
}

func refused(problems []*policyenginev1.Problem, resource, reason string) error {
	var wrong []fault.Violation
	for _, problem := range problems {
		if problem.GetSeverity() != policyenginev1.ProblemSeverity_PROBLEM_SEVERITY_WARNING {
			wrong = append(wrong, violation(resource, problem))
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	return fault.Fields(wrong...).WithReason(reason)
}

// testing is how long the tests of a policy may take, which the engine bounds by
// less.
const testing = 10 * time.Second

// Test runs p's tests, or returns a Down fault if nobody can.
func (e *Engine) Test(ctx context.Context, p *policyv1.Policy) (*lifecyclev1.TestPolicyResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, testing)
	defer cancel()
	answer, err := e.client.Test(ctx, &policyenginev1.TestRequest{Policy: p})
	if err != nil {
		return nil, unanswered(ctx, err)
	}
	return answer.GetReport(), nil
}

// Lint returns what the compiler and the checks say of p, and its Rego
// formatted; or a Down fault if nobody can tell.
func (e *Engine) Lint(ctx context.Context, p *policyv1.Policy) (*lifecyclev1.LintPolicyResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	answer, err := e.client.Validate(ctx, &policyenginev1.ValidateRequest{Policy: p, Format: true})
	if err != nil {
		return nil, unanswered(ctx, err)
	}
	out := &lifecyclev1.LintPolicyResponse{FormattedRego: answer.GetFormattedRego()}
	for _, problem := range answer.GetProblems() {
		out.Problems = append(out.Problems, &lifecyclev1.Problem{
			Check: problem.GetCheck(), Field: problem.GetField(), RuleId: problem.GetRuleId(), Line: problem.GetLine(), Column: problem.GetColumn(),
			Message: problem.GetMessage(), Severity: lifecyclev1.Severity(problem.GetSeverity()),
		})
	}
	return out, nil
}

// unanswered says what a failed question means to whoever wants to store a
// policy. Only what the engine says about the request itself is passed on.
func unanswered(ctx context.Context, err error) error {
	if errors.Is(err, fault.Invalid) || errors.Is(context.Cause(ctx), context.Canceled) {
		return err
	}
	return fault.New(fault.Down, "cannot ask the policy engine now").
		WithReason("POLICY_ENGINE_UNAVAILABLE").
		WithHint("Nothing was stored. Try again; enforcement goes on with the policies in force.").
		WithRetry(time.Second).WithCause(fmt.Errorf("ask the policy engine: %w", err))
}

func violation(resource string, p *policyenginev1.Problem) fault.Violation {
	v := fault.Violation{Field: resource, Description: p.GetMessage()}
	if p.GetField() != "" {
		v.Field += "." + p.GetField()
	}
	if p.GetLine() > 0 {
		v.Description = fmt.Sprintf("line %d, column %d: %s", p.GetLine(), p.GetColumn(), p.GetMessage())
	}
	return v
}
