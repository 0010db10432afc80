package postgres

import (
	"context"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/gatewaydb"
	"github.com/fulcrum-io/fulcrum/pkg/outbox"
)

// quick records a batch in one round trip, since nothing of it needs an answer;
// or it reports that it cannot, and nothing of the batch is done then. It is for
// what nearly every batch is: decisions under new keys, in envelopes that are
// open and stay where they are.
func (s *Store) quick(ctx context.Context, b *batch) (done bool, err error) {
	if !b.plain() {
		return false, nil
	}
	err = s.db.Pipelined(ctx, b.tenants, func(ctx context.Context, tx db.Tx) error {
		b.begin()
		b.live = append(b.live, b.order...)
		b.q, b.tx = gatewaydb.New(tx), tx
		for _, step := range []func(context.Context) error{b.q.PlanOnce, b.insertKeys, b.open, b.decisions, b.askApprovals, b.learn} {
			if err := step(ctx); err != nil {
				return err
			}
		}
		return outbox.Append(ctx, tx, b.events...)
	})
	// A key that is not new, or an envelope that has ended: the long way finds
	// out which, and what to answer.
	if db.Is(err, "23505") || db.Is(err, "23502") {
		return false, nil
	}
	return err == nil, err
}

// plain reports whether no entry of the batch moves an envelope, uses an
// approval up, opens a child, or takes of limits or gives back to them.
func (b *batch) plain() bool {
	for _, e := range b.entries {
		if len(e.Moves) > 0 || e.Use != nil || len(e.Takes) > 0 || e.Ends != nil || e.Open != nil && e.Open.Parent != uuid.Nil {
			return false
		}
	}
	return true
}

func (b *batch) insertKeys(ctx context.Context) error {
	var p gatewaydb.InsertKeysParams
	for _, i := range b.live {
		c := b.entries[i].Claim
		if c == nil {
			continue
		}
		p.TenantIds = append(p.TenantIds, b.entries[i].Tenant)
		p.Scopes = append(p.Scopes, c.Scope)
		p.Keys = append(p.Keys, c.Key)
		p.Hashes = append(p.Hashes, c.Hash[:])
		p.Responses = append(p.Responses, c.Response)
		p.Attempts = append(p.Attempts, c.Attempt)
		p.OpenEnvelopes = append(p.OpenEnvelopes, c.OpenEnvelope)
	}
	if len(p.Keys) == 0 {
		return nil
	}
	return b.q.InsertKeys(ctx, p)
}
