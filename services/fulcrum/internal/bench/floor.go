package bench

import (
	"context"
	"fmt"
	"net"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/open-policy-agent/opa/v1/rego"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// commitFloor inserts one small row a call and waits for it to be durable.
type commitFloor struct{ pool *pgxpool.Pool }

func newCommitFloor(ctx context.Context, url string) (*commitFloor, error) {
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	cfg.MaxConns = 64
	pool, err := pgxpool.NewWithConfig(ctx, cfg) //nolint:forbidigo // a server of our own table, not of tenants
	if err != nil {
		return nil, err
	}
	if _, err := pool.Exec(ctx, `create table if not exists floor (at timestamptz not null default now())`); err != nil {
		pool.Close()
		return nil, fmt.Errorf("make floor table: %w", err)
	}
	return &commitFloor{pool}, nil
}

func (f *commitFloor) do(ctx context.Context) error {
	_, err := f.pool.Exec(ctx, `insert into floor default values`)
	return err
}

func (f *commitFloor) close() {
	_, _ = f.pool.Exec(context.Background(), `drop table floor`) // a leftover in our own scratch database
	f.pool.Close()
}

// echoFloor is a unary gRPC call over loopback to a server that does nothing.
type echoFloor struct {
	srv    *grpc.Server
	conn   *grpc.ClientConn
	client healthpb.HealthClient
}

func newEchoFloor() (*echoFloor, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	srv := grpc.NewServer() //nolint:forbidigo // the floor is a server without our interceptors
	healthpb.RegisterHealthServer(srv, health.NewServer())
	go func() { _ = srv.Serve(ln) }()
	conn, err := grpc.NewClient(ln.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		srv.Stop()
		return nil, err
	}
	return &echoFloor{srv, conn, healthpb.NewHealthClient(conn)}, nil
}

func (f *echoFloor) do(ctx context.Context) error {
	_, err := f.client.Check(ctx, &healthpb.HealthCheckRequest{})
	return err
}

func (f *echoFloor) close() { _ = f.conn.Close(); f.srv.Stop() }

// opaFloor evaluates a prepared query as a user of the library would write it,
// on rules like the demo's.
type opaFloor struct {
	query rego.PreparedEvalQuery
	input map[string]any
}

const opaModule = `package floor

import rego.v1

deny contains "destructive tool" if input.tool.name in {"delete_database", "drop_table"}

require_approval contains "refund" if {
	input.tool.name == "issue_refund"
	input.action.args.amount_usd > 100
}

warn contains "mail" if {
	input.tool.name == "send_email"
	not endswith(input.action.args.to, "@acme.example")
}
`

func newOPAFloor(ctx context.Context) (*opaFloor, error) {
	q, err := rego.New(rego.Query("data.floor"), rego.Module("floor.rego", opaModule)).PrepareForEval(ctx)
	return &opaFloor{q, map[string]any{
		"tool":   map[string]any{"name": "web_search"},
		"action": map[string]any{"kind": "TOOL_CALL", "name": "web_search", "args": map[string]any{"query": "quarterly results"}},
		"agent":  map[string]any{"id": "research-bot", "team": "growth"},
	}}, err
}

func (f *opaFloor) do(ctx context.Context) error {
	rs, err := f.query.Eval(ctx, rego.EvalInput(f.input))
	if err == nil && len(rs) != 1 {
		err = fmt.Errorf("%d results", len(rs))
	}
	return err
}
