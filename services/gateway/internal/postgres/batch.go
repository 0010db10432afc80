package postgres

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/gatewaydb"
	busv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/bus/v1"

	"github.com/fulcrum-io/fulcrum/services/gateway/internal/approval"
	"github.com/fulcrum-io/fulcrum/services/gateway/internal/decision"
	"github.com/fulcrum-io/fulcrum/services/gateway/internal/envelope"
)

// batch is one flush on its way.
type batch struct {
	entries []*decision.Entry
	results []result
	tenants []uuid.UUID
	order   []int // entries with their keys in one order everywhere: no two flushes wait for each other
	twins   []int // entries whose key is an earlier entry's as well

	// From here on everything is set anew when the transaction begins.
	q      *gatewaydb.Queries
	tx     db.Tx
	live   []int // entries that are being recorded
	events []*busv1.Event

	counters map[tenantID]*counter // locked
	at       time.Time             // of what limits take
}

func (b *batch) prepare() {
	firsts := make(map[claimID]bool, len(b.entries))
	for i, e := range b.entries {
		if e.Claim != nil {
			if firsts[idOf(e)] {
				b.twins = append(b.twins, i)
				continue
			}
			firsts[idOf(e)] = true
		}
		b.order = append(b.order, i)
		b.tenants = append(b.tenants, e.Tenant)
	}
	slices.SortFunc(b.tenants, func(x, y uuid.UUID) int { return bytes.Compare(x[:], y[:]) })
	b.tenants = slices.Compact(b.tenants)
	slices.SortStableFunc(b.order, func(i, j int) int { return bytes.Compare(b.entries[i].Tenant[:], b.entries[j].Tenant[:]) })
}

func (b *batch) begin() {
	clear(b.results)
	b.live, b.events, b.counters = b.live[:0], nil, nil
}

// drop leaves an entry out of the transaction, with an answer.
func (b *batch) drop(i int, r decision.Recorded, err error) {
	b.results[i] = result{Value: r, Err: err}
}

// claim takes the keys of the batch. An entry whose key is somebody else's by
// now, or whose envelope has ended, is not recorded.
func (b *batch) claim(ctx context.Context) error {
	var p gatewaydb.ClaimKeysParams
	var claimed []int
	for _, i := range b.order {
		e := b.entries[i]
		if e.Claim == nil {
			b.live = append(b.live, i)
			continue
		}
		claimed = append(claimed, i)
		p.TenantIds = append(p.TenantIds, e.Tenant)
		p.Scopes = append(p.Scopes, e.Claim.Scope)
		p.Keys = append(p.Keys, e.Claim.Key)
		p.Hashes = append(p.Hashes, e.Claim.Hash[:])
		p.Responses = append(p.Responses, e.Claim.Response)
		p.Attempts = append(p.Attempts, e.Claim.Attempt)
		p.OpenEnvelopes = append(p.OpenEnvelopes, e.Claim.OpenEnvelope)
	}
	if len(claimed) == 0 {
		return nil
	}
	rows, err := b.q.ClaimKeys(ctx, p)
	if err != nil {
		return fmt.Errorf("claim %d keys: %w", len(claimed), err)
	}
	taken := make(map[claimID]bool, len(rows))
	for _, r := range rows {
		taken[claimID{r.TenantID, r.Scope, r.Key}] = true
	}
	var lost []int
	for _, i := range claimed {
		if taken[idOf(b.entries[i])] {
			b.live = append(b.live, i)
		} else {
			lost = append(lost, i)
		}
	}
	return b.explain(ctx, lost)
}

// explain answers entries whose claim was not taken.
func (b *batch) explain(ctx context.Context, lost []int) error {
	if len(lost) == 0 {
		return nil
	}
	var p gatewaydb.FindKeysParams
	for _, i := range lost {
		e := b.entries[i]
		p.TenantIds = append(p.TenantIds, e.Tenant)
		p.Scopes = append(p.Scopes, e.Claim.Scope)
		p.Keys = append(p.Keys, e.Claim.Key)
	}
	rows, err := b.q.FindKeys(ctx, p)
	if err != nil {
		return fmt.Errorf("find %d keys: %w", len(lost), err)
	}
	found := make(map[claimID]gatewaydb.FindKeysRow, len(rows))
	for _, r := range rows {
		found[claimID{r.TenantID, r.Scope, r.Key}] = r
	}
	for _, i := range lost {
		e := b.entries[i]
		r, ok := found[idOf(e)]
		switch {
		case ok && r.Answered && bytes.Equal(r.RequestHash, e.Claim.Hash[:]):
			b.drop(i, decision.Recorded{Stored: r.Response}, nil)
		case ok && r.Answered:
			b.drop(i, decision.Recorded{}, decision.ErrKeyReused)
		case ok && r.Attempt != e.Claim.Attempt:
			b.drop(i, decision.Recorded{}, decision.ErrGivenUp)
		default:
			b.drop(i, decision.Recorded{}, decision.ErrEnvelopeEnded)
		}
	}
	return nil
}

// useApprovals uses approvals up; entries whose approval cannot be are left out.
func (b *batch) useApprovals(ctx context.Context) error {
	var p gatewaydb.ConsumeApprovalsParams
	for _, i := range b.live {
		if u := b.entries[i].Use; u != nil {
			p.TenantIds = append(p.TenantIds, b.entries[i].Tenant)
			p.Ids = append(p.Ids, u.Approval)
			p.Digests = append(p.Digests, u.Digest[:])
			p.DecisionIds = append(p.DecisionIds, u.Decision)
		}
	}
	if len(p.Ids) == 0 {
		return nil
	}
	rows, err := b.q.ConsumeApprovals(ctx, p)
	if err != nil {
		return fmt.Errorf("use %d approvals: %w", len(p.Ids), err)
	}
	used := make(map[uuid.UUID]bool, len(rows))
	for _, r := range rows {
		used[r.DecisionID] = true
	}
	return b.keep(ctx, func(e *decision.Entry) error {
		if e.Use == nil || used[e.Use.Decision] {
			return nil
		}
		return approval.ErrUsed
	})
}

