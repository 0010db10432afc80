package trail

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/services/audit/internal/leaf"
	"github.com/fulcrum-io/fulcrum/services/audit/internal/merkle"
)

// Fact is an event as the log takes it in.
type Fact struct {
	Leaf    leaf.Leaf // Index and PayloadHash are still open
	Payload []byte    // what happened, in full
}

// Append gives the facts the next places of the tenant's log. Facts that were
// appended before are passed over, so it may be repeated after any failure.
// On error nothing was appended.
func (l *Log) Append(ctx context.Context, tenant uuid.UUID, facts []Fact) error {
	var added []Entry
	err := l.store.Append(ctx, tenant, func(ctx context.Context, tx Appending) error {
		ids := make([]uuid.UUID, len(facts))
		for i, f := range facts {
			ids[i] = f.Leaf.Event
		}
		fresh, err := tx.Fresh(ctx, ids)
		if err != nil {
			return fmt.Errorf("look for known events: %w", err)
		}
		head := tx.Head()
		var entries []Entry
		var leaves [][]byte
		for _, f := range facts {
			if !fresh[f.Leaf.Event] {
				continue
			}
			delete(fresh, f.Leaf.Event) // the same event twice in one batch
			e := l.entry(tenant, head.Size+int64(len(entries)), f)
			entries, leaves = append(entries, e), append(leaves, e.Bytes)
		}
		if len(entries) == 0 {
			return nil
		}
		next, tiles, err := merkle.Append(head.Size, leaves, tx.Tiles(ctx))
		if err != nil {
			return err
		}
		added = entries
		return tx.Write(ctx, next, entries, tiles)
	})
	if err == nil && len(added) > 0 {
		l.told.Appended(len(added), time.Since(added[0].At))
	}
	return err
}

func (l *Log) entry(tenant uuid.UUID, index int64, f Fact) Entry {
	salt := l.salt()
	lf := f.Leaf
	lf.Tenant, lf.Index = tenant, index
	lf.PayloadHash = leaf.PayloadHash(salt, f.Payload)
	return Entry{Leaf: lf, Bytes: lf.Encode(), Payload: f.Payload, Salt: salt}
}
