// Package app runs the event processor.
package app

import (
	"context"
	"fmt"
	"net/url"
	"time"
	_ "time/tzdata" // days are asked for by the clocks of tenants, wherever this runs

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/pkg/bus"
	"github.com/fulcrum-io/fulcrum/pkg/config"
	"github.com/fulcrum-io/fulcrum/pkg/guard"
	"github.com/fulcrum-io/fulcrum/pkg/outbox"
	"github.com/fulcrum-io/fulcrum/pkg/rpc"
	"github.com/fulcrum-io/fulcrum/pkg/secret"
	"github.com/fulcrum-io/fulcrum/pkg/service"
	"github.com/fulcrum-io/fulcrum/pkg/vault"
	agentv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/agent/v1"
	brainv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/brain/v1"
	controlplanev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/controlplane/v1"
	costv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/cost/v1"
	eventstorev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/eventstore/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	"github.com/fulcrum-io/fulcrum/services/event-processor/internal/api"
	"github.com/fulcrum-io/fulcrum/services/event-processor/internal/events"
	"github.com/fulcrum-io/fulcrum/services/event-processor/internal/immune"
	"github.com/fulcrum-io/fulcrum/services/event-processor/internal/postgres"
	"github.com/fulcrum-io/fulcrum/services/event-processor/internal/tail"
	"github.com/fulcrum-io/fulcrum/services/event-processor/internal/upkeep"
	"github.com/fulcrum-io/fulcrum/services/event-processor/internal/webhook"
)

const scope = "github.com/fulcrum-io/fulcrum/services/event-processor"

// settings are the service's own.
type settings struct {
	addr      string
	batch     int
	keep      time.Duration
	reconcile time.Duration // how often
	policies  string        // the control plane's address
	gapAfter  time.Duration // sent this long ago and not confirmed is a gap

	kek, oldKEK secret.Secret // seal what signs webhooks
	networks    guard.Networks
	timeout     time.Duration // of one attempt
	patience    webhook.Patience
	reviewURL   string
}

func (s *settings) read(r *config.Reader) {
	s.addr = config.Listen(r, "EVENT_PROCESSOR_ADDR", "127.0.0.1:50055")
	s.batch = r.IntBetween("EVENT_PROCESSOR_BATCH", 256, 1, 4096)
	s.keep = time.Duration(r.IntBetween("EVENTSTORE_RETENTION_DAYS", 90, 1, 3650)) * 24 * time.Hour
	s.reconcile = r.DurationBetween("EVENT_PROCESSOR_RECONCILE_EVERY", time.Minute, time.Second, time.Hour)
	s.gapAfter = r.DurationBetween("EVENT_PROCESSOR_GAP_AFTER", time.Minute, time.Second, time.Hour)
	s.policies = r.Addr("CONTROL_PLANE_URL", "127.0.0.1:50054")
	s.readWebhooks(r)
	r.Doc("CONTROL_PLANE_URL", "host:port of the control plane, where approved drafts become policies")
	r.Doc("EVENT_PROCESSOR_ADDR", "where other services call, host:port")
	r.Doc("EVENT_PROCESSOR_BATCH", "events stored in one transaction, at most")
	r.Doc("EVENTSTORE_RETENTION_DAYS", "how long events are kept, where this role may drop them")
	r.Doc("EVENT_PROCESSOR_RECONCILE_EVERY", "how often what was sent is compared with what was taken in")
	r.Doc("EVENT_PROCESSOR_GAP_AFTER", "when an event that nobody took in is sent again")
}

func (s *settings) readWebhooks(r *config.Reader) {
	s.kek = r.Secret("EVENT_PROCESSOR_WEBHOOK_KEK", "")
	s.oldKEK = r.Secret("EVENT_PROCESSOR_WEBHOOK_KEK_PREVIOUS", "")
	var err error
	if s.networks, err = guard.ParseNetworks(r.Strings("EVENT_PROCESSOR_WEBHOOK_NETWORKS")); err != nil {
		r.Problem("EVENT_PROCESSOR_WEBHOOK_NETWORKS", "%s", err)
	}
	s.patience = webhook.DefaultPatience()
	s.timeout = r.DurationBetween("EVENT_PROCESSOR_WEBHOOK_TIMEOUT", 10*time.Second, 100*time.Millisecond, time.Minute)
	s.patience.First = r.DurationBetween("EVENT_PROCESSOR_WEBHOOK_RETRY", s.patience.First, 10*time.Millisecond, time.Hour)
	s.patience.GiveUp = r.DurationBetween("EVENT_PROCESSOR_WEBHOOK_GIVE_UP", s.patience.GiveUp, time.Minute, 7*24*time.Hour)
	s.patience.DisableAfter = r.DurationBetween("EVENT_PROCESSOR_WEBHOOK_DISABLE_AFTER", s.patience.DisableAfter, 0, 7*24*time.Hour)
	s.reviewURL = r.String("EVENT_PROCESSOR_REVIEW_URL", "")
	if u, err := url.Parse(s.reviewURL); s.reviewURL != "" && (err != nil || u.Host == "") {
		r.Problem("EVENT_PROCESSOR_REVIEW_URL", "is not an address such as https://console.example/approvals/{approval_id}")
	}
	r.Doc("EVENT_PROCESSOR_WEBHOOK_KEK", "key-encryption key for the secrets that sign webhooks, 32 bytes in base64, kept out of the database; empty: no webhooks")
	r.Doc("EVENT_PROCESSOR_WEBHOOK_KEK_PREVIOUS", "the one before, while a rotation lasts: every secret is rewrapped at the start")
	r.Doc("EVENT_PROCESSOR_WEBHOOK_NETWORKS", "networks that webhooks may lead to besides public addresses, by http as well, such as 10.0.0.0/8, separated by commas")
	r.Doc("EVENT_PROCESSOR_WEBHOOK_TIMEOUT", "how long an endpoint may take to answer")
	r.Doc("EVENT_PROCESSOR_WEBHOOK_RETRY", "the wait after the first failed attempt; each is four times as long, up to 12h")
	r.Doc("EVENT_PROCESSOR_WEBHOOK_GIVE_UP", "a message so old is given up; so is one after 14 attempts")
	r.Doc("EVENT_PROCESSOR_WEBHOOK_DISABLE_AFTER", "an endpoint is disabled after 8 failures in a row over so long")
	r.Doc("EVENT_PROCESSOR_REVIEW_URL", "where people review approvals, for webhooks; {approval_id} in it is replaced")
}

