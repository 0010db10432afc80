package trail

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/services/audit/internal/merkle"
)

// Inclusion proves that an entry is in the tree of a checkpoint.
type Inclusion struct {
	Entry      Entry
	Hashes     [][]byte // RFC 6962 audit path, leaf to root
	Checkpoint Checkpoint
}

// Include proves an event against the newest checkpoint. A fault.NotFound with
// a delay to retry after means that it is not sequenced, or not signed, yet.
func (l *Log) Include(ctx context.Context, tenant, event uuid.UUID) (Inclusion, error) {
	e, err := l.store.EntryOf(ctx, tenant, event)
	if err != nil {
		return Inclusion{}, err
	}
	c, err := l.store.LatestCheckpoint(ctx, tenant)
	if err != nil && !fault.HasReason(err, "AUDIT_EMPTY") { // the first has yet to be signed
		return Inclusion{}, err
	}
	if e.Index >= c.Size {
		return Inclusion{}, fault.New(fault.NotFound, "event %s is in the log, but not under a signed checkpoint yet", event).
			WithReason("AUDIT_NOT_SIGNED_YET").WithRetry(time.Second)
	}
	proof, err := tlog.ProveRecord(c.Size, e.Index, merkle.Reader(l.store.Tiles(ctx, tenant)))
	if err != nil {
		return Inclusion{}, fmt.Errorf("prove leaf %d of %d: %w", e.Index, c.Size, err)
	}
	if err := tlog.CheckRecord(proof, c.Size, c.Root, e.Index, tlog.RecordHash(e.Bytes)); err != nil {
		return Inclusion{}, fmt.Errorf("log of %s: leaf %d does not verify: %w", tenant, e.Index, err)
	}
	return Inclusion{Entry: e, Hashes: hashesOf(proof), Checkpoint: c}, nil
}

// Consistency proves that the tree of old entries is a prefix of the newest
// checkpoint's.
type Consistency struct {
	Old        int64
	Hashes     [][]byte
	Checkpoint Checkpoint
}

// Extend proves that the tree of size old was extended to size now, where 0
// means the newest checkpoint's size.
func (l *Log) Extend(ctx context.Context, tenant uuid.UUID, old, now int64) (Consistency, error) {
	c, err := l.store.LatestCheckpoint(ctx, tenant)
	if err != nil {
		return Consistency{}, err
	}
	if now == 0 {
		now = c.Size
	}
	switch {
	case now > c.Size:
		return Consistency{}, fault.Field("new_size", "is %d, the newest checkpoint is of %d entries", now, c.Size)
	case old < 1 || old > now:
		return Consistency{}, fault.Field("old_size", "is %d, must be from 1 to %d", old, now)
	}
	proof, err := tlog.ProveTree(now, old, merkle.Reader(l.store.Tiles(ctx, tenant)))
	if err != nil {
		return Consistency{}, fmt.Errorf("prove that %d extends %d: %w", now, old, err)
	}
	return Consistency{Old: old, Hashes: hashesOf(proof), Checkpoint: c}, nil
}
