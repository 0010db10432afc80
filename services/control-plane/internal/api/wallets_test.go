package api_test

import (
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/fulcrum-io/fulcrum/db/dbtest"
	"github.com/fulcrum-io/fulcrum/pkg/fault"
	costv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/cost/v1"
	walletv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/wallet/v1"
)

const dollar = 1_000_000_000

func (b *bench) createWallet(name string) *walletv1.Wallet {
	b.t.Helper()
	resp, err := b.wallets.CreateWallet(b.all(), &walletv1.CreateWalletRequest{Name: name, LowBalanceNano: []int64{dollar, 5 * dollar, dollar}})
	if err != nil {
		b.t.Fatal(err)
	}
	return resp.GetWallet()
}

func TestAWalletIsMadeFrozenAndPublished(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	w := b.createWallet(" acme ")
	if w.GetName() != "acme" || !slices.Equal(w.GetLowBalanceNano(), []int64{5 * dollar, dollar}) || w.GetEtag() == "" {
		t.Errorf("made %v", w)
	}
	published := func(want *walletv1.Wallet) {
		t.Helper()
		if got := b.budgetBundle(b.tenantA).GetWallets(); len(got) != 1 || !proto.Equal(got[0], want) {
			t.Errorf("published %v, want %v", got, want)
		}
	}
	published(w)
	update := func(req *walletv1.UpdateWalletRequest) *walletv1.Wallet {
		t.Helper()
		req.WalletId = w.GetWalletId()
		resp, err := b.wallets.UpdateWallet(b.all(), req)
		if err != nil {
			t.Fatal(err)
		}
		published(resp.GetWallet())
		return resp.GetWallet()
	}
	frozen := update(&walletv1.UpdateWalletRequest{Frozen: proto.Bool(true), Reason: "disputed"})
	if !frozen.GetFrozen() || frozen.GetFrozenReason() != "disputed" || frozen.GetName() != "acme" || len(frozen.GetLowBalanceNano()) != 2 {
		t.Errorf("frozen: %v", frozen)
	}
	if again := update(&walletv1.UpdateWalletRequest{Frozen: proto.Bool(true), Reason: "another"}); !proto.Equal(again, frozen) {
		t.Errorf("frozen again: %v", again)
	}
	thawed := update(&walletv1.UpdateWalletRequest{Frozen: proto.Bool(false), Reason: "settled", LowBalances: &walletv1.LowBalances{}})
	if thawed.GetFrozen() || thawed.GetFrozenReason() != "" || len(thawed.GetLowBalanceNano()) != 0 {
		t.Errorf("thawed: %v", thawed)
	}
	_, err := b.wallets.UpdateWallet(b.all(), &walletv1.UpdateWalletRequest{WalletId: w.GetWalletId(), Name: proto.String("x"), Etag: frozen.GetEtag()})
	wantKind(t, "an old etag", err, fault.Conflict, "ETAG_MISMATCH")
	for kind, want := range map[string]int64{"wallet_created": 1, "wallet_frozen": 1, "wallet_thawed": 1, "wallet_updated": 0} {
		if n := dbtest.Count(t, b.Database, `select count(*) from fulcrum.outbox where type = $1`, kind); n != want {
			t.Errorf("%s told %d times, want %d", kind, n, want)
		}
	}
}

func TestAWalletIsMadeOnceForAKeyAndAName(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	req := &walletv1.CreateWalletRequest{Name: "acme"}
	first, err := b.wallets.CreateWallet(withKey(b.all(), "k"), req)
	if err != nil {
		t.Fatal(err)
	}
	again, err := b.wallets.CreateWallet(withKey(b.all(), "k"), req)
	if err != nil || !proto.Equal(first, again) {
		t.Errorf("again: %v, %v", again, err)
	}
	_, err = b.wallets.CreateWallet(withKey(b.all(), "k"), &walletv1.CreateWalletRequest{Name: "other"})
	wantKind(t, "the key for another", err, fault.Conflict, "IDEMPOTENCY_KEY_REUSED")
	_, err = b.wallets.CreateWallet(b.all(), req)
	wantKind(t, "the name again", err, fault.Conflict, "WALLET_NAME_TAKEN")
	if _, err := b.wallets.CreateWallet(as(t.Context(), dbtest.Tenant(t, b.Database), "*"), req); err != nil {
		t.Errorf("the name in another tenant: %v", err)
	}
}

func TestABudgetDrawsOnAWalletOfItsTenantOnly(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	w := b.createWallet("acme")
	m := daily("team", 5)
	m.WalletId = w.GetWalletId()
	stored := b.createBudget(b.all(), m)
	if got := b.budgetBundle(b.tenantA).GetBudgets()[0]; got.GetWalletId() != w.GetWalletId() {
		t.Errorf("published %v", got)
	}
	stranger := as(t.Context(), dbtest.Tenant(t, b.Database), "*")
	_, err := b.cost.CreateBudget(stranger, &costv1.CreateBudgetRequest{Budget: m})
	wantKind(t, "another tenant's wallet", err, fault.Invalid, "")
	_, err = b.wallets.UpdateWallet(stranger, &walletv1.UpdateWalletRequest{WalletId: w.GetWalletId(), Name: proto.String("mine")})
	wantKind(t, "another tenant's change", err, fault.NotFound, "")
	for name, id := range map[string]string{"no UUID": "acme", "nobody's": "0193b5a0-0000-7000-8000-000000000001"} {
		_, err := b.cost.UpdateBudget(b.all(), &costv1.UpdateBudgetRequest{Budget: &costv1.Budget{BudgetId: stored.GetBudgetId(), WalletId: id}})
		wantKind(t, name, err, fault.Invalid, "")
	}
	got, err := b.cost.UpdateBudget(b.all(), &costv1.UpdateBudgetRequest{Budget: &costv1.Budget{BudgetId: stored.GetBudgetId()}, UpdateMask: []string{"wallet_id"}})
	if err != nil || got.GetBudget().GetWalletId() != "" {
		t.Errorf("taken off: %v, %v", got, err)
	}
}

func TestABadWalletIsNamedByItsField(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	w := b.createWallet("acme")
	for name, err := range map[string]error{
		"no name":           call(b.wallets.CreateWallet(b.all(), &walletv1.CreateWalletRequest{})),
		"a blank name":      call(b.wallets.CreateWallet(b.all(), &walletv1.CreateWalletRequest{Name: "  "})),
		"a fraction":        call(b.wallets.CreateWallet(b.all(), &walletv1.CreateWalletRequest{Name: "x", LowBalanceNano: []int64{dollar + 1}})),
		"a negative":        call(b.wallets.CreateWallet(b.all(), &walletv1.CreateWalletRequest{Name: "x", LowBalanceNano: []int64{-dollar}})),
		"a zero byte":       call(b.wallets.CreateWallet(b.all(), &walletv1.CreateWalletRequest{Name: "x\x00"})),
		"frozen for nought": call(b.wallets.UpdateWallet(b.all(), &walletv1.UpdateWalletRequest{WalletId: w.GetWalletId(), Frozen: proto.Bool(true)})),
		"no id":             call(b.wallets.UpdateWallet(b.all(), &walletv1.UpdateWalletRequest{WalletId: "acme"})),
	} {
		wantKind(t, name, err, fault.Invalid, "")
	}
	if n := dbtest.Count(t, b.Database, `select count(*) from fulcrum.wallets where revision = 1`); n != 1 {
		t.Errorf("what was refused changed something: %d wallets as made", n)
	}
}