// Run serves until ctx ends. What it opens it closes, last opened first.
func Run(ctx context.Context, env service.Env) error {
	var cfg settings
	sh, err := service.Open(ctx, env, events.Name, cfg.read)
	if err != nil {
		return fmt.Errorf("config: %w", err)
	}
	defer sh.Close()

	d, err := db.Open(ctx, sh.Settings.Postgres, db.Options{Service: events.Name, Log: sh.Log, Tracer: sh.Telemetry.Postgres()})
	if err != nil {
		return err
	}
	defer d.Close()
	if err := sh.Telemetry.Pool(d); err != nil {
		return err
	}

	js, err := bus.Connect(sh.Settings.NATS, events.Name, sh.Log)
	if err != nil {
		return err
	}
	defer js.Close()

	meter, err := events.NewMeter(sh.Telemetry.Meter(scope))
	if err != nil {
		return err
	}
	store := postgres.New(d, events.Name).Telling(webhook.Writer{ReviewURL: cfg.reviewURL})
	hub := &tail.Hub{Heads: store.Heads, Log: sh.Log}
	intake := &events.Intake{Recorder: store, Bury: outbox.Bury(d), Stored: hub.Moved, Meter: meter, Log: sh.Log}
	consumer := intake.Consumer(cfg.batch)
	consumer.Meter = sh.Telemetry.MeterProvider()
	keeper := &upkeep.Keeper{Store: store, Keep: cfg.keep, Log: sh.Log}
	// Events of a service that is down still flow.
	relay := outbox.NewRelay(d, js, sh.Log)
	reconciler := outbox.NewReconciler(d, relay, sh.Log)
	reconciler.Every, reconciler.Patience = cfg.reconcile, cfg.gapAfter
	relay.Meter, reconciler.Meter = sh.Telemetry.MeterProvider(), sh.Telemetry.MeterProvider()

	controlPlane, err := sh.Dial(cfg.policies)
	if err != nil {
		return err
	}
	defer controlPlane.Close()
	detectors := postgres.NewImmune(d)
	watch := immune.Watch(detectors, outbox.Bury(d))
	watch.Meter = sh.Telemetry.MeterProvider()

	keep, err := vault.New("EVENT_PROCESSOR_WEBHOOK_KEK", cfg.kek, cfg.oldKEK)
	if err != nil {
		return fmt.Errorf("EVENT_PROCESSOR_WEBHOOK_KEK: %w", err)
	}
	hooks := postgres.NewWebhooks(d, keep, cfg.patience, relay.Nudge)
	if err := hooks.Rewrap(ctx); err != nil {
		return fmt.Errorf("rewrap secrets of webhooks: %w", err)
	}
	sender := webhook.NewSender(cfg.networks, cfg.timeout)
	dispatcher := webhook.NewDispatcher(hooks, sender, sh.Log)
	dispatcher.Lease = cfg.timeout + 20*time.Second
	if dispatcher.Meter, err = webhook.NewMeter(sh.Telemetry.Meter(scope)); err != nil {
		return err
	}

	srv := sh.Server()
	controlplanev1.RegisterWebhookServiceServer(srv.GRPC(), api.NewWebhooks(webhook.NewDesk(hooks, sender), hooks))
	eventstorev1.RegisterEventStoreServiceServer(srv.GRPC(), api.NewEvents(store, hub))
	agentv1.RegisterAgentServiceServer(srv.GRPC(), api.NewAgents(store))
	costv1.RegisterCostServiceServer(srv.GRPC(), api.NewExecutions(store))
	brainv1.RegisterImmuneSystemServiceServer(srv.GRPC(), api.NewImmune(detectors, policyv1.NewPolicyServiceClient(controlPlane)))

	return sh.Run(ctx, service.Plan{
		GRPC: srv, Addr: cfg.addr,
		Workers: []service.Task{
			{Name: "intake", Run: func(ctx context.Context) error { return js.Consume(ctx, consumer) }},
			{Name: "detectors", Run: func(ctx context.Context) error { return js.Consume(ctx, watch) }},
			{Name: "advisories", Run: func(ctx context.Context) error { return js.Advisories(ctx, events.Name, intake.Advisory) }},
			{Name: "relay", Run: relay.Run},
			{Name: "reconciler", Run: reconciler.Run},
			{Name: "tail", Run: hub.Run},
			{Name: "upkeep", Run: keeper.Run},
			{Name: "webhooks", Run: dispatcher.Run},
		},
		// Without NATS it still answers questions.
		Checks: []rpc.Check{{Name: "postgres", Do: d.Ping}},
	})
}
