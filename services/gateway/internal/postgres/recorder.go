package postgres

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/gatewaydb"
	"github.com/fulcrum-io/fulcrum/pkg/groupcommit"
	"github.com/fulcrum-io/fulcrum/pkg/outbox"

	"github.com/fulcrum-io/fulcrum/services/gateway/internal/decision"
)

// Recorder records entries, all that wait in one transaction. Run must be
// running for Record to return.
//
// Entries that count on limits, or add to the histories of fields, wait for each
// other's rows, so they are recorded apart: who has neither never waits for who has.
type Recorder struct {
	loop, limited *groupcommit.Loop[*decision.Entry, decision.Recorded]
}

// NewRecorder returns a Recorder over the store's database. It does nothing
// until Run.
func NewRecorder(s *Store, o groupcommit.Options) *Recorder {
	o.Isolate = true // a batch is one transaction, so one bad entry can be told from the others
	loop := func() *groupcommit.Loop[*decision.Entry, decision.Recorded] {
		return groupcommit.New(s.flush, o).FairBy(func(e *decision.Entry) string { return string(e.Tenant[:]) })
	}
	return &Recorder{loop: loop(), limited: loop()}
}

// Run records until ctx ends, and then what is queued.
func (r *Recorder) Run(ctx context.Context) error {
	var both sync.WaitGroup
	var limited error
	both.Go(func() { limited = r.limited.Run(ctx) })
	err := r.loop.Run(ctx)
	both.Wait()
	return errors.Join(err, limited)
}

// Record implements decision.Recorder.
func (r *Recorder) Record(ctx context.Context, e *decision.Entry) (decision.Recorded, error) {
	if len(e.Takes) > 0 || e.Ends != nil || len(e.Learns) > 0 {
		return r.limited.Do(ctx, e)
	}
	return r.loop.Do(ctx, e)
}

type result = groupcommit.Result[decision.Recorded]

// claimID tells claims of one batch apart.
type claimID struct {
	tenant     uuid.UUID
	scope, key string
}

func idOf(e *decision.Entry) claimID { return claimID{e.Tenant, e.Claim.Scope, e.Claim.Key} }

// flush records a batch in one transaction over all its tenants.
func (s *Store) flush(ctx context.Context, entries []*decision.Entry) ([]result, error) {
	b := &batch{entries: entries, results: make([]result, len(entries))}
	b.prepare()
	done, err := s.quick(ctx, b)
	if done || err != nil {
		return s.finish(ctx, b, err)
	}
	err = s.db.Pipelined(ctx, b.tenants, func(ctx context.Context, tx db.Tx) error {
		b.begin()
		b.q, b.tx = gatewaydb.New(tx), tx
		for _, step := range []func(context.Context) error{b.claim, b.limits, b.useApprovals, b.open, b.move, b.decisions, b.askApprovals, b.writeLimits, b.learn} {
			if err := step(ctx); err != nil {
				return err
			}
		}
		return outbox.Append(ctx, tx, b.events...)
	})
	return s.finish(ctx, b, err)
}

// finish answers the batch once it is committed, or was not.
func (s *Store) finish(ctx context.Context, b *batch, err error) ([]result, error) {
	if err != nil {
		return nil, away(fmt.Sprintf("record %d entries", len(b.entries)), err)
	}
	s.later(ctx, b)
	s.nudge()
	return b.results, nil
}
