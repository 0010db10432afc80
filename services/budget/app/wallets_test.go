package app_test

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fulcrum-io/fulcrum/db/dbtest"
	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	"github.com/fulcrum-io/fulcrum/pkg/receipt"
	budgetv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/budget/v1"
	configv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/config/v1"
	costv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/cost/v1"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	ledgerv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/ledger/v1"
	walletv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/wallet/v1"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/balance"
)

// purse is a tenant with one budget, of 100 dollars, that draws on one wallet.
type purse struct {
	t      *testing.T
	d      *dbtest.Database
	tenant uuid.UUID
	wallet string
	ctx    context.Context
}

func newPurse(t *testing.T) *purse {
	t.Helper()
	d := dbtest.New(t)
	p := &purse{t: t, d: d, tenant: dbtest.Tenant(t, d), wallet: uuid.NewString()}
	p.ctx = identity.With(t.Context(), identity.Principal{Tenant: p.tenant, UserID: "ada", Scopes: []string{"cost:read", "cost:write"}})
	publishBundle(t, d, p.tenant, &configv1.BudgetBundle{
		Budgets: []*costv1.Budget{{
			BudgetId: "b", Name: "team", Limits: &costv1.BudgetLimits{MaxCostUsd: 100}, WalletId: p.wallet,
			Period: &costv1.BudgetPeriod{PeriodType: costv1.BudgetPeriodType_BUDGET_PERIOD_TYPE_INFINITE},
		}},
		Wallets: []*walletv1.Wallet{{WalletId: p.wallet, Name: "acme", Description: "prepaid", LowBalanceNano: []int64{2 * dollar}}},
	})
	return p
}

const dollar = 1_000_000_000

func (p *purse) topUp(s served, n int64, key string) *walletv1.Wallet {
	p.t.Helper()
	resp, err := s.wallets.TopUpWallet(p.ctx, &walletv1.TopUpWalletRequest{WalletId: p.wallet, AmountNano: n, Reference: "invoice 1", IdempotencyKey: key})
	if err != nil {
		p.t.Fatal(err)
	}
	return resp.GetWallet()
}

func (p *purse) hold(s served, n int64) (string, *budgetv1.ReserveResponse) {
	p.t.Helper()
	id := uuid.NewString()
	resp, err := s.Reserve(p.ctx, &budgetv1.ReserveRequest{ReservationId: id, Subject: &budgetv1.Subject{AgentId: "agent-7"}, Amounts: &governancev1.Amounts{CostNano: n}})
	if err != nil {
		p.t.Fatal(err)
	}
	return id, resp
}

func (p *purse) spend(s served, n int64) string {
	p.t.Helper()
	id, _ := p.hold(s, n)
	usd := float64(n) / dollar
	if _, err := s.Settle(p.ctx, &budgetv1.SettleRequest{ReservationId: id, IdempotencyKey: "s", Usage: &governancev1.Usage{CostUsd: &usd}}); err != nil {
		p.t.Fatal(err)
	}
	return id
}

func (p *purse) events(kind string) int64 {
	return dbtest.Count(p.t, p.d, `select count(*) from fulcrum.outbox where type = $1`, kind)
}

