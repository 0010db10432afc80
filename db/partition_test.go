package db_test

import (
	"context"
	"testing"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/dbtest"
)

// Partitions come in time, by anybody's call; a row that came before its
// partition moves into it; and the app reads none of them directly.
func TestPartitionsAreMadeAndGuarded(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	migrate := connect(t, d.MigrateURL)
	for _, sql := range []string{
		`set role fulcrum_owner`,
		`create table fulcrum.timed (tenant_id uuid not null, id uuid not null, at timestamptz not null, n bigint generated always as (1) stored, primary key (tenant_id, id, at)) partition by range (at)`,
		`create index on fulcrum.timed (tenant_id, at)`,
		`select fulcrum.protect_list('fulcrum.timed')`,
		`grant select, insert, delete on fulcrum.timed to fulcrum_app`,
	} {
		if _, err := migrate.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	ensure := func(behind, ahead int) (made int) {
		t.Helper()
		err := d.DB.GlobalOne(t.Context(), func(ctx context.Context, tx db.Tx) error {
			return tx.QueryRow(ctx, `select fulcrum.ensure_partitions('fulcrum.timed', $1, $2)`, behind, ahead).Scan(&made)
		})
		if err != nil {
			t.Fatal(err)
		}
		return made
	}
	if made := ensure(0, 0); made != 2 {
		t.Errorf("%d made, want this month and the default", made)
	}
	tenant := uuid.New()
	insert := func(when string) {
		t.Helper()
		err := d.DB.One(t.Context(), tenant, func(ctx context.Context, tx db.Tx) error {
			_, err := tx.Exec(ctx, `insert into fulcrum.timed (tenant_id, id, at) values ($1, gen_random_uuid(), `+when+`)`, tenant)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	insert(`now()`)
	insert(`now() + interval '1 month'`)
	insert(`now() - interval '2 years'`)
	if n := dbtest.Count(t, d, `select count(*) from fulcrum.timed_default`); n != 2 {
		t.Errorf("%d rows in the default, want 2", n)
	}
	g, ctx := errgroup.WithContext(t.Context())
	for range 4 {
		g.Go(func() error {
			return d.DB.GlobalOne(ctx, func(ctx context.Context, tx db.Tx) error {
				_, err := tx.Exec(ctx, `select fulcrum.ensure_partitions('fulcrum.timed')`)
				return err
			})
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	if n := dbtest.Count(t, d, `select count(*) from fulcrum.timed_default`); n != 1 {
		t.Errorf("%d rows in the default, want only the old one", n)
	}
	if made := ensure(1, 2); made != 0 {
		t.Errorf("%d made again", made)
	}
	if n := dbtest.Count(t, d, `select count(*) from pg_inherits where inhparent = 'fulcrum.timed'::regclass`); n != 5 {
		t.Errorf("%d partitions, want 4 months and the default", n)
	}

	err := d.DB.One(t.Context(), tenant, func(ctx context.Context, tx db.Tx) error {
		_, err := tx.Exec(ctx, `select 1 from fulcrum.timed_default`)
		return err
	})
	if !db.Is(err, "42501") {
		t.Errorf("reading a partition: got %v, want 42501", err)
	}
	dbtest.Admin(t, d, `grant select on fulcrum.timed_default to fulcrum_app`) // by mistake
	err = d.DB.One(t.Context(), uuid.New(), func(ctx context.Context, tx db.Tx) error {
		var n int
		if err := tx.QueryRow(ctx, `select count(*) from fulcrum.timed_default`).Scan(&n); n != 0 {
			t.Errorf("a grant by mistake shows %d rows", n)
			return err
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	dbtest.Admin(t, d, `revoke select on fulcrum.timed_default from fulcrum_app`)
	found, err := db.Lint(t.Context(), d.AppURL)
	if err != nil || len(found) != 0 {
		t.Errorf("lint: %v, %v", found, err)
	}

	var dropped int
	if err := migrate.QueryRow(t.Context(), `select fulcrum.drop_partitions('fulcrum.timed', now())`).Scan(&dropped); err != nil || dropped != 1 {
		t.Errorf("%d dropped, %v; want the month before this one", dropped, err)
	}
	err = d.DB.GlobalOne(t.Context(), func(ctx context.Context, tx db.Tx) error {
		_, err := tx.Exec(ctx, `select fulcrum.drop_partitions('fulcrum.timed', now())`)
		return err
	})
	if !db.Is(err, "42501") {
		t.Errorf("the app dropping partitions: got %v, want 42501", err)
	}
	err = d.DB.GlobalOne(t.Context(), func(ctx context.Context, tx db.Tx) error {
		_, err := tx.Exec(ctx, `select fulcrum.ensure_partitions('fulcrum.outbox')`)
		return err
	})
	if !db.Is(err, "P0001") {
		t.Errorf("partitions of a plain table: got %v", err)
	}
}
