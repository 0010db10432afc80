package stack

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/fulcrum-io/fulcrum/pkg/config"
	"github.com/fulcrum-io/fulcrum/pkg/devstack"
	"github.com/fulcrum-io/fulcrum/pkg/service"
	audit "github.com/fulcrum-io/fulcrum/services/audit/app"
	budget "github.com/fulcrum-io/fulcrum/services/budget/app"
	controlplane "github.com/fulcrum-io/fulcrum/services/control-plane/app"
	eventprocessor "github.com/fulcrum-io/fulcrum/services/event-processor/app"
	gateway "github.com/fulcrum-io/fulcrum/services/gateway/app"
	policyengine "github.com/fulcrum-io/fulcrum/services/policy-engine/app"
)

// startLimit is how long all services together may take to be ready.
const startLimit = 60 * time.Second

// environment is what the services are told beside what the operator set.
type environment struct {
	dsn    string
	stores *devstack.Stack
	keys   keys
}

type services struct {
	grpcAddr, httpAddr string

	cancel context.CancelFunc
	done   chan struct{} // closed when all services have ended; guards err
	err    error
}

var members = []struct {
	name string
	run  func(context.Context, service.Env) error
}{
	{"policy-engine", policyengine.Run},
	{"budget", budget.Run},
	{"control-plane", controlplane.Run},
	{"event-processor", eventprocessor.Run},
	{"audit", audit.Run},
	{"gateway", gateway.Run},
}

func startServices(ctx context.Context, o Options, e environment) (*services, error) {
	p := &ports{bound: map[string]net.Listener{}}
	vars := map[string]string{
		"POSTGRES_CONN_STR": e.dsn, "REDIS_URL": e.stores.RedisURL, "NATS_URL": e.stores.NATSURL,
		"FULCRUM_INTERNAL_TOKEN": e.keys.InternalToken, "FULCRUM_KEY_PEPPER": e.keys.Pepper, "BUDGET_WALLET_KEK": e.keys.WalletKEK,
		"FULCRUM_BUNDLE_KEY": e.keys.BundleKey, "FULCRUM_AUDIT_KEY": e.keys.AuditKey, "FULCRUM_ADMIN_KEY": e.keys.AdminKey,
		"FULCRUM_POLICY_SIGNING_KEY": e.keys.PolicyKey, "EVENT_PROCESSOR_WEBHOOK_KEK": e.keys.WebhookKEK,
	}
	s := &services{done: make(chan struct{})}
	s.grpcAddr = p.bind(o.GRPCPort)
	s.httpAddr = p.bind(o.HTTPPort)
	vars["GATEWAY_GRPC_ADDR"], vars["GATEWAY_HTTP_ADDR"] = s.grpcAddr, s.httpAddr
	var ops []string
	for _, m := range members {
		prefix := strings.ToUpper(strings.ReplaceAll(m.name, "-", "_"))
		ops = append(ops, p.bind(0))
		vars[prefix+"_OPS_ADDR"] = ops[len(ops)-1]
		if m.name != "gateway" {
			addr := p.bind(0)
			vars[prefix+"_ADDR"], vars[prefix+"_URL"] = addr, addr
		}
	}
	if p.err != nil {
		return nil, errors.Join(p.err, p.close())
	}

	// Given addresses win: what the operator set and we do not own stays.
	overlay := config.Map(vars)
	getenv := func(key string) string {
		if v := overlay(key); v != "" {
			return v
		}
		if key == "PORT" {
			return "" // belongs to a single service's container
		}
		return o.Getenv(key)
	}
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s.cancel = cancel
	g, running := errgroup.WithContext(running)
	for _, m := range members {
		g.Go(func() error {
			env := service.Env{Getenv: getenv, Log: o.Log, Version: service.Version(), Listen: p.take}
			if err := m.run(running, env); err != nil {
				return fmt.Errorf("%s: %w", m.name, err)
			}
			return nil
		})
	}
	go func() {
		defer close(s.done)
		s.err = errors.Join(g.Wait(), p.close())
	}()
	if err := s.awaitReady(ctx, ops); err != nil {
		return nil, errors.Join(err, s.stop())
	}
	return s, nil
}

// awaitReady returns when every operations port says ready, or a service ended.
func (s *services) awaitReady(ctx context.Context, ops []string) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for i, addr := range ops {
		for err := service.Healthcheck(ctx, addr); err != nil; err = service.Healthcheck(ctx, addr) {
			select {
			case <-s.done:
				return errors.New("a service ended while it started")
			case <-ctx.Done():
				return fmt.Errorf("%s is not ready within %s: %w", members[i].name, startLimit, err)
			case <-tick.C:
			}
		}
	}
	return nil
}

func (s *services) stop() error {
	s.cancel()
	<-s.done
	return s.err
}