func TestAWalletPaysAndExplainsItsRefusal(t *testing.T) {
	t.Parallel()
	p := newPurse(t)
	s := start(t, p.d)
	if w := p.topUp(s, 10*dollar, "k"); w.GetBalanceNano() != 10*dollar || w.GetName() != "acme" || w.GetDescription() != "prepaid" {
		t.Errorf("topped up: %v", w)
	}
	_, held := p.hold(s, 4*dollar)
	if len(held.GetHold().GetBudgets()) != 2 {
		t.Errorf("held in %v", held.GetHold())
	}
	p.spend(s, 3*dollar)
	_, refused := p.hold(s, 4*dollar)
	by := refused.GetRefusedBy()
	if refused.GetGranted() || refused.GetReason() != "WALLET_EXHAUSTED" || by.GetId() != "wallet:"+p.wallet || by.GetHeld() != 4 || by.GetRemaining() != 3 || by.GetRequested() != 4 {
		t.Errorf("refused: %v", refused)
	}
	got, err := s.wallets.GetWallet(p.ctx, &walletv1.GetWalletRequest{WalletId: p.wallet})
	if w := got.GetWallet(); err != nil || w.GetSpentNano() != 3*dollar || w.GetHeldNano() != 4*dollar || w.GetBalanceNano() != 7*dollar || w.GetAvailableNano() != 3*dollar {
		t.Errorf("GetWallet: %v, %v", got, err)
	}
	list, err := s.wallets.ListWallets(p.ctx, &walletv1.ListWalletsRequest{})
	if err != nil || len(list.GetWallets()) != 1 || !proto.Equal(list.GetWallets()[0], got.GetWallet()) {
		t.Errorf("ListWallets: %v, %v", list, err)
	}
	if _, err := s.wallets.AdjustWallet(p.ctx, &walletv1.AdjustWalletRequest{
		WalletId: p.wallet, Kind: walletv1.MovementKind_MOVEMENT_KIND_REFUND, AmountNano: -4 * dollar, Reason: "left", IdempotencyKey: "r",
	}); !fault.HasReason(err, "WALLET_EXHAUSTED") {
		t.Errorf("a refund of what is held: %v", err)
	}
	if n := p.events("wallet_moved"); n != 1 {
		t.Errorf("%d events of movements", n)
	}
	balance.Check(t, p.d.AdminURL)
}

