// Package stack runs every Fulcrum service in this process, on stores that it
// starts itself unless their addresses are given.
package stack

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/fulcrum-io/fulcrum/pkg/devstack"
	"github.com/fulcrum-io/fulcrum/pkg/secret"
)

// Options choose where the stack lives. Zero ports are free ones, an empty Dir
// is a temporary folder that Stop removes.
type Options struct {
	Dir                               string
	GRPCPort, HTTPPort                int
	PostgresPort, RedisPort, NATSPort int

	Getenv   func(string) string
	Log      *slog.Logger
	Progress func(step string) // told each step as it begins; may be nil
}

// Running is a Fulcrum that answers.
type Running struct {
	GRPCAddr string // the gateway's native gRPC door, host:port
	HTTPURL  string // the gateway's HTTP door
	Dir      string
	AdminKey secret.Secret

	stores   *devstack.Stack
	services *services
}

// Start returns when every service is ready. If one fails, what was started is
// stopped and the error names it.
func Start(ctx context.Context, o Options) (_ *Running, err error) {
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	stores, err := startStores(ctx, o)
	if err != nil {
		return nil, err
	}
	r := &Running{Dir: stores.Dir, stores: stores}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Stop())
		}
	}()

	keys, err := loadKeys(stores.Dir)
	if err != nil {
		return nil, err
	}
	r.AdminKey = secret.New(keys.AdminKey)
	dsn, err := prepareDatabase(ctx, o, stores, keys)
	if err != nil {
		return nil, err
	}
	o.Progress("starting the services")
	if r.services, err = startServices(ctx, o, environment{dsn: dsn, stores: stores, keys: keys}); err != nil {
		return nil, err
	}
	r.GRPCAddr, r.HTTPURL = r.services.grpcAddr, "http://"+r.services.httpAddr
	return r, nil
}

// Wait returns when a service fails or ctx ends; nil in the latter case.
func (r *Running) Wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-r.services.done:
		return r.services.err
	}
}

// PostgresURL is the superuser's, of the embedded server.
func (r *Running) PostgresURL() string { return r.stores.PostgresURL }

// Stop drains the services, then stops the stores. Nothing is left running.
func (r *Running) Stop() error {
	var errs []error
	if r.services != nil {
		errs = append(errs, r.services.stop())
	}
	if err := r.stores.Stop(); err != nil {
		errs = append(errs, fmt.Errorf("stop stores: %w", err))
	}
	return errors.Join(errs...)
}
