package postgres

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/db/eventsdb"
)

// count adds the facts to the totals of the month in which they are stored.
func (b *batch) count(ctx context.Context) error {
	type key struct {
		tenant uuid.UUID
		month  time.Time
		kind   string
	}
	type total struct {
		events, bytes  int64
		oldest, newest time.Time
	}
	totals := map[key]*total{}
	for _, f := range b.facts {
		at := b.storedAt[f.Tenant].UTC()
		k := key{f.Tenant, time.Date(at.Year(), at.Month(), 1, 0, 0, 0, 0, time.UTC), f.Type}
		t := totals[k]
		if t == nil {
			t = &total{oldest: f.OccurredAt, newest: f.OccurredAt}
			totals[k] = t
		}
		t.events++
		t.bytes += int64(f.Size)
		t.oldest, t.newest = earlier(t.oldest, f.OccurredAt), later(t.newest, f.OccurredAt)
	}
	keys := make([]key, 0, len(totals))
	for k := range totals {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b key) int {
		return cmp.Or(compare(a.tenant, b.tenant), a.month.Compare(b.month), strings.Compare(a.kind, b.kind))
	})
	var p eventsdb.AddTotalsParams
	for _, k := range keys {
		t := totals[k]
		p.TenantIds, p.Months, p.Types = append(p.TenantIds, k.tenant), append(p.Months, k.month), append(p.Types, k.kind)
		p.Events, p.Bytes = append(p.Events, t.events), append(p.Bytes, t.bytes)
		p.Oldest, p.Newest = append(p.Oldest, t.oldest), append(p.Newest, t.newest)
	}
	return b.q.AddTotals(ctx, p)
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
