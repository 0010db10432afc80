package app_test

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"

	"github.com/fulcrum-io/fulcrum/db/dbtest"
	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	"github.com/fulcrum-io/fulcrum/pkg/rpc"
	"github.com/fulcrum-io/fulcrum/pkg/service"
	budgetv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/budget/v1"
	configv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/config/v1"
	costv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/cost/v1"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	walletv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/wallet/v1"
	"github.com/fulcrum-io/fulcrum/services/budget/app"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/balance"
)

const asService = "BUDGET_TEST_AS_SERVICE"

// TestMain makes this binary the service itself when a test starts it so, to
// have a process to kill.
func TestMain(m *testing.M) {
	if os.Getenv(asService) == "" {
		os.Exit(m.Run())
	}
	err := app.Run(context.Background(), service.Env{
		Getenv: os.Getenv, Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
	if err != nil {
		os.Stderr.WriteString(err.Error() + "\n")
		os.Exit(1)
	}
	os.Exit(0)
}

// process starts the service as a process of its own.
func process(t *testing.T, d *dbtest.Database, addr string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), asService+"=1", "POSTGRES_CONN_STR="+d.AppURL, "NATS_URL=nats://127.0.0.1:1",
		"BUDGET_ADDR="+addr, "BUDGET_OPS_ADDR=127.0.0.1:0", "BUDGET_SWEEP_EVERY=200ms")
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd
}

// The process is killed under load, again and again, at moments by chance. Every
// hold and charge that was acknowledged is in the ledger, none twice, no limit is
// passed, and the ledger adds up.
func TestNothingAcknowledgedIsLostWhenTheServiceDies(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	tenant := dbtest.Tenant(t, d)
	wallet := uuid.NewString()
	publishBundle(t, d, tenant, &configv1.BudgetBundle{
		Budgets: []*costv1.Budget{
			{BudgetId: "b", Limits: &costv1.BudgetLimits{MaxCostUsd: 1}},
			{BudgetId: "soon spent", Scope: &costv1.BudgetScope{Team: "tight"}, Limits: &costv1.BudgetLimits{MaxCostUsd: 0.000001}},
			{BudgetId: "paid", Scope: &costv1.BudgetScope{Team: "prepaid"}, WalletId: wallet, Limits: &costv1.BudgetLimits{MaxCostUsd: 1}},
		},
		Wallets: []*walletv1.Wallet{{WalletId: wallet, Name: "prepaid"}},
	})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	ln.Close()
	conn, err := rpc.Dial(addr, rpc.DialOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	client, wallets := budgetv1.NewLedgerServiceClient(conn), walletv1.NewWalletServiceClient(conn)
	ctx := as(t.Context(), tenant)
	payer := identity.With(t.Context(), identity.Principal{Tenant: tenant, UserID: "ada", Scopes: []string{"cost:write"}})

	loaded := 0
	for range balance.Long(3, 20) {
		cmd := process(t, d, addr)
		ready(t, ctx, client)
		told := make(chan string, 1<<16)
		working, stop := context.WithCancel(ctx)
		var charges atomic.Int64
		var wg sync.WaitGroup
		for range 16 {
			wg.Go(func() { work(working, client, told, &charges) })
		}
		wg.Go(func() { pay(payer, working.Done(), wallets, wallet, told) })
		for charges.Load() == 0 && working.Err() == nil { // however slow the machine is, it dies under load
			moment(working, 10*time.Millisecond)
		}
		moment(working, 300*time.Millisecond+rand.N(700*time.Millisecond))
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		stop()
		wg.Wait()
		_ = cmd.Wait()
		close(told)
		var held, charged, paid []string
		for id := range told {
			switch id[0] {
			case 'h':
				held = append(held, id[1:])
			case 'c':
				charged = append(charged, id[1:])
			default:
				paid = append(paid, id[1:])
			}
		}
		paid = slices.Compact(paid) // each was told of twice
		t.Logf("acknowledged %d holds, %d charges, %d payments", len(held), len(charged), len(paid))
		loaded += len(held) * len(charged)
		if n := dbtest.Count(t, d, `select count(*) from fulcrum.reservations where id = any ($1::text[]::uuid[])`, held); n != int64(len(held)) {
			t.Errorf("%d holds were acknowledged, %d are there", len(held), n)
		}
		if n := dbtest.Count(t, d, `select count(*) from fulcrum.settlements where kind = 'settled' and not late and cost_nano = 3 and reservation_id = any ($1::text[]::uuid[])`, charged); n != int64(len(charged)) {
			t.Errorf("%d charges were acknowledged, %d are there", len(charged), n)
		}
		if n := dbtest.Count(t, d, `select count(*) from fulcrum.ledger_movements where kind = 'topup' and idempotency_key = any ($1::text[])`, paid); n != int64(len(paid)) {
			t.Errorf("%d payments were acknowledged, %d are there", len(paid), n)
		}
		if n := dbtest.Count(t, d, `select count(*) from fulcrum.budget_windows where cost_nano_over > 0 or cost_nano_spent + cost_nano_held > cost_nano_limit`); n != 0 {
			t.Errorf("%d windows are over their limit", n)
		}
		balance.Check(t, d.AdminURL)
	}
	if loaded == 0 {
		t.Error("there was no load")
	}
}

// ready waits until the service answers.
func ready(t *testing.T, ctx context.Context, client budgetv1.LedgerServiceClient) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	_, err := client.GetReservation(ctx, &budgetv1.GetReservationRequest{ReservationId: uuid.NewString()}, grpc.WaitForReady(true))
	if !fault.Is(err, fault.NotFound) {
		t.Fatalf("the service does not answer: %v", err)
	}
}

// work holds and settles until ctx ends, and tells what was acknowledged.
func work(ctx context.Context, client budgetv1.LedgerServiceClient, told chan<- string, charges *atomic.Int64) {
	for ctx.Err() == nil {
		id := uuid.NewString()
		a, err := client.Reserve(ctx, &budgetv1.ReserveRequest{
			ReservationId: id, Subject: &budgetv1.Subject{Team: []string{"", "tight", "prepaid"}[rand.IntN(3)]}, Amounts: &governancev1.Amounts{CostNano: 5},
		})
		if err != nil || !a.GetGranted() {
			continue
		}
		told <- "h" + id
		cost := 0.000000003
		if _, err := client.Settle(ctx, &budgetv1.SettleRequest{
			ReservationId: id, IdempotencyKey: "k", Usage: &governancev1.Usage{CostUsd: &cost},
		}); err == nil {
			told <- "c" + id
			charges.Add(1)
		}
	}
}

// pay puts a little into a wallet again and again, so that it is empty now and
// then, each payment twice, and tells what was acknowledged.
func pay(ctx context.Context, over <-chan struct{}, client walletv1.WalletServiceClient, wallet string, told chan<- string) {
	for {
		select {
		case <-over:
			return
		default:
		}
		req := &walletv1.TopUpWalletRequest{WalletId: wallet, AmountNano: 40, Reference: "invoice", IdempotencyKey: uuid.NewString()}
		for range 2 {
			if _, err := client.TopUpWallet(ctx, req); err == nil {
				told <- "p" + req.GetIdempotencyKey()
			}
		}
	}
}

// moment lets the load run for a while: there is nothing to wait for but time.
func moment(ctx context.Context, d time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	<-ctx.Done()
}
