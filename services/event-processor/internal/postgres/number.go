package postgres

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/db/eventsdb"
)

// position gives every fact its place in its tenant's journal. Until the
// transaction ends, it holds the tenants' heads.
func (b *batch) position(ctx context.Context) error {
	var p eventsdb.AdvanceHeadsParams
	counts := map[uuid.UUID]int64{}
	for _, f := range b.facts {
		counts[f.Tenant]++
	}
	for _, t := range tenants(b.facts) {
		p.TenantIds, p.Events = append(p.TenantIds, t), append(p.Events, counts[t])
	}
	rows, err := b.q.AdvanceHeads(ctx, p)
	if err != nil {
		return err
	}
	b.heads, b.storedAt = map[uuid.UUID]int64{}, map[uuid.UUID]time.Time{}
	next := map[uuid.UUID]int64{}
	for _, h := range rows {
		b.heads[h.TenantID], b.storedAt[h.TenantID] = h.LastSequence, h.LastStoredAt
		next[h.TenantID] = h.LastSequence - counts[h.TenantID]
	}
	for _, f := range b.facts {
		next[f.Tenant]++
		b.positions = append(b.positions, next[f.Tenant])
	}
	return nil
}

type executionKey struct {
	tenant uuid.UUID
	key    string
}

// number gives every fact its number within its execution.
func (b *batch) number(ctx context.Context) error {
	type group struct {
		executionKey
		events         int64
		started, ended time.Time
		over           bool
	}
	groups := map[executionKey]*group{}
	for _, f := range b.facts {
		k := executionKey{f.Tenant, f.Key()}
		g := groups[k]
		if g == nil {
			g = &group{executionKey: k, started: f.OccurredAt, ended: f.OccurredAt}
			groups[k] = g
		}
		g.events++
		if f.OccurredAt.Before(g.started) {
			g.started = f.OccurredAt
		}
		if f.Final && (!g.over || f.OccurredAt.After(g.ended)) {
			g.over, g.ended = true, f.OccurredAt
		}
	}
	var p eventsdb.AdvanceExecutionsParams
	for _, g := range groups {
		p.TenantIds, p.ExecutionKeys, p.Events = append(p.TenantIds, g.tenant), append(p.ExecutionKeys, g.key), append(p.Events, g.events)
		p.StartedAt, p.Ended, p.EndedAt = append(p.StartedAt, g.started), append(p.Ended, g.over), append(p.EndedAt, g.ended)
	}
	rows, err := b.q.AdvanceExecutions(ctx, p)
	if err != nil {
		return err
	}
	next := map[executionKey]int64{}
	for _, r := range rows {
		k := executionKey{r.TenantID, r.ExecutionKey}
		next[k] = r.LastSequence - groups[k].events
	}
	for _, f := range b.facts {
		k := executionKey{f.Tenant, f.Key()}
		next[k]++
		b.sequences = append(b.sequences, next[k])
	}
	return nil
}
