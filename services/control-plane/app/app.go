// Package app puts the control plane together.
package app

import (
	"context"
	"fmt"

	"google.golang.org/grpc"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/pkg/bus"
	"github.com/fulcrum-io/fulcrum/pkg/outbox"
	"github.com/fulcrum-io/fulcrum/pkg/rpc"
	"github.com/fulcrum-io/fulcrum/pkg/service"
	policyenginev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policyengine/v1"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/access"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/agent"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/api"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/budget"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/engine"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/exchange"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/keys"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/policy"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/postgres"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/price"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/tenant"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/tool"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/wallet"
)

// Run serves until ctx ends. What it opens it closes, last opened first. NATS
// and the policy-engine may be away: changes then wait in the outbox, and
// policies cannot be changed.
func Run(ctx context.Context, env service.Env) error {
	var cfg Config
	sh, err := service.Open(ctx, env, "control-plane", cfg.read)
	if err != nil {
		return err
	}
	defer sh.Close()

	d, err := db.Open(ctx, sh.Settings.Postgres, db.Options{Service: sh.Name, Log: sh.Log, MaxConns: cfg.MaxConns, Tracer: sh.Telemetry.Postgres()})
	if err != nil {
		return fmt.Errorf("open database: %w", err)
	}
	defer d.Close()

	b, err := bus.Connect(sh.Settings.NATS, sh.Name, sh.Log)
	if err != nil {
		return err
	}
	defer b.Close()

	conn, err := sh.Dial(cfg.PolicyEngine)
	if err != nil {
		return err
	}
	defer conn.Close()

	relay := outbox.NewRelay(d, b, sh.Log)
	relay.Meter = sh.Telemetry.MeterProvider()
	store := postgres.New(d, relay.Nudge)
	judge := engine.New(policyenginev1.NewEvaluationServiceClient(conn))
	rules := policy.New(store, judge)
	exchanged, err := exchange.New(rules, cfg.SigningKey.Reveal(), cfg.TrustedKeys)
	if err != nil {
		return fmt.Errorf("keys for policies: %w", err)
	}
	srv := rpc.NewServer(rpc.ServerOptions{
		Log: sh.Log, InternalToken: sh.Settings.InternalToken, Telemetry: sh.Telemetry,
		Unary: []grpc.UnaryServerInterceptor{access.Unary}, Stream: []grpc.StreamServerInterceptor{access.Stream},
	})
	api.Register(srv.GRPC(), api.Services{
		Policies: rules,
		Exchange: exchanged,
		Budgets:  budget.New(store),
		Prices:   price.New(store),
		Keys:     keys.New(store, cfg.Pepper, int16(cfg.PepperVersion)),
		Agents:   agent.New(store),
		Tenants:  tenant.New(store),
		Wallets:  wallet.New(store),
		Tools:    tool.New(store, judge),
	})

	return sh.Run(ctx, service.Plan{
		GRPC: srv, Addr: cfg.Addr,
		Workers: []service.Task{{Name: "outbox relay", Run: relay.Run}},
		Checks:  []rpc.Check{{Name: "postgres", Do: d.Ping}},
	})
}
