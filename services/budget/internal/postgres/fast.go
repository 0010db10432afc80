package postgres

import (
	"context"
	"slices"
	"time"

	"github.com/fulcrum-io/fulcrum/db"
	busv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/bus/v1"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/ledger"
)

// fast decides a batch on the balances in memory and writes it in a single
// round trip, without looking anything up. It reports whether that worked; if
// not, nothing was done, or nobody knows, there are no results, and the batch goes
// the plain way.
//
// Memory may be wrong: each window is saved only at the version that was
// decided on, primary keys refuse a hold or an end that is there already, and a
// guard refuses another time or configuration. Any of them undoes everything.
// A refusal, or anything else that is not plainly granted, is never answered
// from memory.
func (s *Store) fast(ctx context.Context, ops []ledger.Op, left []int, results []Result) (worked bool) {
	defer func() {
		for n := 0; n < len(left) && !worked; n++ {
			results[left[n]] = Result{}
		}
	}()
	b := &batch{Store: s, ops: ops, left: left, desk: desks.Get().(*desk)}
	defer b.desk.leave()
	b.open()
	if !s.balances.trusted(b.tenants) || !b.recall() {
		return false
	}
	for _, i := range left {
		r := &results[i]
		if r.Value, r.Err = ops[i].Apply(&b.books); r.Err != nil {
			return false
		}
		if _, ok := ops[i].(*ledger.Reserve); ok && !r.Value.Granted {
			return false
		}
	}
	err := b.save(ctx)
	if s.Fast != nil {
		s.Fast(err == nil)
	}
	if err != nil {
		wrong := db.Is(err, "FT023")
		s.balances.drop(b.locked, wrong, b.tenants)
		return false
	}
	s.balances.trust(b.tenants)
	b.committed()
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
		case *ledger.Reserve:
		case *ledger.Settle, *ledger.Release:
			ref := b.ops[i].Of()
			m, known := b.recent.get(ref)
			if !known || m.ended {
				return false
			}
			b.books.Reservations[ref] = m.reservation
		default:
			return false
		}
	}
	b.prepare()
	b.recalled = b.desk.lay(b.balances, b.locked)
	return b.recalled
}

// aheadFrom is the number of ops from which on the windows are sent ahead: for
// fewer, waking the server twice costs as much as what it does meanwhile saves.
const aheadFrom = 32

// save writes everything as one implicit transaction, which fails if the batch's
// time or configuration are not those of now. The server saves the windows while
// the rest is still put together.
func (b *batch) save(ctx context.Context) error {
	g := b.guard()
	windows := b.windowWrites(g)
	if len(windows) == 0 || b.clockGuess.old() {
		return b.saveAndAsk(ctx, g, windows)
	}
	return b.db.Streamed(ctx, b.tenants, func(ctx context.Context, s *db.Stream) error {
		return ahead(ctx, s, windows, len(b.left) >= aheadFrom, func() []step { return b.ledgerWrites(&b.books.Writes) }, b.sendEvents, b.recent.pack)
	})
}

// saveAndAsk is save, and asks for the database's time.
func (b *batch) saveAndAsk(ctx context.Context, g guard, windows []step) error {
	steps := slices.Concat([]step{b.ask(g)}, windows, b.ledgerWrites(&b.books.Writes))
	return b.db.OncePlanned(ctx, b.tenants, func(ctx context.Context, tx db.Tx) error {
		b.began = time.Now() // with a connection
		return pipelinedWhile(ctx, tx, steps, b.sendEvents, b.recent.pack)
	})
}

func (b *batch) sendEvents(ctx context.Context, tx db.Tx) error {
	events := make([]*busv1.Event, len(b.books.Writes.Events))
	for i, e := range b.books.Writes.Events {
		events[i] = b.Encode(e)
	}
	return b.Outbox(ctx, tx, events...)
}

// committed keeps in memory what a committed batch wrote, and tells of it.
func (b *batch) committed() {
	if !b.recalled { // memory has what has a row
		b.there.add(b.locked)
	}
	b.recent.add(&b.books.Writes)
	changed := b.changed()
	b.balances.put(b.books.Windows, b.locked)
	if b.Committed != nil {
		b.Committed(changed, len(b.books.Writes.Events))
	}
}