// keep leaves out the live entries that ok objects to, and frees their keys.
func (b *batch) keep(ctx context.Context, ok func(*decision.Entry) error) error {
	live := b.live[:0]
	for _, i := range b.live {
		e := b.entries[i]
		err := ok(e)
		if err == nil {
			live = append(live, i)
			continue
		}
		b.drop(i, decision.Recorded{}, err)
		if e.Claim != nil {
			if err := b.q.DropKey(ctx, gatewaydb.DropKeyParams{TenantID: e.Tenant, Scope: e.Claim.Scope, Key: e.Claim.Key}); err != nil {
				return fmt.Errorf("free key: %w", err)
			}
		}
	}
	b.live = live
	return nil
}

// open creates envelopes. Children are counted on their root first, whose row
// is locked by that, so that no tree grows beyond its limit.
func (b *batch) open(ctx context.Context) error {
	full := make(map[*decision.Entry]bool)
	children := slices.DeleteFunc(slices.Clone(b.live), func(i int) bool {
		e := b.entries[i].Open
		return e == nil || e.Parent == uuid.Nil
	})
	slices.SortFunc(children, func(i, j int) int {
		return bytes.Compare(b.entries[i].Open.Root[:], b.entries[j].Open.Root[:])
	})
	for _, i := range children {
		e := b.entries[i]
		counted, err := b.q.CountDescendant(ctx, gatewaydb.CountDescendantParams{TenantID: e.Tenant, RootID: e.Open.Root})
		if err != nil {
			return fmt.Errorf("count descendant: %w", err)
		}
		full[e] = len(counted) == 0
	}
	if len(full) > 0 {
		if err := b.keep(ctx, func(e *decision.Entry) error {
			if full[e] {
				return envelope.ErrTreeFull
			}
			return nil
		}); err != nil {
			return err
		}
	}
	var p gatewaydb.InsertEnvelopesParams
	for _, i := range b.live {
		if e := b.entries[i].Open; e != nil {
			if err := addEnvelope(&p, b.entries[i].Tenant, e); err != nil {
				return err
			}
		}
	}
	if len(p.Ids) == 0 {
		return nil
	}
	if err := b.q.InsertEnvelopes(ctx, p); err != nil {
		return fmt.Errorf("open %d envelopes: %w", len(p.Ids), err)
	}
	return nil
}

// move makes the moves of all entries, round by round: the first of each, then
// the second. A move that is not allowed any more is left out.
func (b *batch) move(ctx context.Context) error {
	for round := 0; ; round++ {
		want := make(map[tenantID]step)
		var order []tenantID
		for _, i := range b.live {
			e := b.entries[i]
			if round >= len(e.Moves) {
				continue
			}
			m := e.Moves[round]
			id := tenantID{e.Tenant, m.Envelope}
			if old, ok := want[id]; !ok {
				order = append(order, id)
			} else if old.move.To.Forced() { // nothing outdoes a forced end
				continue
			}
			want[id] = step{move: m, by: i}
		}
		if len(want) == 0 {
			return nil
		}
		done, err := moveEnvelopes(ctx, b.q, order, want)
		if err != nil {
			return err
		}
		b.events = append(b.events, done.events...)
		for id, m := range done.made {
			by := want[id].by
			b.results[by].Value.Moved = append(b.results[by].Value.Moved, m)
		}
	}
}

func (b *batch) decisions(ctx context.Context) error {
	var p gatewaydb.InsertDecisionsParams
	for _, i := range b.live {
		b.events = append(b.events, b.entries[i].Events...)
		if d := b.entries[i].Decision; d != nil {
			if err := addDecision(&p, b.entries[i].Tenant, d); err != nil {
				return err
			}
		}
	}
	if len(p.Ids) == 0 {
		return nil
	}
	if err := b.q.InsertDecisions(ctx, p); err != nil {
		return fmt.Errorf("record %d decisions: %w", len(p.Ids), err)
	}
	return nil
}

func (b *batch) askApprovals(ctx context.Context) error {
	var p gatewaydb.InsertApprovalsParams
	for _, i := range b.live {
		if r := b.entries[i].Ask; r != nil {
			if err := addApproval(&p, b.entries[i].Tenant, r); err != nil {
				return err
			}
		}
	}
	if len(p.Ids) == 0 {
		return nil
	}
	if err := b.q.InsertApprovals(ctx, p); err != nil {
		return fmt.Errorf("ask for %d approvals: %w", len(p.Ids), err)
	}
	return nil
}

// later records the entries whose key was an earlier entry's of the same batch,
// now that the earlier ones are committed: each finds what became of its key.
func (s *Store) later(ctx context.Context, b *batch) {
	if len(b.twins) == 0 {
		return
	}
	entries := make([]*decision.Entry, len(b.twins))
	for k, i := range b.twins {
		entries[k] = b.entries[i]
	}
	results, err := s.flush(ctx, entries)
	for k, i := range b.twins {
		if err != nil {
			b.drop(i, decision.Recorded{}, err)
		} else {
			b.results[i] = results[k]
		}
	}
}

func text(m map[string]string) (string, error) {
	if len(m) == 0 {
		return "{}", nil
	}
	raw, err := json.Marshal(m)
	return string(raw), err
}
