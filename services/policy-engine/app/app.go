// Package app puts the policy engine together.
package app

import (
	"context"
	"fmt"
	"runtime/debug"
	_ "time/tzdata" // rules speak of hours in the tenant's zone, wherever this runs

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/pkg/bus"
	"github.com/fulcrum-io/fulcrum/pkg/rpc"
	"github.com/fulcrum-io/fulcrum/pkg/service"
	brainv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/brain/v1"
	policyenginev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policyengine/v1"
	"github.com/fulcrum-io/fulcrum/services/policy-engine/internal/api"
	"github.com/fulcrum-io/fulcrum/services/policy-engine/internal/collector"
	"github.com/fulcrum-io/fulcrum/services/policy-engine/internal/jail"
	"github.com/fulcrum-io/fulcrum/services/policy-engine/internal/lastgood"
	"github.com/fulcrum-io/fulcrum/services/policy-engine/internal/outside"
	"github.com/fulcrum-io/fulcrum/services/policy-engine/internal/policy"
	"github.com/fulcrum-io/fulcrum/services/policy-engine/internal/postgres"
	"github.com/fulcrum-io/fulcrum/services/policy-engine/internal/sandbox"
	"github.com/fulcrum-io/fulcrum/services/policy-engine/internal/tenants"
)

// Run serves until ctx ends. What it opens it closes, last opened first. It
// starts and goes on without any store: tenants in memory are judged by what is
// there, others by the last good policies in Redis, and a tenant that is in
// neither is answered UNAVAILABLE.
func Run(ctx context.Context, env service.Env) error {
	var cfg Config
	sh, err := service.Open(ctx, env, "policy-engine", cfg.read)
	if err != nil {
		return err
	}
	defer sh.Close()
	collector.Relax(env.Getenv)

	d, err := db.Open(ctx, sh.Settings.Postgres, db.Options{
		Service: sh.Name, Log: sh.Log, MaxConns: cfg.MaxConns, StartWithoutServer: true,
	})
	if err != nil {
		return fmt.Errorf("open database: %w", err)
	}
	defer d.Close()

	b, err := bus.Connect(sh.Settings.NATS, sh.Name, sh.Log)
	if err != nil {
		return err
	}
	defer b.Close()

	shelf, closeShelf, err := openShelf(sh, cfg)
	if err != nil {
		return err
	}
	defer closeShelf()

	checks := jail.New(jail.Limits{})
	defer checks.Close()
	compiler := policy.NewCompiler(checks).WithBackends(cfg.Outside.Backends())
	table := tenants.New(postgres.NewBundles(d), shelf, compiler, cfg.Tenants, sh.Log)
	asker := outside.New(cfg.Outside, sh.Log)
	server, err := api.New(table, compiler, asker, sh.Telemetry.Meter("github.com/fulcrum-io/fulcrum/services/policy-engine"))
	if err != nil {
		return fmt.Errorf("create instruments: %w", err)
	}

	srv := sh.Server()
	policyenginev1.RegisterEvaluationServiceServer(srv.GRPC(), server)
	brainv1.RegisterSemanticJudgeServiceServer(srv.GRPC(), api.NewJudge(asker))

	return sh.Run(ctx, service.Plan{
		GRPC: srv, Addr: cfg.Addr,
		Workers: []service.Task{
			{Name: "last good policies", Run: table.Run},
			{Name: "memory", Run: func(ctx context.Context) error { return sandbox.WatchMemory(ctx, debug.SetMemoryLimit(-1)) }},
			{Name: "configuration", Run: func(ctx context.Context) error {
				return b.WatchConfig(ctx, "policies", table.Changed)
			}},
		},
		// No store is checked: without them the engine still judges.
		Checks: []rpc.Check{{Name: "evaluation", Do: func(context.Context) error { return healthy(compiler) }}},
	})
}

// maxStuck is how many evaluations may go on after they were stopped. Nothing
// ends them but a new process, so the instance asks for it.
const maxStuck = 2

func healthy(compiler *policy.Compiler) error {
	if n := sandbox.Stuck(); n >= maxStuck {
		return fmt.Errorf("%d evaluations cannot be stopped: this instance needs a restart", n)
	}
	if sandbox.Short() {
		return sandbox.ErrMemory
	}
	return compiler.SelfTest()
}

// openShelf returns where last good policies are kept: nowhere without a key,
// because nobody could tell them from forged ones.
func openShelf(sh *service.Shell, cfg Config) (tenants.Shelf, func(), error) {
	if cfg.BundleKey.IsZero() {
		return nil, func() {}, nil
	}
	client, err := sh.OpenRedis()
	if err != nil {
		return nil, nil, err
	}
	return lastgood.New(client, cfg.BundleKey), func() { _ = client.Close() }, nil
}
