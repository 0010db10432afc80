package postgres_test

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/dbtest"
	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/money"
	"github.com/fulcrum-io/fulcrum/pkg/outbox"
	configv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/config/v1"
	costv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/cost/v1"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/amount"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/balance"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/catalog"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/events"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/lane"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/ledger"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/postgres"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/upkeep"
)

// instance is one budget service's way into a ledger: its own pool, its own
// cache of configuration, its own lane.
type instance struct {
	*lane.Lane
	store    *postgres.Store
	fast     *[2]atomic.Int64 // batches decided on balances in memory that failed, and that held
	catalogs *postgres.Catalogs
	db       *db.DB
}

// start runs an instance on the database until the test ends.
func start(t testing.TB, d *dbtest.Database, o lane.Options) *instance {
	t.Helper()
	return startWith(t, d, o, outboxAppend)
}

var outboxAppend = outbox.Append

func startWith(t testing.TB, d *dbtest.Database, o lane.Options, append postgres.Outbox) *instance {
	t.Helper()
	in, stop, err := run(d, o, append)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return in
}

// run starts an instance, which stop ends.
func run(d *dbtest.Database, o lane.Options, append postgres.Outbox) (in *instance, stop func(), err error) {
	pool, err := db.Open(context.Background(), d.AppURL, db.Options{MaxConns: 6, SkipGate: true})
	if err != nil {
		return nil, nil, err
	}
	log := slog.New(slog.DiscardHandler)
	catalogs := postgres.NewCatalogs(pool, log)
	var fast [2]atomic.Int64
	store := postgres.New(pool, catalogs, postgres.Options{Outbox: append, Encode: events.Encode, Fast: func(worked bool) {
		if worked {
			fast[1].Add(1)
		} else {
			fast[0].Add(1)
		}
	}})
	in = &instance{lane.New(store, o), store, &fast, catalogs, pool}

	ctx, cancel := context.WithCancel(context.Background())
	stopped := make(chan struct{})
	go func() { defer close(stopped); _ = in.Run(ctx) }()
	return in, func() { cancel(); <-stopped; pool.Close() }, nil
}

// publish makes budgets the tenant's configuration, as the control plane would.
func publish(t testing.TB, d *dbtest.Database, tenant uuid.UUID, budgets ...*costv1.Budget) {
	t.Helper()
	publishBundle(t, d, tenant, &configv1.BudgetBundle{Budgets: budgets})
}

func publishBundle(t testing.TB, d *dbtest.Database, tenant uuid.UUID, bundle *configv1.BudgetBundle) {
	t.Helper()
	if err := put(t.Context(), d, tenant, bundle); err != nil {
		t.Fatal(err)
	}
}

func put(ctx context.Context, d *dbtest.Database, tenant uuid.UUID, bundle *configv1.BudgetBundle) error {
	bundle.TenantId = tenant.String()
	content, err := proto.Marshal(bundle)
	if err != nil {
		return err
	}
	return d.DB.WithTenant(ctx, tenant, func(ctx context.Context, tx db.Tx) error {
		_, err := tx.Exec(ctx, `insert into fulcrum.config_bundles as b (tenant_id, kind, version, content) values ($1, 'budgets', 1, $2)
			on conflict (tenant_id, kind) do update set version = b.version + 1, content = excluded.content`, tenant, content)
		return err
	})
}

// dollars is a budget over the whole tenant without an end, by cost.
func dollars(id string, limit float64) *costv1.Budget {
	return &costv1.Budget{
		BudgetId: id, Name: "budget " + id,
		Limits: &costv1.BudgetLimits{MaxCostUsd: limit},
		Period: &costv1.BudgetPeriod{PeriodType: costv1.BudgetPeriodType_BUDGET_PERIOD_TYPE_INFINITE},
	}
}

// nano is an amount of money alone.
func nano(n int64) amount.Amounts { return amount.Amounts{amount.Cost: n} }

func hold(tenant uuid.UUID, n int64) *ledger.Reserve {
	return (&ledger.Reserve{
		Ref: ledger.Ref{Tenant: tenant, ID: uuid.Must(uuid.NewV7())}, TTL: time.Minute, Amounts: nano(n),
	}).Seal()
}

func settle(ref ledger.Ref, n int64) *ledger.Settle {
	return (&ledger.Settle{Ref: ref, Key: "settle-" + ref.ID.String(), Usage: &ledger.Usage{Cost: moneyNano(n), CostKnown: true}}).Seal()
}

// must does op and fails the test unless it succeeds.
func must(t testing.TB, in *instance, op ledger.Op) ledger.Answer {
	t.Helper()
	a, err := in.Do(t.Context(), op)
	if err != nil {
		t.Fatalf("%T: %v", op, err)
	}
	return a
}

