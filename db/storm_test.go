package db_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/dbtest"
)

// Whatever happens to callers and connections, nobody ever reads a row of
// another tenant: 8 workers on 4 connections, contexts cancelled in flight,
// panics in transactions, forgotten tenants, backends killed.
func TestNoStormLeaksATenant(t *testing.T) {
	t.Parallel()
	lasting := 3 * time.Second
	if s := os.Getenv("FULCRUM_STORM"); s != "" { // e.g. 60s, before a release
		var err error
		if lasting, err = time.ParseDuration(s); err != nil {
			t.Fatal(err)
		}
	}
	d := dbtest.NewWith(t, db.Options{MaxConns: 4, Acquire: 10 * time.Second})
	var tenants []uuid.UUID
	for range 6 {
		id := uuid.New()
		tenants = append(tenants, id)
		dbtest.Admin(t, d, fmt.Sprintf(`insert into fulcrum.inbox (tenant_id, consumer, event_id) select '%s', 'seed', gen_random_uuid() from generate_series(1, 20)`, id))
	}

	s := &storm{d: d, tenants: tenants}
	end := time.Now().Add(lasting)
	blows := func() bool { // on, on a slow machine, until all of it has happened
		return time.Now().Before(end) || !s.whole() && time.Now().Before(end.Add(time.Minute))
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for blows() {
				s.call(t)
			}
		})
	}
	wg.Go(func() { s.kill(t, blows) })
	wg.Wait()
	t.Logf("ok %d, refused %d, cancelled %d, cut %d, panicked %d, killed %d, foreign %d",
		s.ok.Load(), s.refused.Load(), s.cancelled.Load(), s.cut.Load(), s.panicked.Load(), s.killed.Load(), s.foreign.Load())
	if s.foreign.Load() != 0 {
		t.Errorf("%d rows of other tenants were read", s.foreign.Load())
	}
	if !s.whole() {
		t.Error("part of the storm never happened")
	}
}

type storm struct {
	d                                                      *dbtest.Database
	tenants                                                []uuid.UUID
	ok, refused, cancelled, cut, panicked, killed, foreign atomic.Int64
}

// whole reports whether each part of the storm has happened.
func (s *storm) whole() bool {
	return s.ok.Load() > 0 && s.refused.Load() > 0 && s.cancelled.Load() > 0 && s.panicked.Load() > 0 && s.killed.Load() > 0
}

const look = `select tenant_id from fulcrum.inbox limit 50` // deliberately without its own condition

func (s *storm) call(t *testing.T) {
	mine := s.tenants[rand.N(len(s.tenants))]
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if rand.N(3) == 0 {
		timer := time.AfterFunc(rand.N(2*time.Millisecond), cancel)
		defer timer.Stop()
	}
	defer func() {
		if recover() != nil {
			s.panicked.Add(1)
		}
	}()
	doors := []func(context.Context, uuid.UUID, func(context.Context, db.Tx) error) error{
		s.d.DB.WithTenant, s.d.DB.Read, s.d.DB.One,
		func(ctx context.Context, id uuid.UUID, fn func(context.Context, db.Tx) error) error {
			return s.d.DB.WithTenants(ctx, []uuid.UUID{id}, fn)
		},
		func(ctx context.Context, id uuid.UUID, fn func(context.Context, db.Tx) error) error {
			return s.d.DB.OneTenants(ctx, []uuid.UUID{id}, fn)
		},
	}
	door := doors[rand.N(len(doors))]
	forgot := rand.N(4) == 0
	if forgot {
		door = func(ctx context.Context, _ uuid.UUID, fn func(context.Context, db.Tx) error) error {
			if rand.N(2) == 0 {
				return s.d.DB.Global(ctx, fn)
			}
			return s.d.DB.GlobalOne(ctx, fn)
		}
	}
	err := door(ctx, mine, func(ctx context.Context, tx db.Tx) error {
		rows, err := tx.Query(ctx, look)
		if err != nil {
			return err
		}
		var tenant uuid.UUID
		_, err = pgx.ForEachRow(rows, []any{&tenant}, func() error {
			if forgot || tenant != mine {
				s.foreign.Add(1)
			}
			return nil
		})
		if err == nil && rand.N(20) == 0 {
			panic("storm")
		}
		return err
	})
	s.count(t, ctx, forgot, err)
}

func (s *storm) count(t *testing.T, ctx context.Context, forgot bool, err error) {
	switch {
	case err == nil && forgot:
		t.Error("a transaction without a tenant read the table")
	case err == nil:
		s.ok.Add(1)
	case db.Is(err, "FT001"):
		s.refused.Add(1)
		if !forgot {
			t.Errorf("a tenant was lost: %v", err)
		}
	case ctx.Err() != nil:
		s.cancelled.Add(1)
		if !errors.Is(err, context.Canceled) && !db.Is(err, "57014") && !db.Is(err, "57P01") { // it may have been killed just before
			t.Errorf("cancelled, got %v", err)
		}
	case db.Unavailable(err):
		s.cut.Add(1)
	default:
		t.Errorf("unexpected: %v", err)
	}
}

// kill ends one of the pool's backends every 50 ms.
func (s *storm) kill(t *testing.T, blows func() bool) {
	admin, err := pgx.Connect(t.Context(), s.d.AdminURL)
	if err != nil {
		t.Error(err)
		return
	}
	defer admin.Close(context.WithoutCancel(t.Context()))
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for ; blows(); <-tick.C {
		var n int64
		err := admin.QueryRow(t.Context(), `
			select count(*) filter (where pg_terminate_backend(pid)) from (
				select pid from pg_stat_activity where datname = current_database() and usename = 'fulcrum_app' order by random() limit 1
			) one`).Scan(&n)
		if err != nil {
			t.Error(err)
			return
		}
		s.killed.Add(n)
	}
}
