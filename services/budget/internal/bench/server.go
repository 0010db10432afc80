package bench

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"google.golang.org/protobuf/proto"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/pkg/devstack"
	configv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/config/v1"
	costv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/cost/v1"
)

// server is a durable PostgreSQL with a migrated database.
type server struct {
	pg    *devstack.Postgres
	app   string // URL of the database as the application
	db    *db.DB // the same, to prepare what is measured
	plain *pgxpool.Pool
}

// mostCallers is the largest number of callers of a case, and of connections of
// the plain form: each of its callers has one.
const mostCallers = 256

func startServer(ctx context.Context) (*server, error) {
	pg, err := devstack.StartPostgres(ctx, devstack.PostgresOptions{})
	if err != nil {
		return nil, err
	}
	s := &server{pg: pg}
	if err := s.open(ctx); err != nil {
		return nil, errors.Join(err, s.stop())
	}
	return s, nil
}

func (s *server) open(ctx context.Context) error {
	const database = "ledger"
	password := rand.Text()
	if err := db.Bootstrap(ctx, s.pg.URL(), db.BootstrapOptions{Database: database, AppPassword: password, MigratePassword: password}); err != nil {
		return err
	}
	u, err := url.Parse(s.pg.URL())
	if err != nil {
		return err
	}
	u.Path = "/" + database
	admin := u.String()
	u.User = url.UserPassword("fulcrum_app", password)
	s.app = u.String()
	if err := db.Migrate(ctx, admin); err != nil {
		return err
	}
	if s.db, err = db.Open(ctx, s.app, db.Options{Service: "bench", MaxConns: 4}); err != nil {
		return err
	}
	cfg, err := pgxpool.ParseConfig(admin)
	if err != nil {
		return err
	}
	cfg.MaxConns = 160                                              // the server takes 200 in all
	if s.plain, err = pgxpool.NewWithConfig(ctx, cfg); err != nil { //nolint:forbidigo // tables of the bench's own, not of tenants
		return err
	}
	if err := makePlain(ctx, s); err != nil {
		return err
	}
	return s.age(ctx)
}

// age gives the server the files of its log that one has which has run for a
// while, and uses them again. A new one makes and fills 16 MiB at a time, and all
// that commits waits for it.
func (s *server) age(ctx context.Context) error {
	const segments = 64 // of 16 MiB: max_wal_size
	for _, sql := range []string{`alter system set min_wal_size = '1GB'`, `select pg_reload_conf()`} {
		if _, err := s.plain.Exec(ctx, sql); err != nil {
			return err
		}
	}
	for range segments {
		if _, err := s.plain.Exec(ctx, `select pg_logical_emit_message(false, 'bench', 'one more'), pg_switch_wal()`); err != nil {
			return err
		}
	}
	_, err := s.plain.Exec(ctx, `checkpoint`)
	return err
}

// tidy does what the part before left to the server to do some time, so that the
// next one does not run beside it.
func (s *server) tidy(ctx context.Context) error {
	for _, sql := range []string{`vacuum analyze`, `checkpoint`} {
		if _, err := s.plain.Exec(ctx, sql); err != nil {
			return err
		}
	}
	return nil
}

func (s *server) stop() error {
	if s.plain != nil {
		s.plain.Close()
	}
	if s.db != nil {
		s.db.Close()
	}
	return s.pg.Stop()
}

// tenant makes a tenant with these budgets.
func (s *server) tenant(ctx context.Context, budgets []*costv1.Budget) (uuid.UUID, error) {
	id := uuid.Must(uuid.NewV7())
	content, err := proto.Marshal(&configv1.BudgetBundle{TenantId: id.String(), Budgets: budgets})
	if err != nil {
		return id, err
	}
	err = s.db.GlobalOne(ctx, func(ctx context.Context, tx db.Tx) error {
		_, err := tx.Exec(ctx, `select fulcrum.create_tenant($1, 'bench', '{}', null)`, id)
		return err
	})
	if err != nil {
		return id, fmt.Errorf("make a tenant: %w", err)
	}
	err = s.db.WithTenant(ctx, id, func(ctx context.Context, tx db.Tx) error {
		_, err := tx.Exec(ctx, `insert into fulcrum.config_bundles (tenant_id, kind, version, content) values ($1, 'budgets', 1, $2)`, id, content)
		return err
	})
	if err != nil {
		return id, fmt.Errorf("publish budgets: %w", err)
	}
	return id, nil
}
