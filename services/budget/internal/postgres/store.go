// Package postgres keeps the ledger in Postgres: one transaction for every
// batch of operations, under row locks taken in one order everywhere.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/groupcommit"
	busv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/bus/v1"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/ledger"
)

// Result answers one op of a batch.
type Result = groupcommit.Result[ledger.Answer]

// Outbox writes events in the transaction of the change they tell of.
type Outbox func(ctx context.Context, tx db.Tx, events ...*busv1.Event) error

// Encode turns a fact of the ledger into what travels.
type Encode func(ledger.Event) *busv1.Event

// Options are what a Store hands its work to.
type Options struct {
	Outbox Outbox
	Encode Encode
	Plain  bool // never decide on balances in memory

	// Both may be nil.
	Committed func(changed []*ledger.Window, events int) // told what a committed batch changed: good until it returns
	Fast      func(worked bool)                          // told whether a batch decided on balances in memory held
}

// Store is the ledger's rows.
type Store struct {
	db       *db.DB
	catalogs *Catalogs
	Options
	there      *presence
	recent     *recent
	balances   *balances
	clockGuess *clockGuess
}

// New returns a Store over d, which the caller still owns.
func New(d *db.DB, catalogs *Catalogs, o Options) *Store {
	return &Store{db: d, catalogs: catalogs, Options: o, there: newPresence(), recent: newRecent(), balances: newBalances(), clockGuess: &clockGuess{}}
}

const (
	tries = 4 // of one batch, when the database or another instance gets in the way
	pause = 20 * time.Millisecond
)

// errStale says that a tenant's configuration moved on since it was loaded.
var errStale = errors.New("configuration moved on")

// errMoved says that a window ended since the time was last looked at, or that a
// reservation that was remembered is not there.
var errMoved = errors.New("time moved on")

// Flush commits ops together and answers each, in order. It is atomic: with an
// error nothing was done, or nobody knows and the same ops may be flushed
// again, because each is idempotent by its reservation's id. Corrections of
// charges follow in a transaction of their own, and fail for themselves.
func (s *Store) Flush(ctx context.Context, ops []ledger.Op) ([]Result, error) {
	results := make([]Result, len(ops))
	left, corrections := split(ops, s.known(ctx, ops, results))
	if len(left) > 0 && (s.Plain || !s.fast(ctx, ops, left, results)) {
		if err := s.flush(ctx, ops, left, results); err != nil {
			return results, err
		}
	}
	if len(corrections) > 0 && s.flush(ctx, ops, corrections, results) != nil {
		alone := make([][]int, len(corrections))
		for n, i := range corrections {
			alone[n] = []int{i}
		}
		return results, s.apart(ctx, ops, alone, results)
	}
	return results, nil
}

// split takes corrections of charges out of a batch. They lock rows of summaries
// by their keys as charges do; a transaction of both would lock them in two
// runs, the second not after the first, and could wait for one that waits for it.
func split(ops []ledger.Op, left []int) (others, corrections []int) {
	for _, i := range left {
		move, _ := ops[i].(*ledger.Move)
		if _, ok := ops[i].(*ledger.Correct); ok || move != nil && move.Reservation != uuid.Nil {
			corrections = append(corrections, i)
		} else {
			others = append(others, i)
		}
	}
	return others, corrections
}

// flush commits the ops at the indexes left, and tries again when that may help.
func (s *Store) flush(ctx context.Context, ops []ledger.Op, left []int, results []Result) error {
	for try := 1; ; try++ {
		err := s.once(ctx, ops, left, results)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, errStale), errors.Is(err, errMoved):
			if try < 2*tries {
				continue
			}
		case db.Is(err, lockTimeout):
			if groups := byTenant(ops, left); len(groups) > 1 {
				return s.apart(ctx, ops, groups, results)
			}
		case (db.Unavailable(err) || raced(err)) && try < tries:
			s.there.forget()
			if !sleep(ctx, time.Duration(try)*pause) {
				return down(err)
			}
			continue
		}
		if db.Unavailable(err) || raced(err) || errors.Is(err, errStale) || errors.Is(err, errMoved) {
			return down(err)
		}
		return err
	}
}

