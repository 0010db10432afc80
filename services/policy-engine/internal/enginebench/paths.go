package enginebench

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/open-policy-agent/opa/v1/rego"
	"go.opentelemetry.io/otel/metric/noop"
	"google.golang.org/protobuf/proto"

	"github.com/fulcrum-io/fulcrum/pkg/identity"
	"github.com/fulcrum-io/fulcrum/pkg/rpc"
	configv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/config/v1"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	policyenginev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policyengine/v1"

	"github.com/fulcrum-io/fulcrum/services/policy-engine/internal/api"
	"github.com/fulcrum-io/fulcrum/services/policy-engine/internal/policy"
	"github.com/fulcrum-io/fulcrum/services/policy-engine/internal/tenants"
	"github.com/fulcrum-io/fulcrum/services/policy-engine/internal/workload"
)

// library is OPA as most programs use it: a prepared query for each tenant, and
// the facts as a Go map.
type library struct {
	queries []rego.PreparedEvalQuery
	facts   map[string]any
	turn    atomic.Int64
}

func newLibrary(ctx context.Context, tenants int, text func(tenant int) string) (*library, error) {
	l := &library{facts: workload.Map()}
	for i := range tenants {
		q, err := rego.New(rego.Query("data.hand.deny"), rego.Module("hand.rego", text(i))).PrepareForEval(ctx)
		if err != nil {
			return nil, fmt.Errorf("prepare the library: %w", err)
		}
		l.queries = append(l.queries, q)
	}
	return l, nil
}

func (l *library) do(ctx context.Context) error {
	q := l.queries[int(l.turn.Add(1))%len(l.queries)]
	r, err := q.Eval(ctx, rego.EvalInput(l.facts))
	if err != nil || len(r) != 1 {
		return fmt.Errorf("library: %d results, %w", len(r), err)
	}
	return nil
}

// engine is the whole service over policies in memory: the table of tenants,
// the evaluation, and a gRPC server on loopback.
type engine struct {
	table   *tenants.Table
	tenants []uuid.UUID
	facts   *policyenginev1.Facts
	turn    atomic.Int64
	late    atomic.Int64 // decisions that ran into the deadline: the machine stood still
	client  policyenginev1.EvaluationServiceClient
	close   func()
}

// memory is a tenants.Source.
type memory map[uuid.UUID]tenants.Bundle

func (m memory) Load(_ context.Context, tenant uuid.UUID) (tenants.Bundle, error) {
	return m[tenant], nil
}

func (m memory) Version(_ context.Context, tenant uuid.UUID) (int64, error) {
	return m[tenant].Version, nil
}

func newEngine(ctx context.Context, n int, rules func(tenant int) []*policyv1.PolicyRule) (*engine, error) {
	return newEngineOf(ctx, n, func(id string, i int) *configv1.PolicyBundle { return workload.Bundle(id, 1, rules(i)) })
}

func newEngineOf(ctx context.Context, n int, bundle func(id string, tenant int) *configv1.PolicyBundle) (*engine, error) {
	source := memory{}
	compiler := policy.NewCompiler(nil)
	e := &engine{table: tenants.New(source, nil, compiler, n+1, slog.New(slog.DiscardHandler)), facts: workload.Call()}
	for i := range n {
		id := uuid.New()
		content, err := proto.Marshal(bundle(id.String(), i))
		if err != nil {
			return nil, err
		}
		source[id] = tenants.Bundle{Version: 1, Content: content}
		e.tenants = append(e.tenants, id)
		if _, _, err := e.table.Set(ctx, id, 0); err != nil {
			return nil, fmt.Errorf("prepare the engine: %w", err)
		}
	}
	server, err := api.New(e.table, compiler, nil, noop.Meter{})
	if err != nil {
		return nil, err
	}
	return e, e.serve(ctx, server)
}

func (e *engine) serve(ctx context.Context, server *api.Server) error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	srv := rpc.NewServer(rpc.ServerOptions{Log: slog.New(slog.DiscardHandler)})
	policyenginev1.RegisterEvaluationServiceServer(srv.GRPC(), server)
	ctx, stop := context.WithCancel(ctx)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		_ = rpc.Serve(ctx, srv, ln, time.Second) // a call then fails, and says so
	}()
	conn, err := rpc.Dial(ln.Addr().String(), rpc.DialOptions{})
	if err != nil {
		stop()
		return err
	}
	e.client = policyenginev1.NewEvaluationServiceClient(conn)
	e.close = func() {
		_ = conn.Close()
		stop()
		<-stopped
	}
	return nil
}

func (e *engine) next() uuid.UUID { return e.tenants[int(e.turn.Add(1))%len(e.tenants)] }

// direct decides in process.
func (e *engine) direct(ctx context.Context) error { return e.decide(ctx, e.next()) }

func (e *engine) decide(ctx context.Context, tenant uuid.UUID) error {
	set, _, err := e.table.Set(ctx, tenant, 0)
	if err != nil {
		return err
	}
	r, err := set.Evaluate(ctx, policy.Request{Facts: e.facts})
	return e.allowed(r, err)
}

// remote decides through gRPC; its caller's work counts as well.
func (e *engine) remote(ctx context.Context) error { return e.call(ctx, e.next()) }

func (e *engine) call(ctx context.Context, tenant uuid.UUID) error {
	r, err := e.client.Evaluate(identity.With(ctx, identity.System(tenant)), &policyenginev1.EvaluateRequest{Facts: e.facts})
	return e.allowed(r, err)
}

func (e *engine) allowed(r *policyenginev1.EvaluateResponse, err error) error {
	if err != nil {
		return fmt.Errorf("engine: %w", err)
	}
	switch d := r.GetDecision(); {
	case d != governancev1.Decision_DECISION_ALLOW && strings.Contains(r.GetReasons()[0].GetMessage(), policy.TookTooLong):
		e.late.Add(1)
	case d != governancev1.Decision_DECISION_ALLOW:
		return fmt.Errorf("engine: decided %s by %v", d, r.GetReasons())
	}
	return nil
}
