package sandbox

import (
	"context"
	"errors"
	"math"
	"runtime/metrics"
	"sync/atomic"
	"time"
)

// ErrMemory says that tenant-written code is not run for now, because the
// process has more memory in use than it may.
var ErrMemory = errors.New("the engine is short of memory")

// short is whether it does.
var short atomic.Bool

// Short reports whether the process has more memory in use than WatchMemory was
// told that it may.
func Short() bool { return short.Load() }

const lookEvery = 20 * time.Millisecond

// WatchMemory keeps Short current until ctx ends. The limit is GOMEMLIMIT's: the
// collector works as hard as it can before that, so what is in use beyond it is
// needed. math.MaxInt64, which GOMEMLIMIT is unless set, is none.
func WatchMemory(ctx context.Context, limit int64) error {
	if limit == math.MaxInt64 {
		<-ctx.Done()
		return nil
	}
	defer short.Store(false)
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		short.Store(inUse() > uint64(limit))
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// inUse is what GOMEMLIMIT counts.
func inUse() uint64 {
	sample := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64() - sample[1].Value.Uint64()
}
