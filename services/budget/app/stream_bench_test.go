package app_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/fulcrum-io/fulcrum/db/dbtest"
	budgetv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/budget/v1"
	costv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/cost/v1"
)

// BenchmarkDoors compares the ways into one hot budget through gRPC: 64 callers
// of single calls, one caller of ReserveMany, one stream with 64 under way that
// come one by one, and one with 64 in a message.
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
		w := client.operate(b, ctx)
		free := make(chan struct{}, width)
		var sender sync.WaitGroup
		sender.Go(func() {
			for i := range b.N {
				free <- struct{}{}
				op := reserving(fmt.Sprint(i), asking(1))
				if err := w.Send(&budgetv1.OperateRequest{Operations: []*budgetv1.Operation{op}}); err != nil {
					b.Error(err)
				}
			}
		})
		for range b.N {
			a, err := w.next()
			if err != nil || !a.GetReserve().GetGranted() {
				b.Fatal(a, err)
			}
			<-free
		}
		sender.Wait()
	})
	b.Run("stream, many a message", func(b *testing.B) {
		w := client.operate(b, ctx)
		for begun := 0; begun < b.N; {
			ops := make([]*budgetv1.Operation, min(width, b.N-begun))
			for i := range ops {
				ops[i] = reserving(fmt.Sprint(begun+i), asking(1))
			}
			begun += len(ops)
			for _, a := range w.do(ops...) {
				if !a.GetReserve().GetGranted() {
					b.Fatal(a)
				}
			}
		}
	})
}
