// Package app puts the gateway together.
package app

import (
	"context"
	"fmt"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/pkg/bus"
	"github.com/fulcrum-io/fulcrum/pkg/groupcommit"
	"github.com/fulcrum-io/fulcrum/pkg/outbox"
	"github.com/fulcrum-io/fulcrum/pkg/rpc"
	"github.com/fulcrum-io/fulcrum/pkg/service"
	costv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/cost/v1"
	eventstorev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/eventstore/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"

	"github.com/fulcrum-io/fulcrum/services/gateway/internal/api"
	"github.com/fulcrum-io/fulcrum/services/gateway/internal/credential"
	"github.com/fulcrum-io/fulcrum/services/gateway/internal/decision"
	"github.com/fulcrum-io/fulcrum/services/gateway/internal/door"
	"github.com/fulcrum-io/fulcrum/services/gateway/internal/extauthz"
	"github.com/fulcrum-io/fulcrum/services/gateway/internal/limit"
	"github.com/fulcrum-io/fulcrum/services/gateway/internal/metrics"
	"github.com/fulcrum-io/fulcrum/services/gateway/internal/peer"
	"github.com/fulcrum-io/fulcrum/services/gateway/internal/postgres"
	rediskeep "github.com/fulcrum-io/fulcrum/services/gateway/internal/redis"
	"github.com/fulcrum-io/fulcrum/services/gateway/internal/sweep"
	"github.com/fulcrum-io/fulcrum/services/gateway/internal/web"
)