// lockTimeout is the SQLSTATE of a row lock that was not to be had in time.
const lockTimeout = "55P03"

// apart flushes each group by itself, so that only the one that cannot be
// written, or whose rows are held up by somebody, fails.
func (s *Store) apart(ctx context.Context, ops []ledger.Op, groups [][]int, results []Result) error {
	for _, group := range groups {
		if err := s.flush(ctx, ops, group, results); err != nil {
			for _, i := range group {
				results[i] = Result{Err: err}
			}
		}
	}
	return nil
}

// raced reports whether another instance wrote the same reservation between our
// look and our write. The next look finds it.
func raced(err error) bool {
	switch db.Constraint(err) {
	case "reservations_pkey", "reservation_renewals_pkey", "settlements_pkey",
		"charge_corrections_pkey", "charge_corrections_tenant_id_rerate_id_reservation_id_key",
		"envelope_slices_pkey", "ledger_movements_pkey":
		return true
	}
	return false
}

func down(err error) error {
	return fault.New(fault.Down, "the ledger cannot be written now; nothing was charged twice or lost, ask again").
		WithReason("LEDGER_UNAVAILABLE").WithRetry(time.Second).WithCause(err)
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// Ready loads what the ops of a tenant need, so that no batch waits for it. Its
// error is a fault.
func (s *Store) Ready(ctx context.Context, tenant uuid.UUID) error {
	if _, err := s.catalogs.Of(ctx, tenant); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return down(err)
	}
	return nil
}

// known answers the ops of tenants whose configuration cannot be had, and
// returns the others' indexes.
func (s *Store) known(ctx context.Context, ops []ledger.Op, results []Result) []int {
	left := make([]int, 0, len(ops))
	failed := make(map[uuid.UUID]error)
	for i, op := range ops {
		tenant := op.Of().Tenant
		err, seen := failed[tenant]
		if !seen {
			err = s.Ready(ctx, tenant)
			failed[tenant] = err
		}
		if err != nil {
			results[i] = Result{Err: err}
			continue
		}
		left = append(left, i)
	}
	return left
}

// once is one transaction.
func (s *Store) once(ctx context.Context, ops []ledger.Op, left []int, results []Result) error {
	batch := &batch{Store: s, ops: ops, left: left}
	batch.collect()
	guessed := batch.guess()
	batch.began = time.Now()
	err := s.db.WithTenants(ctx, batch.tenants, func(ctx context.Context, tx db.Tx) error {
		if !guessed {
			if err := batch.look(ctx, tx); err != nil {
				return fmt.Errorf("look up a batch: %w", err)
			}
		}
		batch.prepare()
		if err := batch.lock(ctx, tx, batch.missing(), guessed); err != nil {
			return fmt.Errorf("lock the windows of a batch: %w", err)
		}
		for _, i := range left {
			results[i].Value, results[i].Err = ops[i].Apply(&batch.books)
		}
		if err := batch.write(ctx, tx); err != nil {
			return fmt.Errorf("write a batch: %w", err)
		}
		return nil
	})
	if err == nil {
		batch.committed()
		return nil
	}
	s.balances.drop(batch.locked, false, nil)
	if errors.Is(err, errStale) {
		for _, tenant := range batch.stale {
			if _, err := s.catalogs.Load(ctx, tenant); err != nil {
				return down(err)
			}
		}
	}
	return err
}

// byTenant splits indexes by the tenant of their op.
func byTenant(ops []ledger.Op, left []int) [][]int {
	groups := make(map[uuid.UUID][]int)
	for _, i := range left {
		tenant := ops[i].Of().Tenant
		groups[tenant] = append(groups[tenant], i)
	}
	out := make([][]int, 0, len(groups))
	for _, g := range groups {
		out = append(out, g)
	}
	slices.SortFunc(out, func(a, b []int) int { return a[0] - b[0] })
	return out
}
