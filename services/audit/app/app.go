// Package app puts the audit service together.
package app

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/pkg/bus"
	"github.com/fulcrum-io/fulcrum/pkg/outbox"
	"github.com/fulcrum-io/fulcrum/pkg/rpc"
	"github.com/fulcrum-io/fulcrum/pkg/service"
	auditv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/audit/v1"
	"github.com/fulcrum-io/fulcrum/services/audit/internal/api"
	"github.com/fulcrum-io/fulcrum/services/audit/internal/events"
	"github.com/fulcrum-io/fulcrum/services/audit/internal/leaf"
	"github.com/fulcrum-io/fulcrum/services/audit/internal/postgres"
	"github.com/fulcrum-io/fulcrum/services/audit/internal/trail"
)

// Run serves until ctx ends. What it opens it closes, last opened first. NATS
// may be away: events then wait in the outbox, and proofs are still answered.
func Run(ctx context.Context, env service.Env) error {
	var cfg Config
	sh, err := service.Open(ctx, env, "audit", cfg.read)
	if err != nil {
		return err
	}
	defer sh.Close()

	signer, err := trail.NewSigner(cfg.Key)
	if err != nil {
		return fmt.Errorf("FULCRUM_AUDIT_KEY: %w", err)
	}
	d, err := db.Open(ctx, sh.Settings.Postgres, db.Options{Service: sh.Name, Log: sh.Log, MaxConns: cfg.MaxConns, Tracer: sh.Telemetry.Postgres()})
	if err != nil {
		return fmt.Errorf("open database: %w", err)
	}
	defer d.Close()
	if err := sh.Telemetry.Pool(d); err != nil {
		return fmt.Errorf("measure database pool: %w", err)
	}

	b, err := bus.Connect(sh.Settings.NATS, sh.Name, sh.Log)
	if err != nil {
		return err
	}
	defer b.Close()

	told, err := newMetrics(sh.Telemetry)
	if err != nil {
		return err
	}
	log := trail.New(postgres.New(d), signer, salt, told)
	srv := sh.Server()
	auditv1.RegisterAuditServiceServer(srv.GRPC(), api.New(log))

	consumer := bus.Consumer{Durable: postgres.Consumer, Handle: events.Handler(log, sh.Log), Bury: outbox.Bury(d), Meter: sh.Telemetry.MeterProvider(),
		// A batch costs a commit and a signature per tenant, whatever its size.
		Linger: 100 * time.Millisecond}
	return sh.Run(ctx, service.Plan{
		GRPC: srv, Addr: cfg.Addr,
		Workers: []service.Task{
			{Name: "consumer", Run: func(ctx context.Context) error { return b.Consume(ctx, consumer) }},
			{Name: "signer", Run: func(ctx context.Context) error { return log.SignPeriodically(ctx, cfg.SignEvery, sh.Log) }},
		},
		Checks: []rpc.Check{{Name: "postgres", Do: d.Ping}, {Name: "nats", Do: b.Ping}},
	})
}

func salt() []byte {
	b := make([]byte, leaf.SaltSize)
	_, _ = rand.Read(b) // never fails: crypto/rand crashes the program instead
	return b
}
