package api_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/metric/noop"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	"github.com/fulcrum-io/fulcrum/pkg/rpc"
	configv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/config/v1"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	policyenginev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policyengine/v1"

	"github.com/fulcrum-io/fulcrum/services/policy-engine/internal/api"
	"github.com/fulcrum-io/fulcrum/services/policy-engine/internal/policy"
)

// one is Sets of a single tenant.
type one struct {
	set      *policy.Set
	degraded bool
	err      error
}

func (o one) Set(_ context.Context, _ uuid.UUID, atLeast int64) (*policy.Set, bool, error) {
	if o.err == nil && o.set.Version() < atLeast {
		return nil, false, fault.New(fault.Down, "not here yet")
	}
	return o.set, o.degraded, o.err
}

// serve returns a client of a server over sets.
func serve(t testing.TB, sets api.Sets) policyenginev1.EvaluationServiceClient {
	t.Helper()
	server, err := api.New(sets, policy.NewCompiler(nil), nil, noop.Meter{})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := rpc.NewServer(rpc.ServerOptions{Log: slog.New(slog.DiscardHandler)})
	policyenginev1.RegisterEvaluationServiceServer(srv.GRPC(), server)
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	stopped := make(chan error, 1)
	go func() { stopped <- rpc.Serve(ctx, srv, ln, time.Second) }()
	conn, err := rpc.Dial(ln.Addr().String(), rpc.DialOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		stop()
		if err := <-stopped; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return policyenginev1.NewEvaluationServiceClient(conn)
}

func compiled(t testing.TB, p ...*policyv1.Policy) *policy.Set {
	t.Helper()
	set, err := policy.NewCompiler(nil).Compile("t", &configv1.PolicyBundle{TenantId: "t", Version: 5, Policies: p})
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func caller(ctx context.Context) context.Context {
	return identity.With(ctx, identity.System(uuid.New()))
}

func TestEvaluateAnswersOrSaysWhyNot(t *testing.T) {
	t.Parallel()
	set := compiled(t, &policyv1.Policy{PolicyId: "p", Rules: []*policyv1.PolicyRule{{
		RuleId: "r", Enabled: true, Actions: []*policyv1.PolicyAction{{ActionType: policyv1.ActionType_ACTION_TYPE_DENY}},
	}}})
	facts := &policyenginev1.Facts{AgentId: "a"}
	for _, tt := range []struct {
		name string
		sets one
		ctx  context.Context
		req  *policyenginev1.EvaluateRequest
		want error
	}{
		{"a decision", one{set: set, degraded: true}, caller(t.Context()), &policyenginev1.EvaluateRequest{Facts: facts}, nil},
		{"nobody asks", one{set: set}, t.Context(), &policyenginev1.EvaluateRequest{Facts: facts}, fault.Unauthenticated},
		{"about nothing", one{set: set}, caller(t.Context()), &policyenginev1.EvaluateRequest{}, fault.Invalid},
		{"a policy that is not there", one{set: set}, caller(t.Context()), &policyenginev1.EvaluateRequest{Facts: facts, PolicyIds: []string{"x"}}, fault.NotFound},
		{"a version that is not there", one{set: set}, caller(t.Context()), &policyenginev1.EvaluateRequest{Facts: facts, AtLeastVersion: 6}, fault.Down},
		{"no policies to be had", one{err: fault.New(fault.Down, "away")}, caller(t.Context()), &policyenginev1.EvaluateRequest{Facts: facts}, fault.Down},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := serve(t, tt.sets).Evaluate(tt.ctx, tt.req)
			if tt.want != nil {
				if !errors.Is(rpc.FromStatus(err), tt.want) {
					t.Errorf("Evaluate: %v, want %v", err, tt.want)
				}
				return
			}
			if err != nil || got.GetDecision() != governancev1.Decision_DECISION_DENY || got.GetDegraded() != tt.sets.degraded || got.GetPolicySetVersion() != 5 {
				t.Errorf("Evaluate: %v, %v", got, err)
			}
		})
	}
}

// BenchmarkService is one decision over gRPC on loopback, both sides in this
// process: what is around the engine.
func BenchmarkService(b *testing.B) {
	client := serve(b, one{set: compiled(b, &policyv1.Policy{PolicyId: "p", Rules: []*policyv1.PolicyRule{{
		RuleId: "r", Enabled: true, Actions: []*policyv1.PolicyAction{{ActionType: policyv1.ActionType_ACTION_TYPE_DENY}},
		Conditions: []*policyv1.PolicyCondition{{Field: "tool.name", Value: &policyv1.PolicyCondition_StringValue{StringValue: "shell"}}},
	}}})})
	ctx := caller(b.Context())
	req := &policyenginev1.EvaluateRequest{Facts: &policyenginev1.Facts{
		AgentId: "a", Action: &governancev1.Action{Kind: governancev1.ActionKind_ACTION_KIND_TOOL_CALL, Name: "search"},
	}}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := client.Evaluate(ctx, req); err != nil {
				b.Error(err)
				return
			}
		}
	})
}