// What is wrong is named and changes nothing; what is another tenant's is not
// there; who has not the scope is refused.
func TestWalletsAndBooksRefuseByFieldTenantAndScope(t *testing.T) {
	t.Parallel()
	p := newPurse(t)
	s := start(t, p.d)
	p.topUp(s, 10*dollar, "k")
	reservation := p.spend(s, dollar)
	open, _ := p.hold(s, dollar)
	before := dbtest.Count(t, p.d, `select count(*) from fulcrum.ledger_entries`)
	stranger := identity.With(t.Context(), identity.Principal{Tenant: dbtest.Tenant(t, p.d), UserID: "eve", Scopes: []string{"*"}})
	reader := identity.With(t.Context(), identity.Principal{Tenant: p.tenant, UserID: "bob", Scopes: []string{"cost:read"}})
	writer := identity.With(t.Context(), identity.Principal{Tenant: p.tenant, UserID: "bob", Scopes: []string{"cost:write"}})
	nobody := t.Context()

	topUp := func(change func(*walletv1.TopUpWalletRequest)) func(context.Context) error {
		return func(ctx context.Context) error {
			req := &walletv1.TopUpWalletRequest{WalletId: p.wallet, AmountNano: 1, IdempotencyKey: "new"}
			change(req)
			return fail(s.wallets.TopUpWallet(ctx, req))
		}
	}
	adjust := func(change func(*walletv1.AdjustWalletRequest)) func(context.Context) error {
		return func(ctx context.Context) error {
			req := &walletv1.AdjustWalletRequest{WalletId: p.wallet, Kind: walletv1.MovementKind_MOVEMENT_KIND_ADJUSTMENT, AmountNano: 1, Reason: "r", IdempotencyKey: "new"}
			change(req)
			return fail(s.wallets.AdjustWallet(ctx, req))
		}
	}
	correct := func(change func(*ledgerv1.CorrectChargeRequest)) func(context.Context) error {
		return func(ctx context.Context) error {
			req := &ledgerv1.CorrectChargeRequest{ReservationId: reservation, AmountNano: -1, Reason: "r", IdempotencyKey: "new"}
			change(req)
			return fail(s.books.CorrectCharge(ctx, req))
		}
	}
	release := func(change func(*ledgerv1.ReleaseHoldRequest)) func(context.Context) error {
		return func(ctx context.Context) error {
			req := &ledgerv1.ReleaseHoldRequest{ReservationId: open, Reason: "r"}
			change(req)
			return fail(s.books.ReleaseHold(ctx, req))
		}
	}
	for name, call := range map[string]func(context.Context) error{
		"a top-up of nothing":          topUp(func(r *walletv1.TopUpWalletRequest) { r.AmountNano = 0 }),
		"a negative top-up":            topUp(func(r *walletv1.TopUpWalletRequest) { r.AmountNano = -1 }),
		"a top-up without a key":       topUp(func(r *walletv1.TopUpWalletRequest) { r.IdempotencyKey = "" }),
		"a top-up of no wallet":        topUp(func(r *walletv1.TopUpWalletRequest) { r.WalletId = "acme" }),
		"a zero byte":                  topUp(func(r *walletv1.TopUpWalletRequest) { r.Reference = "a\x00" }),
		"an adjustment without reason": adjust(func(r *walletv1.AdjustWalletRequest) { r.Reason = "" }),
		"an adjustment of no kind":     adjust(func(r *walletv1.AdjustWalletRequest) { r.Kind = 0 }),
		"an adjustment as a top-up":    adjust(func(r *walletv1.AdjustWalletRequest) { r.Kind = walletv1.MovementKind_MOVEMENT_KIND_TOP_UP }),
		"a refund into the wallet":     adjust(func(r *walletv1.AdjustWalletRequest) { r.Kind = walletv1.MovementKind_MOVEMENT_KIND_REFUND }),
		"a correction of nothing":      correct(func(r *ledgerv1.CorrectChargeRequest) { r.AmountNano = 0 }),
		"a correction without reason":  correct(func(r *ledgerv1.CorrectChargeRequest) { r.Reason = "" }),
		"a correction of two things":   correct(func(r *ledgerv1.CorrectChargeRequest) { r.BudgetId = "b" }),
		"a correction of no thing":     correct(func(r *ledgerv1.CorrectChargeRequest) { r.ReservationId = "" }),
		"a release without reason":     release(func(r *ledgerv1.ReleaseHoldRequest) { r.Reason = "" }),
		"a release of nothing":         release(func(r *ledgerv1.ReleaseHoldRequest) { r.ReservationId = "x" }),
		"an export from nowhen": func(ctx context.Context) error {
			_, err := p.export(ctx, s, &ledgerv1.ExportEntriesRequest{})
			return err
		},
		"an export by another's cursor": func(ctx context.Context) error {
			_, err := p.export(ctx, s, &ledgerv1.ExportEntriesRequest{Cursor: "abc"})
			return err
		},
		"holds by a token of nobody": func(ctx context.Context) error {
			return fail(s.books.ListHolds(ctx, &ledgerv1.ListHoldsRequest{PageToken: "abc"}))
		},
		"a statement that ends before it begins": func(ctx context.Context) error {
			return fail(s.wallets.GetStatement(ctx, &walletv1.GetStatementRequest{WalletId: p.wallet, From: timestamppb.Now(), To: timestamppb.New(time.Now().Add(-time.Hour))}))
		},
	} {
		if err := call(p.ctx); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v, want it refused as invalid", name, err)
		}
	}

	writes := map[string]func(context.Context) error{
		"top up":  topUp(func(*walletv1.TopUpWalletRequest) {}),
		"adjust":  adjust(func(*walletv1.AdjustWalletRequest) {}),
		"correct": correct(func(*ledgerv1.CorrectChargeRequest) {}),
		"release": release(func(*ledgerv1.ReleaseHoldRequest) {}),
		"create key": func(ctx context.Context) error {
			return fail(s.wallets.CreateSigningKey(ctx, &walletv1.CreateSigningKeyRequest{WalletId: p.wallet}))
		},
	}
	reads := map[string]func(context.Context) error{
		"get wallet": func(ctx context.Context) error {
			return fail(s.wallets.GetWallet(ctx, &walletv1.GetWalletRequest{WalletId: p.wallet}))
		},
		"statement": func(ctx context.Context) error {
			return fail(s.wallets.GetStatement(ctx, &walletv1.GetStatementRequest{WalletId: p.wallet}))
		},
		"list keys": func(ctx context.Context) error {
			return fail(s.wallets.ListSigningKeys(ctx, &walletv1.ListSigningKeysRequest{WalletId: p.wallet}))
		},
	}
	for name, call := range writes {
		if err := call(reader); !fault.HasReason(err, "SCOPE_MISSING") {
			t.Errorf("%s without cost:write: %v", name, err)
		}
		if err := call(stranger); !fault.Is(err, fault.NotFound) {
			t.Errorf("%s by another tenant: %v", name, err)
		}
		if err := call(nobody); !fault.Is(err, fault.Unauthenticated) {
			t.Errorf("%s by nobody: %v", name, err)
		}
	}
	for name, call := range reads {
		if err := call(writer); !fault.HasReason(err, "SCOPE_MISSING") {
			t.Errorf("%s without cost:read: %v", name, err)
		}
		if err := call(stranger); !fault.Is(err, fault.NotFound) {
			t.Errorf("%s by another tenant: %v", name, err)
		}
	}
	if list, err := s.wallets.ListWallets(stranger, &walletv1.ListWalletsRequest{}); err != nil || len(list.GetWallets()) != 0 {
		t.Errorf("another tenant's list: %v, %v", list, err)
	}
	if holds, err := s.books.ListHolds(stranger, &ledgerv1.ListHoldsRequest{}); err != nil || len(holds.GetHolds()) != 0 {
		t.Errorf("another tenant's holds: %v, %v", holds, err)
	}
	dbtest.Admin(t, p.d, `update fulcrum.ledger_postings set occurred_at = occurred_at - interval '1 h'`, `update fulcrum.ledger_batches set occurred_at = occurred_at - interval '1 h'`,
		`update fulcrum.reservations set created_at = created_at - interval '1 h'`)
	if lines, err := p.export(stranger, s, &ledgerv1.ExportEntriesRequest{From: timestamppb.New(time.Now().Add(-24 * time.Hour))}); err != nil || len(lines) != 0 {
		t.Errorf("another tenant's books: %d lines, %v", len(lines), err)
	}
	if after := dbtest.Count(t, p.d, `select count(*) from fulcrum.ledger_entries`); after != before {
		t.Errorf("what was refused left %d entries", after-before)
	}
}

