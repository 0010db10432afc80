package bench

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/fulcrum-io/fulcrum/pkg/bench"
	"github.com/fulcrum-io/fulcrum/pkg/groupcommit"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	budgetv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/budget/v1"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/ledger"
)

// callsOfTenant is how many calls with many holds a tenant has under way.
const callsOfTenant = 2

// openMany is open for a caller who collects: what comes for a tenant while its
// calls are under way is asked for together in the next.
func openMany(ctx context.Context, client budgetv1.LedgerServiceClient, t *tree, rate int, long time.Duration) ([]time.Duration, int64, error) {
	loops := make(map[uuid.UUID]*groupcommit.Loop[*ledger.Reserve, bool], len(t.tenants))
	running, stop := context.WithCancel(ctx)
	defer stop()
	var all errgroup.Group
	for _, tenant := range t.tenants {
		of := identity.With(ctx, identity.System(tenant))
		loop := groupcommit.New(func(_ context.Context, batch []*ledger.Reserve) ([]groupcommit.Result[bool], error) {
			return holdMany(of, client, batch)
		}, groupcommit.Options{MaxBatch: 100, Lanes: callsOfTenant})
		all.Go(func() error { return loop.Run(running) })
		loops[tenant] = loop
	}
	var failed atomic.Int64
	took, err := bench.Arrivals(ctx, rate, long, mostUnderWay, func(ctx context.Context, _ int) error {
		op := t.any()
		if granted, err := loops[op.Tenant].Do(ctx, op); err != nil || !granted {
			failed.Add(1)
		}
		return nil
	})
	stop()
	return took, failed.Load(), errors.Join(err, all.Wait())
}

func holdMany(ctx context.Context, client budgetv1.LedgerServiceClient, batch []*ledger.Reserve) ([]groupcommit.Result[bool], error) {
	req := &budgetv1.ReserveManyRequest{Requests: make([]*budgetv1.ReserveRequest, len(batch))}
	for i, op := range batch {
		req.Requests[i] = asked(op)
	}
	resp, err := client.ReserveMany(ctx, req)
	if err != nil {
		return nil, err
	}
	if len(resp.GetResults()) != len(batch) {
		return nil, fmt.Errorf("%d results for %d requests", len(resp.GetResults()), len(batch))
	}
	results := make([]groupcommit.Result[bool], len(batch))
	for i, r := range resp.GetResults() {
		results[i].Value = len(r.GetResponse().GetHold().GetBudgets()) == 3
	}
	return results, nil
}
