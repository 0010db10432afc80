package postgres

import (
	"context"
	"time"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/budgetdb"
	busv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/bus/v1"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/calendar"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/ledger"
)

// fast decides a batch on the balances in memory and writes it in a single
// round trip, without looking anything up. It reports whether that worked; if
// not, nothing was done, or nobody knows, and the batch goes the plain way.
//
// Memory may be wrong: each window is saved only at the version that was
// decided on, primary keys refuse a hold or an end that is there already, and a
// guard refuses another time or configuration. Any of them undoes everything.
// A refusal, or anything else that is not plainly granted, is never answered
// from memory.
func (s *Store) fast(ctx context.Context, ops []ledger.Op, left []int, results []Result) bool {
	b := &batch{Store: s, ops: ops, left: left}
	b.collect()
	if !s.balances.trusted(b.tenants) || !b.recall() {
		return false
	}
	answers := make([]ledger.Answer, len(left))
	for n, i := range left {
		var err error
		if answers[n], err = ops[i].Apply(&b.books); err != nil {
			return false
		}
		if _, ok := ops[i].(*ledger.Reserve); ok && !answers[n].Granted {
			return false
		}
	}
	err := b.save(ctx)
	if s.Fast != nil {
		s.Fast(err == nil)
	}
	if err != nil {
		wrong := db.Constraint(err) == "budget_windows_version"
		s.balances.drop(b.locked, wrong, b.tenants)
		return false
	}
	s.balances.trust(b.tenants)
	b.committed()
	for n, i := range left {
		results[i] = Result{Value: answers[n]}
	}
	return true
}

// recall fills the books from memory, and reports whether it knew all.
func (b *batch) recall() bool {
	now, known := b.clockGuess.now()
	if !known {
		return false
	}
	b.books.Now = now.Truncate(time.Microsecond) // as exact as the database
	for _, i := range b.left {
		switch b.ops[i].(type) {
		case *ledger.Renew, *ledger.Expire, *ledger.Correct, *ledger.TakeSlice, *ledger.ReturnSlice, *ledger.Move:
			return false
		}
	}
	for i, id := range b.old.ids {
		ref := ledger.Ref{Tenant: b.old.tenants[i], ID: id}
		m, known := b.recent.get(ref)
		if !known || m.ended {
			return false
		}
		b.books.Reservations[ref] = m.reservation
	}
	b.prepare()
	for _, key := range b.locked {
		w := b.balances.get(key)
		if w == nil {
			return false
		}
		b.books.Windows[key] = w
	}
	return true
}

// save writes everything as one implicit transaction.
func (b *batch) save(ctx context.Context) error {
	w := &b.books.Writes
	steps := append([]step{b.guard()}, b.windowWrites()...)
	steps = append(steps, b.ledgerWrites(w)...)
	events := make([]*busv1.Event, len(w.Events))
	for i, e := range w.Events {
		events[i] = b.Encode(e)
	}
	return b.db.OneTenants(ctx, b.tenants, func(ctx context.Context, tx db.Tx) error {
		return pipelined(ctx, tx, steps, func(ctx context.Context, tx db.Tx) error {
			return b.Outbox(ctx, tx, events...)
		})
	})
}

// guard fails the batch if its time or configuration are not those of now.
func (b *batch) guard() step {
	arg := budgetdb.LedgerGuardParams{
		NotBefore: calendar.Always, NotAfter: calendar.Never, Believed: b.books.Now,
		Tenants: b.tenants, Versions: make([]int64, len(b.tenants)),
	}
	for i, tenant := range b.tenants {
		arg.Versions[i] = b.books.Catalogs[tenant].Version
	}
	for _, d := range b.draws {
		if d.Placed && d.Span.Start.After(arg.NotBefore) {
			arg.NotBefore = d.Span.Start
		}
		if d.Placed && d.Span.End.Before(arg.NotAfter) {
			arg.NotAfter = d.Span.End
		}
		if d.Budget == nil || len(d.Budget.Overrides) == 0 {
			continue
		}
		steady := d.Budget.Steady(b.books.Now)
		if steady.Start.After(arg.NotBefore) {
			arg.NotBefore = steady.Start
		}
		if steady.End.Before(arg.NotAfter) {
			arg.NotAfter = steady.End
		}
	}
	return func(ctx context.Context, q *budgetdb.Queries) error {
		now, err := q.LedgerGuard(ctx, arg)
		if err == nil {
			b.clockGuess.set(now.UTC())
		}
		return err
	}
}

// committed keeps in memory what a committed batch wrote, and tells of it.
func (b *batch) committed() {
	b.there.add(b.locked)
	b.recent.add(&b.books.Writes)
	changed := b.changed()
	b.balances.put(b.books.Windows, b.locked)
	if b.Committed != nil {
		b.Committed(changed, len(b.books.Writes.Events))
	}
}
