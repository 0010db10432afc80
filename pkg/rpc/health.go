package rpc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// Check asks something the service cannot work without whether it is working.
// Do gets a context that ends after two seconds.
type Check struct {
	Name string
	Do   func(context.Context) error
}

const checkTimeout = 2 * time.Second

// Watch keeps hs truthful until ctx ends: serving while every check passes,
// not serving while any fails. Only changes are logged.
func Watch(ctx context.Context, hs *health.Server, log *slog.Logger, every time.Duration, checks ...Check) error {
	tick := time.NewTicker(every)
	defer tick.Stop()

	last := healthpb.HealthCheckResponse_UNKNOWN
	for {
		err := failures(probe(ctx, checks))
		now, level := healthpb.HealthCheckResponse_SERVING, slog.LevelInfo
		if err != nil {
			now, level = healthpb.HealthCheckResponse_NOT_SERVING, slog.LevelWarn
		}
		if ctx.Err() != nil {
			return nil
		}
		if now != last {
			log.LogAttrs(ctx, level, "health", slog.String("status", now.String()), slog.Any("err", err))
			hs.SetServingStatus("", now)
			last = now
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// verdict is what one check said.
type verdict struct {
	name string
	err  error
	took time.Duration
}

// probe runs all checks at once, so that one that hangs hides nobody else.
func probe(ctx context.Context, checks []Check) []verdict {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()

	verdicts := make([]verdict, len(checks))
	var wg sync.WaitGroup
	for i, check := range checks {
		wg.Go(func() {
			begin := time.Now()
			err := check.Do(ctx)
			verdicts[i] = verdict{check.Name, err, time.Since(begin)}
		})
	}
	wg.Wait()
	return verdicts
}

func failures(verdicts []verdict) error {
	var errs []error
	for _, v := range verdicts {
		if v.err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", v.name, v.err))
		}
	}
	return errors.Join(errs...)
}