// Run serves until ctx ends. What it opens it closes, last opened first. Redis
// and NATS may be away: keys are then looked up in Postgres, limits are local
// and conservative, events wait in the outbox. Without Postgres nothing can be
// recorded, so nothing is answered with yes.
func Run(ctx context.Context, env service.Env) error {
	var cfg Config
	sh, err := service.Open(ctx, env, "gateway", cfg.read)
	if err != nil {
		return err
	}
	defer sh.Close()

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

	cache, err := sh.OpenRedis()
	if err != nil {
		return err
	}
	defer cache.Close()

	peers, closePeers, err := dialAll(sh, cfg)
	if err != nil {
		return err
	}
	defer closePeers()

	measure, err := metrics.New(sh.Telemetry.Meter("github.com/fulcrum-io/fulcrum/services/gateway"))
	if err != nil {
		return fmt.Errorf("create instruments: %w", err)
	}

	relay := outbox.NewRelay(d, b, sh.Log)
	relay.Meter = sh.Telemetry.MeterProvider()
	store := postgres.New(d, relay.Nudge)
	recorder := postgres.NewRecorder(store, groupcommit.Options{
		MaxBatch: cfg.MaxBatch, MaxQueue: cfg.MaxQueue, Lanes: cfg.Lanes, OnFlush: measure.Flush,
	})
	ledger := peer.NewLedger(peers.budget)
	buckets := rediskeep.NewBuckets(cache)
	judge := peer.NewPolicies(peers.policyEngine)
	pipeline := &decision.Pipeline{
		Store: store, Recorder: recorder, Policies: judge, Ledger: ledger, Tenants: store,
		Memory: decision.NewMemory(cfg.Remember),
		Rates:  limit.NewRules(buckets, sh.Log), Observe: measure.Decision, Log: sh.Log,
	}
	sweeper := sweep.New(store, ledger, cfg.Sweep, sh.Log)
	notices := credential.NewNotices(store, sh.Log)
	keys := credential.New(credential.Options{
		Notices: notices, Keys: store, Cache: rediskeep.NewKeyCache(cache, cfg.Pepper, sh.Log), Peppers: cfg.Peppers, AdminKey: cfg.AdminKey, Log: sh.Log,
	})
	defer keys.Close()
	limits := limit.New(buckets, limit.Rates{PerKey: cfg.KeyRate, PerTenant: cfg.TenantRate}, sh.Log)
	defer limits.Close()
	guard := door.New(keys, limits, sh.Log)

	controlPlane, eventProcessor := peer.Forward(peers.controlPlane), peer.Forward(peers.eventProcessor)
	budget, audit := peer.Forward(peers.budget), peer.Forward(peers.audit)
	events := eventstorev1.NewEventStoreServiceClient(eventProcessor)
	services := api.Services{
		Governance: api.NewGovernance(pipeline, store, limits),
		Envelopes:  api.NewEnvelopes(pipeline, store, costv1.NewCostServiceClient(peers.budget), events, sweeper.Nudge),
		Policies:   api.NewPolicies(pipeline, store, policyv1.NewPolicyServiceClient(controlPlane)),
		Lifecycle:  api.NewLifecycle(controlPlane, store, judge),
		Events:     api.NewEvents(recorder, events, limits),
		Cost:       api.NewCost(controlPlane, budget, eventProcessor),
		Oracle:     api.NewOracle(budget),
		Prices:     api.NewPrices(controlPlane, budget),
		Tenant:     api.NewTenant(controlPlane),
		Agents:     api.NewAgents(controlPlane, eventProcessor),
		Audit:      api.NewAudit(audit),
		Wallets:    api.NewWallets(controlPlane, budget),
		Books:      api.NewBooks(budget),
		Admin:      api.NewAdmin(controlPlane),
		Tools:      api.NewTools(controlPlane),
		Immune:     api.NewImmune(eventProcessor),
		Webhooks:   api.NewWebhooks(eventProcessor),
		Judge:      api.NewJudge(peer.Forward(peers.policyEngine)),
	}
	srv := rpc.NewServer(rpc.ServerOptions{
		Log: sh.Log, Telemetry: sh.Telemetry, Authenticate: guard.Authenticate, Reflection: cfg.Reflection,
		Unary: []grpc.UnaryServerInterceptor{guard.Unary}, Stream: []grpc.StreamServerInterceptor{guard.Stream},
	})
	services.Register(srv.GRPC())
	authv3.RegisterAuthorizationServer(srv.GRPC(), extauthz.New(guard, services.Governance, checkAsked, sh.Log))

	vital := []rpc.Check{{Name: "postgres", Do: d.Ping}}
	useful := []rpc.Check{
		{Name: "redis", Do: func(ctx context.Context) error { return cache.Ping(ctx).Err() }},
		{Name: "nats", Do: b.Ping},
		{Name: "policy_engine", Do: peer.Serving(peers.policyEngine)},
		{Name: "budget", Do: peer.Serving(peers.budget)},
		{Name: "control_plane", Do: peer.Serving(peers.controlPlane)},
		{Name: "event_processor", Do: peer.Serving(peers.eventProcessor)},
		{Name: "audit", Do: peer.Serving(peers.audit)},
	}
	front, err := web.New(web.Options{
		Services: services, Guard: guard, Ledger: ledger, Log: sh.Log, Telemetry: sh.Telemetry, Origins: cfg.Origins, PublicURL: cfg.PublicURL,
		Version: sh.Version, Vital: vital, Useful: useful,
	})
	if err != nil {
		return err
	}
	ln, err := sh.Listen(ctx, cfg.HTTPAddr)
	if err != nil {
		return err
	}
	return sh.Run(ctx, service.Plan{
		GRPC: srv, Addr: cfg.GRPCAddr,
		Fronts: []service.Task{{Name: "http", Run: func(ctx context.Context) error {
			return rpc.ServeHTTP(ctx, front, ln, sh.Settings.Drain)
		}}},
		Workers: []service.Task{
			{Name: "recorder", Run: recorder.Run},
			{Name: "outbox relay", Run: relay.Run},
			{Name: "sweeper", Run: sweeper.Run},
			{Name: "key notices", Run: notices.Run},
			{Name: "key revocations", Run: func(ctx context.Context) error { return b.WatchConfig(ctx, "keys", keys.Changed) }},
		},
		Checks: vital,
	})
}

// checkAsked is what a request is put through that a proxy has others make.
func checkAsked(ctx context.Context, req proto.Message) error {
	if err := door.Check(ctx, req); err != nil {
		return err
	}
	return rpc.Validate(req)
}

// peers are connections to the other services; each connects when first used.
type peers struct {
	policyEngine, budget, controlPlane, eventProcessor, audit *grpc.ClientConn
}

func dialAll(sh *service.Shell, cfg Config) (p peers, closeAll func(), err error) {
	var open []*grpc.ClientConn
	closeAll = func() {
		for _, conn := range open {
			_ = conn.Close()
		}
	}
	for _, one := range []struct {
		into **grpc.ClientConn
		addr string
	}{
		{&p.policyEngine, cfg.PolicyEngine}, {&p.budget, cfg.Budget}, {&p.controlPlane, cfg.ControlPlane},
		{&p.eventProcessor, cfg.EventProcessor}, {&p.audit, cfg.Audit},
	} {
		conn, err := sh.Dial(one.addr)
		if err != nil {
			closeAll()
			return peers{}, nil, err
		}
		open = append(open, conn)
		*one.into = conn
	}
	return p, closeAll, nil
}
