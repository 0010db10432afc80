package app_test

import (
	"context"
	"log/slog"
	"maps"
	"net"
	"os"
	"sync"
	"testing"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/dbtest"
	"github.com/fulcrum-io/fulcrum/pkg/config"
	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	"github.com/fulcrum-io/fulcrum/pkg/rpc"
	"github.com/fulcrum-io/fulcrum/pkg/service"
	brainv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/brain/v1"
	budgetv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/budget/v1"
	configv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/config/v1"
	costv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/cost/v1"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	ledgerv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/ledger/v1"
	pricingv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/pricing/v1"
	walletv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/wallet/v1"
	"github.com/fulcrum-io/fulcrum/services/budget/app"
)

// served is a whole service running in this process.
type served struct {
	budgetv1.LedgerServiceClient
	costs   costv1.CostServiceClient
	prices  pricingv1.PriceServiceClient
	wallets walletv1.WalletServiceClient
	books   ledgerv1.BookkeepingServiceClient
	oracle  brainv1.OracleServiceClient
	ops     string // address of the operations port
	stop    func() // ends the service in good order; the end of the test does, too
}

// start runs the service on d until the test ends.
func start(t testing.TB, d *dbtest.Database) served {
	t.Helper()
	return startWith(t, d, nil)
}

// startWith is start with more settings.
func startWith(t testing.TB, d *dbtest.Database, more map[string]string) served {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	opsLn, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ops := opsLn.Addr().String()
	nats := os.Getenv("TEST_NATS_URL")
	if nats == "" {
		nats = "nats://127.0.0.1:1" // away; the service must do without
	}
	vars := map[string]string{
		"POSTGRES_CONN_STR": d.AppURL, "NATS_URL": nats, "BUDGET_ADDR": addr, "BUDGET_OPS_ADDR": ops,
		"BUDGET_SWEEP_EVERY": "100ms", "BUDGET_CHECK_EVERY": "200ms",
	}
	maps.Copy(vars, more)
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	stopped := make(chan error, 1)
	go func() {
		stopped <- app.Run(ctx, service.Env{
			Getenv: config.Map(vars),
			Log:    slog.New(slog.DiscardHandler),
			Listen: func(_ context.Context, at string) (net.Listener, error) {
				if at == addr {
					return ln, nil
				}
				return opsLn, nil
			},
		})
	}()
	conn, err := rpc.Dial(addr, rpc.DialOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ended := sync.OnceFunc(func() {
		stop()
		if err := <-stopped; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(func() {
		conn.Close()
		ended()
	})
	return served{
		budgetv1.NewLedgerServiceClient(conn), costv1.NewCostServiceClient(conn), pricingv1.NewPriceServiceClient(conn),
		walletv1.NewWalletServiceClient(conn), ledgerv1.NewBookkeepingServiceClient(conn), brainv1.NewOracleServiceClient(conn), ops, ended,
	}
}

// as is the context of a call for a tenant.
func as(ctx context.Context, tenant uuid.UUID) context.Context {
	return identity.With(ctx, identity.System(tenant))
}

func publish(t testing.TB, d *dbtest.Database, tenant uuid.UUID, budgets ...*costv1.Budget) {
	t.Helper()
	publishBundle(t, d, tenant, &configv1.BudgetBundle{Budgets: budgets})
}

func publishBundle(t testing.TB, d *dbtest.Database, tenant uuid.UUID, b *configv1.BudgetBundle) {
	t.Helper()
	b.TenantId = tenant.String()
	content, err := proto.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	err = d.DB.WithTenant(t.Context(), tenant, func(ctx context.Context, tx db.Tx) error {
		_, err := tx.Exec(ctx, `insert into fulcrum.config_bundles as b (tenant_id, kind, version, content) values ($1, 'budgets', 1, $2)
			on conflict (tenant_id, kind) do update set version = b.version + 1, content = excluded.content`, tenant, content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestServiceHoldsChargesAndRefuses(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	tenant := dbtest.Tenant(t, d)
	budget := uuid.NewString()
	publish(t, d, tenant, &costv1.Budget{
		BudgetId: budget, Name: "team", Scope: &costv1.BudgetScope{Team: "research"},
		Limits: &costv1.BudgetLimits{MaxCostUsd: 0.01, MaxTokens: 5000},
		Period: &costv1.BudgetPeriod{PeriodType: costv1.BudgetPeriodType_BUDGET_PERIOD_TYPE_DAILY},
	})
	client := start(t, d)
	ctx := as(t.Context(), tenant)

	ask := func(tokens int64) *budgetv1.ReserveRequest {
		return &budgetv1.ReserveRequest{
			ReservationId: uuid.NewString(),
			Subject:       &budgetv1.Subject{Team: "research", Model: "gpt-4o", EnvelopeId: uuid.NewString()},
			Amounts:       &governancev1.Amounts{InputTokens: tokens, OutputTokens: 100, LlmCalls: 1},
		}
	}
	req := ask(1000)
	first, err := client.Reserve(ctx, req)
	if err != nil {
		t.Fatal(err)
	}
	// 1000 x 2.50 + 100 x 10.00 dollars a million
	if !first.GetGranted() || first.GetHold().GetAmounts().GetCostNano() != 3_500_000 || first.GetPriceVersion() == "" {
		t.Fatalf("Reserve: %v", first)
	}
	again, err := client.Reserve(ctx, req)
	if err != nil || !proto.Equal(first.GetHold().GetExpiresAt(), again.GetHold().GetExpiresAt()) {
		t.Errorf("Reserve again: %v, %v", again, err)
	}
	refused, err := client.Reserve(ctx, ask(4000))
	if err != nil || refused.GetGranted() || refused.GetReason() != "BUDGET_EXCEEDED" || refused.GetRefusedBy().GetId() != budget {
		t.Errorf("Reserve beyond the limit: %v, %v", refused, err)
	}
	if refused.GetRefusedBy().GetResetsAt() == nil || refused.GetMessage() == "" {
		t.Errorf("refusal explains nothing: %v", refused)
	}
	settled, err := client.Settle(ctx, &budgetv1.SettleRequest{
		ReservationId: req.GetReservationId(), IdempotencyKey: "k",
		Usage: &governancev1.Usage{Model: "gpt-4o", InputTokens: 900, OutputTokens: 50},
	})
	if err != nil || settled.GetCharged().GetCostNano() != 900*2500+50*10000 {
		t.Errorf("Settle: %v, %v", settled, err)
	}
	got, err := client.GetReservation(ctx, &budgetv1.GetReservationRequest{ReservationId: req.GetReservationId()})
	if err != nil || got.GetState() != budgetv1.ReservationState_RESERVATION_STATE_SETTLED {
		t.Errorf("GetReservation: %v, %v", got, err)
	}
	dry := ask(1000)
	dry.DryRun = true
	if a, err := client.Reserve(ctx, dry); err != nil || !a.GetGranted() || a.GetHold() != nil {
		t.Errorf("dry run: %v, %v", a, err)
	}
	if _, err := client.GetReservation(ctx, &budgetv1.GetReservationRequest{ReservationId: dry.GetReservationId()}); !fault.Is(err, fault.NotFound) {
		t.Errorf("a dry run left a reservation: %v", err)
	}
	_, err = client.Release(ctx, &budgetv1.ReleaseRequest{ReservationId: req.GetReservationId(), IdempotencyKey: "r"})
	if !fault.HasReason(err, "RESERVATION_SETTLED") {
		t.Errorf("Release after Settle: %v", err)
	}
	if _, err := client.Reserve(t.Context(), ask(1)); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("Reserve without a caller: %v", err)
	}
}