func fail(_ any, err error) error { return err }

// insertBatches is SQL that puts batches of so many holds of one line into the
// books, some time before three hours ago.
func insertBatches(tenant uuid.UUID, from string, lines int, ago string) string {
	return fmt.Sprintf(`with batches as (
			insert into fulcrum.ledger_batches (tenant_id, occurred_at, id, transaction_ids, kinds, reservation_ids)
			select '%s', now() - interval '3 h' - %s, gen_random_uuid(), array(select gen_random_uuid() from generate_series(b, b + %d - 1)),
				array_fill('hold'::text, array[%[3]d]), array(select gen_random_uuid() from generate_series(b, b + %[3]d - 1)) from %[4]s
			returning tenant_id, occurred_at, id)
		insert into fulcrum.ledger_postings (tenant_id, budget_id, window_start, occurred_at, batch_id, refs, lines, moves, cost_nano, total_tokens, input_tokens, output_tokens, llm_calls, tool_calls, seconds)
		select tenant_id, 'old', 'epoch', occurred_at, id, array(select generate_series(1, %[3]d)), array_fill(0::smallint, array[%[3]d]), array_fill(12::smallint, array[%[3]d]),
			array_fill(1::bigint, array[%[3]d]), '{}', '{}', '{}', '{}', '{}', '{}' from batches`, tenant, ago, lines, from)
}

// export reads a whole export.
func (p *purse) export(ctx context.Context, s served, req *ledgerv1.ExportEntriesRequest) (pages []*ledgerv1.ExportEntriesResponse, err error) {
	stream, err := s.books.ExportEntries(ctx, req)
	if err != nil {
		return nil, err
	}
	for {
		page, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return pages, nil
		}
		if err != nil {
			return pages, err
		}
		pages = append(pages, page)
	}
}

