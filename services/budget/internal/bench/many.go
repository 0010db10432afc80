package bench

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/fulcrum-io/fulcrum/pkg/bench"
	"github.com/fulcrum-io/fulcrum/pkg/groupcommit"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	budgetv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/budget/v1"
)

// callsOfTenant is how many calls with many holds a tenant has under way.
const callsOfTenant = 2

// openMany is open for a caller who collects: what comes for a tenant while its
// calls are under way is asked for together in the next.
func openMany(ctx context.Context, client budgetv1.LedgerServiceClient, t *tree, rate int, long time.Duration) ([]time.Duration, int64, error) {
	holds := bench.NewSchedule(rate, long)
	var failed atomic.Int64
	loops := make(map[uuid.UUID]*groupcommit.Loop[numbered, struct{}], len(t.tenants))
	running, stop := context.WithCancel(ctx)
	defer stop()
	var all errgroup.Group
	for _, tenant := range t.tenants {
		of := identity.With(ctx, identity.System(tenant))
		loop := groupcommit.New(func(_ context.Context, batch []numbered) ([]groupcommit.Result[struct{}], error) {
			held := holdMany(of, client, batch)
			for i, a := range batch {
				if !held[i] {
					failed.Add(1)
				}
				holds.Done(a.number)
			}
			return make([]groupcommit.Result[struct{}], len(batch)), nil
		}, groupcommit.Options{MaxBatch: most, MaxQueue: holds.Len(), Lanes: callsOfTenant})
		all.Go(func() error { return loop.Run(running) })
		loops[tenant] = loop
	}
	took, err := holds.Run(ctx, func(i int) {
		op := t.any()
		loops[op.Tenant].StartAll(ctx, []numbered{{i, op}}, nil) // has room for all, and tells by itself
	})
	stop()
	return took, failed.Load(), errors.Join(err, all.Wait())
}

// holdMany says which of a batch are held; none, if the call fails.
func holdMany(ctx context.Context, client budgetv1.LedgerServiceClient, batch []numbered) []bool {
	held := make([]bool, len(batch))
	req := &budgetv1.ReserveManyRequest{Requests: make([]*budgetv1.ReserveRequest, len(batch))}
	for i, a := range batch {
		req.Requests[i] = asked(a.hold)
	}
	resp, err := client.ReserveMany(ctx, req)
	if err != nil || len(resp.GetResults()) != len(batch) {
		return held
	}
	for i, r := range resp.GetResults() {
		held[i] = len(r.GetResponse().GetHold().GetBudgets()) == 3
	}
	return held
}