func sweeper(in *instance) *upkeep.Sweeper {
	return &upkeep.Sweeper{Lane: in, Holds: in.store, Log: slog.New(slog.DiscardHandler), Every: time.Hour}
}

// elapse lets the time of every hold run out.
func elapse(t testing.TB, d *dbtest.Database) {
	t.Helper()
	dbtest.Admin(t, d, `update fulcrum.reservations set created_at = now() - interval '2 s', expires_at = now() - interval '1 s'`)
}

func moneyNano(n int64) money.Nano { return money.Nano(n) }

func balanced(t testing.TB, d *dbtest.Database) {
	t.Helper()
	balance.Check(t, d.AdminURL)
}

func isNotFound(err error) bool { return fault.Is(err, fault.NotFound) }

func isDown(err error) bool { return fault.Is(err, fault.Down) }

func TestAHoldIsSettledAndTheRestComesBack(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	tenant := dbtest.Tenant(t, d)
	publish(t, d, tenant, dollars("all", 1))
	in := start(t, d, lane.Options{})

	r := hold(tenant, 600_000_000)
	a := must(t, in, r)
	if !a.Granted || !a.Held || len(a.States) != 1 || a.States[0].Held != 600_000_000 {
		t.Fatalf("Reserve: %+v", a)
	}
	refused := must(t, in, hold(tenant, 500_000_000))
	if refused.Granted || refused.Reason != ledger.ReasonExceeded || refused.RefusedBy.Remaining != 400_000_000 {
		t.Fatalf("second Reserve: %+v", refused)
	}
	s := must(t, in, settle(r.Ref, 250_000_000))
	if s.Amounts != nano(250_000_000) || s.States[0].Spent != 250_000_000 || s.States[0].Held != 0 {
		t.Fatalf("Settle: %+v", s)
	}
	if a := must(t, in, hold(tenant, 500_000_000)); !a.Granted {
		t.Fatalf("third Reserve: %+v", a)
	}
	balanced(t, d)
}

// The following do without a *testing.T, for tests that run inside rapid; what
// fails there is the test's own doing and panics.

func dbtestTenant(d *dbtest.Database) uuid.UUID {
	id := uuid.Must(uuid.NewV7())
	err := d.DB.GlobalOne(context.Background(), func(ctx context.Context, tx db.Tx) error {
		_, err := tx.Exec(ctx, `select fulcrum.create_tenant($1, 'x', '{}', null)`, id)
		return err
	})
	if err != nil {
		panic(err)
	}
	return id
}

func mustAdmin(d *dbtest.Database, sql string) {
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, d.AdminURL)
	if err != nil {
		panic(err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, sql); err != nil {
		panic(err)
	}
}

// counters are what a budget's only window says; nothing if it has no row.
func counters(t interface{ Fatal(...any) }, d *dbtest.Database, tenant uuid.UUID, budget string) (spent, held int64) {
	err := d.DB.Read(context.Background(), tenant, func(ctx context.Context, tx db.Tx) error {
		err := tx.QueryRow(ctx, `select cost_nano_spent, cost_nano_held from fulcrum.budget_windows where tenant_id = $1 and budget_id = $2`, tenant, budget).
			Scan(&spent, &held)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return spent, held
}

// What an instance remembers and the database has lost, as after a failover that
// lost a commit, is decided anew by what is there.
func TestAHoldThatTheDatabaseLostIsNotGoneBy(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	tenant := dbtest.Tenant(t, d)
	publish(t, d, tenant, dollars("all", 1))
	in := start(t, d, lane.Options{})
	lost := func() *ledger.Reserve {
		r := hold(tenant, 40)
		must(t, in, r)
		dbtest.Admin(t, d, `delete from fulcrum.reservations`, `delete from fulcrum.ledger_postings`, `delete from fulcrum.ledger_batches`,
			`update fulcrum.budget_windows set cost_nano_held = 0, version = version + 7`)
		return r
	}
	if _, err := in.Do(t.Context(), settle(lost().Ref, 30)); !fault.Is(err, fault.NotFound) {
		t.Errorf("a settlement without a subject: %v", err)
	}
	s := settle(lost().Ref, 30)
	s.Subject = &catalog.Subject{}
	if a := must(t, in, s); a.Amounts != nano(30) || len(a.States) != 1 {
		t.Errorf("%+v", a)
	}
	if spent, held := counters(t, d, tenant, "all"); spent != 30 || held != 0 {
		t.Errorf("spent %d, held %d", spent, held)
	}
	balanced(t, d)
}
