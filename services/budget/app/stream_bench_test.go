package app_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/db/dbtest"
	budgetv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/budget/v1"
	costv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/cost/v1"
)

// BenchmarkDoors compares the ways into one hot budget through gRPC: 64 callers
// of single calls, one caller of ReserveMany, one stream with 64 under way.
func BenchmarkDoors(b *testing.B) {
	d := dbtest.New(b)
	tenant := dbtest.Tenant(b, d)
	publish(b, d, tenant, &costv1.Budget{BudgetId: "b", Limits: &costv1.BudgetLimits{MaxCostUsd: 1000}})
	client := start(b, d)
	ctx := as(b.Context(), tenant)
	const width = 64

	b.Run("single calls", func(b *testing.B) {
		var next atomic.Int64
		var all sync.WaitGroup
		for range width {
			all.Go(func() {
				for next.Add(1) <= int64(b.N) {
					if _, err := client.Reserve(ctx, asking(1)); err != nil {
						b.Error(err)
					}
				}
			})
		}
		all.Wait()
	})
	b.Run("ReserveMany", func(b *testing.B) {
		for left := b.N; left > 0; left -= 100 {
			req := &budgetv1.ReserveManyRequest{}
			for range min(left, 100) {
				req.Requests = append(req.Requests, asking(1))
			}
			if _, err := client.ReserveMany(ctx, req); err != nil {
				b.Error(err)
			}
		}
	})
	b.Run("stream", func(b *testing.B) {
		s, err := client.Operate(ctx)
		if err != nil {
			b.Fatal(err)
		}
		free := make(chan struct{}, width)
		var sender sync.WaitGroup
		sender.Go(func() {
			for i := range b.N {
				free <- struct{}{}
				if err := s.Send(reserving(fmt.Sprint(i), &budgetv1.ReserveRequest{
					ReservationId: uuid.NewString(), Subject: &budgetv1.Subject{}, Amounts: asking(1).GetAmounts(),
				})); err != nil {
					b.Error(err)
				}
			}
		})
		for range b.N {
			a, err := s.Recv()
			if err != nil || !a.GetReserve().GetGranted() {
				b.Fatal(a, err)
			}
			<-free
		}
		sender.Wait()
	})
}
