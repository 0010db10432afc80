package engine_test

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	policyenginev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policyengine/v1"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/engine"
)

// client answers every Validate alike.
type client struct {
	policyenginev1.EvaluationServiceClient
	problems []*policyenginev1.Problem
	err      error
}

func (c client) Validate(context.Context, *policyenginev1.ValidateRequest, ...grpc.CallOption) (*policyenginev1.ValidateResponse, error) {
	return &policyenginev1.ValidateResponse{Problems: c.problems}, c.err
}

func problem(field string, line, column int32, text string, severity policyenginev1.ProblemSeverity) *policyenginev1.Problem {
	return &policyenginev1.Problem{Field: field, Line: line, Column: column, Message: text, Severity: severity}
}

func TestProblemsBecomeViolations(t *testing.T) {
	t.Parallel()
	const warn, bad, unknown = policyenginev1.ProblemSeverity_PROBLEM_SEVERITY_WARNING,
		policyenginev1.ProblemSeverity_PROBLEM_SEVERITY_ERROR, policyenginev1.ProblemSeverity_PROBLEM_SEVERITY_UNSPECIFIED
	for _, tt := range []struct {
		name     string
		problems []*policyenginev1.Problem
		want     []fault.Violation
	}{
		{"none", nil, nil},
		{"a warning is no reason", []*policyenginev1.Problem{problem("rego", 1, 1, "unused", warn)}, nil},
		{"a place in Rego", []*policyenginev1.Problem{problem("rego", 3, 7, "no such function", bad)},
			[]fault.Violation{{Field: "policy.rego", Description: "line 3, column 7: no such function"}}},
		{"a place in rules", []*policyenginev1.Problem{problem("rules[2].conditions[0].field", 0, 0, "unknown field", bad)},
			[]fault.Violation{{Field: "policy.rules[2].conditions[0].field", Description: "unknown field"}}},
		{"what nobody graded counts", []*policyenginev1.Problem{problem("", 0, 0, "odd", unknown), problem("rego", 0, 0, "x", warn)},
			[]fault.Violation{{Field: "policy", Description: "odd"}}},
	} {
		err := engine.New(client{problems: tt.problems}).Check(t.Context(), &policyv1.Policy{})
		f, _ := fault.As(err)
		if tt.want == nil {
			if err != nil {
				t.Errorf("%s: %v", tt.name, err)
			}
			continue
		}
		if f == nil || f.Kind != fault.Invalid || !cmp.Equal(f.Violations, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
}

// Only what the engine says about the request is passed on; of everything else
// the caller learns that nobody could tell.
func TestNoAnswerIsNoPermission(t *testing.T) {
	t.Parallel()
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, tt := range []struct {
		name string
		ctx  context.Context
		err  error
		want error
	}{
		{"away", t.Context(), fault.New(fault.Down, "nobody there"), fault.Down},
		{"slow", t.Context(), fault.New(fault.Deadline, "too slow"), fault.Down},
		{"broken", t.Context(), errors.New("peer answered Internal"), fault.Down},
		{"refused as malformed", t.Context(), fault.Field("policy.rules[0].name", "is too long"), fault.Invalid},
		{"the caller has gone", canceled, context.Canceled, context.Canceled},
	} {
		if err := engine.New(client{err: tt.err}).Check(tt.ctx, &policyv1.Policy{}); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
}
