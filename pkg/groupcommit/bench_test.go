package groupcommit

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"
)

// BenchmarkDo reports what an item costs on top of its share of the flush. A
// commit is a sleep: instant, or as long as one of a database.
func BenchmarkDo(b *testing.B) {
	for _, tt := range []struct {
		name   string
		commit time.Duration
		lanes  int
		fair   bool
	}{
		{"instant commit", 0, 1, false},
		{"instant commit, fair", 0, 1, true},
		{"1 ms commit", time.Millisecond, 1, false},
		{"1 ms commit, fair", time.Millisecond, 1, true},
		{"1 ms commit, four lanes, fair", time.Millisecond, 4, true},
	} {
		b.Run(tt.name, func(b *testing.B) {
			keys := make([]string, 16)
			for i := range keys {
				keys[i] = fmt.Sprint("tenant-", i)
			}
			var flushes atomic.Int64
			l := New(func(_ context.Context, batch []int) ([]Result[int], error) {
				flushes.Add(1)
				time.Sleep(tt.commit)
				return make([]Result[int], len(batch)), nil
			}, Options{Lanes: tt.lanes})
			if tt.fair {
				l.FairBy(func(v int) string { return keys[v%len(keys)] })
			}
			ctx, stop := context.WithCancel(b.Context())
			ended := make(chan error, 1)
			go func() { ended <- l.Run(ctx) }()
			b.ReportAllocs()
			b.SetParallelism(256)
			b.RunParallel(func(pb *testing.PB) {
				for v := 0; pb.Next(); v++ {
					if _, err := l.Do(ctx, v); err != nil {
						b.Error(err)
					}
				}
			})
			b.ReportMetric(float64(b.N)/float64(flushes.Load()), "items/batch")
			stop()
			<-ended
		})
	}
}
