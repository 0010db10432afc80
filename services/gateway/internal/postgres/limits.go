package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/db/gatewaydb"
	"github.com/fulcrum-io/fulcrum/pkg/quota"

	"github.com/fulcrum-io/fulcrum/services/gateway/internal/decision"
)

// counter is one that the batch has locked: nobody else counts on it before the
// batch is committed.
type counter struct {
	stored int64 // what is there for good
	taken  int64 // with what the batch adds to it
	lapsed int64 // what the batch drops
}

// limits takes what limits let through; entries for which there is no room are
// left out. What earlier decisions took and give back makes room first.
//
// An entry that is admitted here and left out by a later step keeps others of
// its batch out that would have fit without it. That is rare, and safe.
func (b *batch) limits(ctx context.Context) error {
	var ends gatewaydb.EndEntriesParams
	var used gatewaydb.ChargeEntriesParams
	lock := make(map[tenantID]*decision.Take)
	for _, i := range b.live {
		e := b.entries[i]
		for n := range e.Takes {
			lock[tenantID{e.Tenant, e.Takes[n].Counter}] = &e.Takes[n]
		}
		if e.Ends == nil {
			continue
		}
		ends.TenantIds = append(ends.TenantIds, e.Tenant)
		ends.DecisionIds = append(ends.DecisionIds, e.Ends.Decision)
		ends.Undones = append(ends.Undones, e.Ends.Undone)
		if c := e.Ends.Charged; c != nil && !e.Ends.Undone {
			used.TenantIds = append(used.TenantIds, e.Tenant)
			used.DecisionIds = append(used.DecisionIds, e.Ends.Decision)
			used.Usds = append(used.Usds, max(c.GetCostNano(), 0))
			used.Tokens = append(used.Tokens, max(c.GetInputTokens(), 0)+max(c.GetOutputTokens(), 0))
		}
	}
	if len(lock)+len(ends.DecisionIds) == 0 {
		return nil
	}
	if err := b.q.PlanByIndex(ctx); err != nil {
		return err
	}
	if len(ends.DecisionIds) > 0 {
		rows, err := b.q.EntriesOfDecisions(ctx, gatewaydb.EntriesOfDecisionsParams{TenantIds: ends.TenantIds, DecisionIds: ends.DecisionIds})
		if err != nil {
			return fmt.Errorf("find limits of %d decisions: %w", len(ends.DecisionIds), err)
		}
		for _, r := range rows {
			if id := (tenantID{r.TenantID, r.CounterID}); lock[id] == nil {
				lock[id] = nil
			}
		}
	}
	if len(lock) == 0 {
		return nil
	}
	if err := b.lock(ctx, lock); err != nil {
		return err
	}
	if err := b.end(ctx, ends, used); err != nil {
		return err
	}
	var full []refusal
	if err := b.keep(ctx, func(e *decision.Entry) error {
		if err := b.admit(e); err != nil {
			full = append(full, refusal{e, err})
			return err
		}
		return nil
	}); err != nil {
		return err
	}
	return b.room(ctx, full)
}

// lock locks counters, and drops what counts no more on them.
func (b *batch) lock(ctx context.Context, want map[tenantID]*decision.Take) error {
	var p gatewaydb.LockCountersParams
	for id, t := range want {
		p.TenantIds, p.Ids = append(p.TenantIds, id.tenant), append(p.Ids, id.id)
		label, env := "", uuid.Nil
		if t != nil {
			label, env = t.Label, t.Envelope
		}
		p.Labels, p.EnvelopeIds = append(p.Labels, label), append(p.EnvelopeIds, env)
	}
	rows, err := b.q.LockCounters(ctx, p)
	if err != nil {
		return fmt.Errorf("lock %d counters: %w", len(p.Ids), err)
	}
	b.counters = make(map[tenantID]*counter, len(rows))
	for _, r := range rows {
		b.counters[tenantID{r.TenantID, r.ID}] = &counter{stored: r.Taken}
	}
	lapsed, err := b.q.LapseEntries(ctx, gatewaydb.LapseEntriesParams{TenantIds: p.TenantIds, Ids: p.Ids})
	if err != nil {
		return fmt.Errorf("drop what counts no more: %w", err)
	}
	for _, r := range lapsed {
		c := b.counters[tenantID{r.TenantID, r.ID}]
		if c == nil {
			return fmt.Errorf("counter %s was not locked", r.ID)
		}
		b.at = r.Now
		c.drop(r.Lapsed)
	}
	return nil
}

func (c *counter) drop(amount int64) {
	c.lapsed += amount
	c.stored -= amount
	c.taken = c.stored
}