// An export is the same whenever it is asked, goes on after any cursor, and
// lists each entry once.
func TestAnExportIsStableAndGoesOnAfterACursor(t *testing.T) {
	t.Parallel()
	p := newPurse(t)
	s := start(t, p.d)
	p.topUp(s, 50*dollar, "k")
	for range 20 {
		p.spend(s, dollar)
	}
	dbtest.Admin(t, p.d, `update fulcrum.ledger_postings set occurred_at = occurred_at - interval '1 h'`, `update fulcrum.ledger_batches set occurred_at = occurred_at - interval '1 h'`,
		`update fulcrum.reservations set created_at = created_at - interval '1 h'`,
		// More than a page each, of another kind: batches of one line, two that were
		// committed at the same moment, and one of very many lines.
		insertBatches(p.tenant, "generate_series(1, 2500) b", 1, "make_interval(secs => b)"),
		insertBatches(p.tenant, "generate_series(1, 2) b", 40, "'1 h'::interval"),
		insertBatches(p.tenant, "generate_series(1, 1) b", 2500, "'2 h'::interval"),
		// Holds, of which some move nothing in the wallet, and some nothing at all.
		fmt.Sprintf(`insert into fulcrum.reservations (tenant_id, id, request_hash, cost_nano, total_tokens, input_tokens, output_tokens, llm_calls, tool_calls, seconds, created_at, expires_at, posted, budget_ids, window_starts)
			select '%s', gen_random_uuid(), sha256(''), n %% 2, 0, 0, 0, 0, n %% 3, 0, now() - interval '1 h', now(), false, array['b', 'wallet:%s'], array['epoch'::timestamptz, 'epoch'] from generate_series(1, 1700) n`, p.tenant, p.wallet))
	ask := &ledgerv1.ExportEntriesRequest{From: timestamppb.New(time.Now().Add(-24 * time.Hour)), To: timestamppb.New(time.Now().Add(-time.Minute))}
	all, err := p.export(p.ctx, s, ask)
	if err != nil {
		t.Fatal(err)
	}
	lines := func(pages []*ledgerv1.ExportEntriesResponse) (out []string) {
		for _, page := range pages {
			for _, e := range page.GetEntries() {
				out = append(out, e.GetTransactionId()+e.GetBudgetId()+fmt.Sprint(e.GetLine()))
			}
		}
		return out
	}
	want := lines(all)
	if n := dbtest.Count(t, p.d, `select count(*) from fulcrum.ledger_entries`); int64(len(want)) != n || len(slices.Compact(slices.Sorted(slices.Values(want)))) != int(n) {
		t.Errorf("exported %d entries of %d", len(want), n)
	}
	if again, err := p.export(p.ctx, s, ask); err != nil || !slices.Equal(lines(again), want) {
		t.Errorf("asked again it differs: %v", err)
	}
	for i, page := range all {
		rest, err := p.export(p.ctx, s, &ledgerv1.ExportEntriesRequest{Cursor: page.GetCursor()})
		if err != nil || !slices.Equal(lines(rest), lines(all[i+1:])) {
			t.Errorf("after page %d: %d entries, %v", i, len(lines(rest)), err)
		}
	}
	one, err := p.export(p.ctx, s, &ledgerv1.ExportEntriesRequest{From: ask.GetFrom(), Account: "wallet:" + p.wallet})
	if n := dbtest.Count(t, p.d, `select count(*) from fulcrum.ledger_entries where budget_id = 'wallet:`+p.wallet+`'`); int64(len(lines(one))) != n || n < 850 {
		t.Errorf("exported %d entries of a wallet that has %d", len(lines(one)), n)
	}
	if err != nil || one[0].GetEntries()[0].GetKind() != "topup" || one[0].GetEntries()[0].GetFromAccount() != "external" || one[0].GetEntries()[1].GetReservationId() == "" {
		t.Errorf("the wallet's: %v, %v", one, err)
	}
}

