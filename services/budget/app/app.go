// Package app puts the budget service together.
package app

import (
	"context"
	"fmt"
	_ "time/tzdata" // windows begin by the clocks of tenants, wherever this runs

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/pkg/bus"
	"github.com/fulcrum-io/fulcrum/pkg/outbox"
	"github.com/fulcrum-io/fulcrum/pkg/rpc"
	"github.com/fulcrum-io/fulcrum/pkg/service"
	"github.com/fulcrum-io/fulcrum/pkg/vault"
	brainv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/brain/v1"
	budgetv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/budget/v1"
	costv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/cost/v1"
	ledgerv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/ledger/v1"
	pricingv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/pricing/v1"
	walletv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/wallet/v1"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/api"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/events"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/lane"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/ledger"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/metrics"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/oracle"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/postgres"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/rerate"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/upkeep"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/wallet"
)

// Run serves until ctx ends. What it opens it closes, last opened first. NATS
// may be away: configuration is then seen through Postgres, and events wait in
// the outbox. While Postgres is away every call fails as unavailable, and the
// caller, who must not act without a hold, fails closed.
func Run(ctx context.Context, env service.Env) error {
	upkeep.PaceCollector()
	var cfg Config
	sh, err := service.Open(ctx, env, "budget", cfg.read)
	if err != nil {
		return err
	}
	defer sh.Close()

	d, err := db.Open(ctx, sh.Settings.Postgres, db.Options{Service: sh.Name, Log: sh.Log, MaxConns: cfg.MaxConns})
	if err != nil {
		return fmt.Errorf("open database: %w", err)
	}
	defer d.Close()

	b, err := bus.Connect(sh.Settings.NATS, sh.Name, sh.Log)
	if err != nil {
		return err
	}
	defer b.Close()

	keep, err := vault.New("BUDGET_WALLET_KEK", cfg.KEK, cfg.OldKEK)
	if err != nil {
		return fmt.Errorf("BUDGET_WALLET_KEK: %w", err)
	}
	relay := outbox.NewRelay(d, b, sh.Log)
	catalogs := postgres.NewCatalogs(d, sh.Log)
	var line *lane.Lane
	measured, err := metrics.New(sh.Telemetry.Meter("github.com/fulcrum-io/fulcrum/services/budget"), func() int { return line.Len() })
	if err != nil {
		return fmt.Errorf("metrics: %w", err)
	}
	store := postgres.New(d, catalogs, postgres.Options{
		Outbox: outbox.Append, Encode: events.Encode, Plain: !cfg.Fast, Fast: measured.Fast,
		Committed: func(changed []*ledger.Window, events int) {
			measured.Observe(changed)
			if events > 0 {
				relay.Nudge() // it polls anyway; this spares the wait
			}
		},
	})
	line = lane.New(store, lane.Options{Lanes: cfg.Lanes, MaxBatch: cfg.MaxBatch, MaxQueue: cfg.MaxQueue, OnFlush: measured.Flushed})
	sweeper := &upkeep.Sweeper{Lane: line, Holds: store, Log: sh.Log, Every: cfg.Sweep, Swept: measured.Swept}
	checker := &upkeep.Checker{Counters: store, Log: sh.Log, Every: cfg.Check, Recount: cfg.Recount, Checked: measured.Checked}

	srv := sh.Server()
	budgetv1.RegisterLedgerServiceServer(srv.GRPC(), api.NewLedger(line, store, measured, sh.Log))
	costv1.RegisterCostServiceServer(srv.GRPC(), api.NewCosts(store))
	pricingv1.RegisterPriceServiceServer(srv.GRPC(), api.NewPrices(store, rerate.New(store, line)))
	brainv1.RegisterOracleServiceServer(srv.GRPC(), api.NewOracle(store, oracle.NewModels(store)))
	wallets := wallet.New(store, keep)
	walletv1.RegisterWalletServiceServer(srv.GRPC(), api.NewWallets(line, wallets))
	ledgerv1.RegisterBookkeepingServiceServer(srv.GRPC(), api.NewBooks(line, store))

	return sh.Run(ctx, service.Plan{
		GRPC: srv, Addr: cfg.Addr,
		Workers: []service.Task{
			{Name: "lane", Run: line.Run},
			{Name: "outbox relay", Run: relay.Run},
			{Name: "sweeper", Run: sweeper.Run},
			{Name: "checker", Run: checker.Run},
			{Name: "wallet keys", Run: func(ctx context.Context) error { return upkeep.Rewrap(ctx, wallets, sh.Log) }},
			{Name: "stalled batches", Run: func(ctx context.Context) error { return upkeep.Stalled(ctx, store, sh.Log) }},
			{Name: "partitions", Run: func(ctx context.Context) error { return upkeep.Partitions(ctx, store, sh.Log) }},
			{Name: "configuration", Run: func(ctx context.Context) error {
				return b.WatchConfig(ctx, "budgets", catalogs.Changed)
			}},
		},
		Checks: []rpc.Check{{Name: "postgres", Do: d.Ping}},
	})
}