// end gives back what actions took that are over, and counts what they used.
func (b *batch) end(ctx context.Context, ends gatewaydb.EndEntriesParams, used gatewaydb.ChargeEntriesParams) error {
	if len(ends.DecisionIds) > 0 {
		gone, err := b.q.EndEntries(ctx, ends)
		if err != nil {
			return fmt.Errorf("give back limits: %w", err)
		}
		for _, r := range gone {
			b.counters[tenantID{r.TenantID, r.CounterID}].drop(r.Amount)
		}
	}
	if len(used.DecisionIds) > 0 {
		charged, err := b.q.ChargeEntries(ctx, used)
		if err != nil {
			return fmt.Errorf("charge limits: %w", err)
		}
		for _, r := range charged {
			b.counters[tenantID{r.TenantID, r.CounterID}].drop(-r.Delta)
		}
	}
	return nil
}

// refusal is an entry that limits leave no room for.
type refusal struct {
	entry *decision.Entry
	err   *decision.FullError
}

// admit counts what e takes, all of it or, with the reason, nothing.
func (b *batch) admit(e *decision.Entry) *decision.FullError {
	full := new(decision.FullError)
	for n := range e.Takes {
		t := &e.Takes[n]
		if c := b.counters[tenantID{e.Tenant, t.Counter}]; !t.Fits(c.taken) {
			full.Full = append(full.Full, decision.Full{Take: n, Taken: c.taken})
		}
	}
	if len(full.Full) > 0 {
		return full
	}
	for _, t := range b.adds(e) {
		b.counters[tenantID{e.Tenant, t.Counter}].taken += t.Amount
	}
	return nil
}

// adds is what an entry adds: one part of a counter, however many of its limits
// look at that.
func (b *batch) adds(e *decision.Entry) (adds []*decision.Take) {
	seen := make(map[uuid.UUID]bool, len(e.Takes))
	for n := range e.Takes {
		t := &e.Takes[n]
		if !seen[t.Counter] && t.Adds(b.counters[tenantID{e.Tenant, t.Counter}].stored) {
			adds, seen[t.Counter] = append(adds, t), true
		}
	}
	return adds
}

// room says of full counters when there is room again.
func (b *batch) room(ctx context.Context, full []refusal) error {
	var p gatewaydb.RoomComesParams
	for _, r := range full {
		for _, f := range r.err.Full {
			p.TenantIds, p.Ids = append(p.TenantIds, r.entry.Tenant), append(p.Ids, r.entry.Takes[f.Take].Counter)
		}
	}
	if len(p.Ids) == 0 {
		return nil
	}
	rows, err := b.q.RoomComes(ctx, p)
	if err != nil {
		return fmt.Errorf("find when there is room: %w", err)
	}
	in := make(map[tenantID]time.Duration, len(rows))
	for _, r := range rows {
		in[tenantID{r.TenantID, r.ID}] = max(r.Until.Sub(b.at), time.Millisecond)
	}
	for _, r := range full {
		for n := range r.err.Full {
			f := &r.err.Full[n]
			f.In = in[tenantID{r.entry.Tenant, r.entry.Takes[f.Take].Counter}]
		}
	}
	return nil
}

// writeLimits writes what the entries take that are recorded.
func (b *batch) writeLimits(ctx context.Context) error {
	if len(b.counters) == 0 {
		return nil
	}
	deltas := make(map[tenantID]int64, len(b.counters))
	for id, c := range b.counters {
		if c.lapsed != 0 {
			deltas[id] = -c.lapsed
		}
	}
	p := gatewaydb.InsertLimitEntriesParams{TakenAt: b.at}
	for _, i := range b.live {
		e := b.entries[i]
		for _, t := range b.adds(e) {
			deltas[tenantID{e.Tenant, t.Counter}] += t.Amount
			p.TenantIds = append(p.TenantIds, e.Tenant)
			p.DecisionIds = append(p.DecisionIds, e.Decision.ID)
			p.CounterIds = append(p.CounterIds, t.Counter)
			p.EnvelopeIds = append(p.EnvelopeIds, e.Decision.Envelope)
			p.Units = append(p.Units, t.Unit())
			p.Amounts = append(p.Amounts, t.Amount)
			p.Keeps = append(p.Keeps, t.Limit.Keep || t.Limit.Kind == quota.Remember)
			p.Seconds = append(p.Seconds, t.Seconds)
			p.Pieces = append(p.Pieces, t.Piece)
			p.Zones = append(p.Zones, t.Limit.Zone)
		}
	}
	if len(p.CounterIds) > 0 {
		if err := b.q.InsertLimitEntries(ctx, p); err != nil {
			return fmt.Errorf("write %d parts of limits: %w", len(p.CounterIds), err)
		}
	}
	return countLimits(ctx, b.q, deltas)
}

func countLimits(ctx context.Context, q *gatewaydb.Queries, deltas map[tenantID]int64) error {
	var p gatewaydb.CountLimitsParams
	for id, delta := range deltas {
		if delta != 0 {
			p.TenantIds, p.Ids, p.Deltas = append(p.TenantIds, id.tenant), append(p.Ids, id.id), append(p.Deltas, delta)
		}
	}
	if len(p.Ids) == 0 {
		return nil
	}
	if err := q.CountLimits(ctx, p); err != nil {
		return fmt.Errorf("count on %d counters: %w", len(p.Ids), err)
	}
	return nil
}