// A hold that is stuck is listed, given back by hand once, and told with its
// reason; a settlement that comes after all is still charged.
func TestAStuckHoldIsListedAndReleasedByHand(t *testing.T) {
	t.Parallel()
	p := newPurse(t)
	s := start(t, p.d)
	p.topUp(s, 10*dollar, "k")
	p.spend(s, dollar)
	var ids []string
	for range 3 {
		id, _ := p.hold(s, 2*dollar)
		ids = append(ids, id)
	}
	// A batch may have believed in a time that the database has not reached.
	dbtest.Admin(t, p.d, `update fulcrum.reservations set created_at = now() + interval '5 s' where id = '`+ids[2]+`'`)
	var listed []string
	for token := ""; ; {
		page, err := s.books.ListHolds(p.ctx, &ledgerv1.ListHoldsRequest{PageSize: 2, PageToken: token, BudgetId: "wallet:" + p.wallet})
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range page.GetHolds() {
			listed = append(listed, h.GetReservationId())
			if h.GetAmounts().GetCostNano() != 2*dollar || h.GetAgentId() != "agent-7" || len(h.GetBudgetIds()) != 2 {
				t.Errorf("listed %v", h)
			}
		}
		if token = page.GetNextPageToken(); token == "" {
			break
		}
	}
	if !slices.Equal(listed, ids) {
		t.Errorf("listed %v, want %v", listed, ids)
	}
	for name, req := range map[string]*ledgerv1.ListHoldsRequest{"another budget": {BudgetId: "c"}, "older ones": {OlderThanSeconds: 3600}} {
		if page, err := s.books.ListHolds(p.ctx, req); err != nil || len(page.GetHolds()) != 0 {
			t.Errorf("%s: %v, %v", name, page, err)
		}
	}
	dbtest.Admin(t, p.d, `insert into fulcrum.hold_sweeps (tenant_id, swept_until) values ('`+p.tenant.String()+`', now() + interval '1 h')
		on conflict (tenant_id) do update set swept_until = excluded.swept_until`)
	for past, want := range map[bool]int{false: 0, true: 3} {
		if page, err := s.books.ListHolds(p.ctx, &ledgerv1.ListHoldsRequest{PastSweep: past}); err != nil || len(page.GetHolds()) != want {
			t.Errorf("with the mark ahead, past it %v: %v, %v", past, page, err)
		}
	}
	for range 2 {
		got, err := s.books.ReleaseHold(p.ctx, &ledgerv1.ReleaseHoldRequest{ReservationId: ids[1], Reason: "agent crashed"})
		if err != nil || got.GetReleased().GetCostNano() != 2*dollar {
			t.Errorf("ReleaseHold: %v, %v", got, err)
		}
	}
	if n := p.events("hold_released"); n != 1 {
		t.Errorf("told %d times", n)
	}
	usd := 1.0
	late, err := s.Settle(p.ctx, &budgetv1.SettleRequest{ReservationId: ids[1], IdempotencyKey: "s", Usage: &governancev1.Usage{CostUsd: &usd}})
	if err != nil || !late.GetLate() {
		t.Errorf("a late settlement: %v, %v", late, err)
	}
	balance.Check(t, p.d.AdminURL)
}

func TestACorrectionIsAppendedAndStatementsTellOfIt(t *testing.T) {
	t.Parallel()
	p := newPurse(t)
	s := start(t, p.d)
	p.topUp(s, 10*dollar, "k")
	reservation := p.spend(s, 4*dollar)
	for range 2 {
		got, err := s.books.CorrectCharge(p.ctx, &ledgerv1.CorrectChargeRequest{
			ReservationId: reservation, AmountNano: -dollar, Reason: "billed twice", IdempotencyKey: "c"})
		if err != nil || len(got.GetBudgets()) != 2 || got.GetBudgets()[0].GetSpent() != 3 || got.GetBudgets()[1].GetSpent() != 3 {
			t.Fatalf("CorrectCharge: %v, %v", got, err)
		}
	}
	if _, err := s.books.CorrectCharge(p.ctx, &ledgerv1.CorrectChargeRequest{BudgetId: "b", AmountNano: -4 * dollar, Reason: "r", IdempotencyKey: "d"}); !fault.HasReason(err, "CORRECTION_TOO_LARGE") {
		t.Errorf("more than was spent: %v", err)
	}
	if _, err := s.books.CorrectCharge(p.ctx, &ledgerv1.CorrectChargeRequest{WalletId: p.wallet, AmountNano: dollar, Reason: "r", IdempotencyKey: "e"}); err != nil {
		t.Errorf("of the wallet alone: %v", err)
	}
	if spent, err := s.costs.GetSpendSummary(p.ctx, &costv1.GetSpendSummaryRequest{}); err != nil || spent.GetSummary().GetTotalCostUsd() != 3 {
		t.Errorf("the summary: %v, %v; want what the action costs by now", spent, err)
	}
	if n := p.events("charge_corrected"); n != 2 {
		t.Errorf("told %d times", n)
	}
	got, err := s.wallets.GetStatement(p.ctx, &walletv1.GetStatementRequest{WalletId: p.wallet})
	if err != nil || len(got.GetSignature()) != 0 || !strings.Contains(got.GetUnsignedReason(), "fulcrum wallet key acme") {
		t.Errorf("a statement without a key: %v, %v", got, err)
	}
	if _, err := s.wallets.CreateSigningKey(p.ctx, &walletv1.CreateSigningKeyRequest{WalletId: p.wallet}); !fault.HasReason(err, "KEK_MISSING") {
		t.Errorf("a key without a key-encryption key: %v", err)
	}
	check, err := s.books.CheckLedger(p.ctx, &ledgerv1.CheckLedgerRequest{})
	if err != nil || check.GetWindows() != 2 || len(check.GetDifferences()) != 0 {
		t.Errorf("CheckLedger: %v, %v", check, err)
	}
	dbtest.Admin(t, p.d, `update fulcrum.budget_windows set cost_nano_spent = cost_nano_spent + 1, version = version + 1 where budget_id = 'b'`)
	check, err = s.books.CheckLedger(p.ctx, &ledgerv1.CheckLedgerRequest{})
	if err != nil || len(check.GetDifferences()) != 1 || check.GetDifferences()[0].GetCounter()-check.GetDifferences()[0].GetEntries() != 1 {
		t.Errorf("CheckLedger after tampering: %v, %v", check, err)
	}
}

// Statements verify, also after the key-encryption key was rotated and the old
// one is gone; the database alone shows no private key.
func TestStatementsAreSignedThroughARotationOfTheKeyEncryptionKey(t *testing.T) {
	t.Parallel()
	p := newPurse(t)
	before, after := newKEK(), newKEK()
	s := startWith(t, p.d, map[string]string{"BUDGET_WALLET_KEK": before})
	p.topUp(s, 10*dollar, "k")
	p.spend(s, 3*dollar)
	made, err := s.wallets.CreateSigningKey(p.ctx, &walletv1.CreateSigningKeyRequest{WalletId: p.wallet}, grpc.WaitForReady(true))
	if err != nil {
		t.Fatal(err)
	}
	verify := func(s served) {
		t.Helper()
		got, err := s.wallets.GetStatement(p.ctx, &walletv1.GetStatementRequest{WalletId: p.wallet}, grpc.WaitForReady(true))
		if err != nil {
			t.Fatal(err)
		}
		st, err := receipt.Verify(receipt.Signed{Document: got.GetDocument(), Signature: got.GetSignature()}, made.GetKey().GetPublicKey())
		if err != nil || st.Opening != 0 || st.Credited != 10*dollar || st.Charged != 3*dollar || st.Closing != 7*dollar || len(st.Movements) != 1 || st.Movements[0].Reference != "invoice 1" {
			t.Errorf("statement: %+v, %v", st, err)
		}
	}
	verify(s)
	wrapping := p.wrapping()
	s.stop()
	s = startWith(t, p.d, map[string]string{"BUDGET_WALLET_KEK": after, "BUDGET_WALLET_KEK_PREVIOUS": before})
	verify(s)
	for deadline := time.Now().Add(90 * time.Second); p.wrapping() == wrapping; {
		if time.Now().After(deadline) {
			t.Fatal("the key is still wrapped by the old key-encryption key")
		}
		<-time.After(20 * time.Millisecond) // the service does it at its start, by itself
	}
	s.stop()
	s = startWith(t, p.d, map[string]string{"BUDGET_WALLET_KEK": after})
	verify(s)
	keys, err := s.wallets.ListSigningKeys(p.ctx, &walletv1.ListSigningKeysRequest{WalletId: p.wallet})
	if err != nil || len(keys.GetKeys()) != 1 || !proto.Equal(keys.GetKeys()[0], made.GetKey()) {
		t.Errorf("ListSigningKeys: %v, %v", keys, err)
	}
	if n := p.events("wallet_key_created"); n != 1 {
		t.Errorf("told %d times", n)
	}
}

// wrapping names the key-encryption key that wraps the wallet's key.
func (p *purse) wrapping() int64 {
	return dbtest.Count(p.t, p.d, `select ('x' || kek_id)::bit(64)::bigint from fulcrum.wallet_keys`)
}

func newKEK() string {
	raw := make([]byte, 32)
	rand.Read(raw)
	return base64.StdEncoding.EncodeToString(raw)
}
