package ledger_test

import (
	"slices"
	"testing"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/amount"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/catalog"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/ledger"
)

const dollar = 1_000_000_000

// prepaid is a shelf whose one budget, of 1,000 dollars, draws on a wallet.
func prepaid(t *testing.T, lowCents ...int32) *shelf {
	t.Helper()
	s := open(t)
	s.wallet(1, false, lowCents...)
	return s
}

func (s *shelf) wallet(version int64, frozen bool, lowCents ...int32) {
	s.t.Helper()
	w := catalog.NewWallet("w", "acme", frozen, lowCents)
	s.configure(version, &catalog.Budget{ID: "a", Limits: amount.Amounts{amount.Cost: 1000 * dollar}, Wallet: w})
	s.books.Catalogs[s.tenant].WithWallets([]*catalog.Wallet{{ID: "w", Account: w}})
}

func (s *shelf) move(kind ledger.MoveKind, n int64, key string) (ledger.Answer, error) {
	return s.do((&ledger.Move{
		Tenant: s.tenant, Key: key, Kind: kind, Account: catalog.WalletAccount("w"), Cost: n, Reason: "because", Actor: "user:ada",
	}).Seal())
}

func (s *shelf) topUp(n int64, key string) {
	s.t.Helper()
	if _, err := s.move(ledger.TopUp, n, key); err != nil {
		s.t.Fatal(err)
	}
}

// stand is the wallet's credit, spent and held.
func (s *shelf) stand() (credit, spent, held int64) {
	for key, w := range s.books.Windows {
		if key.Budget == catalog.WalletAccount("w") {
			return w.Limit[amount.Cost], w.Spent[amount.Cost], w.Held[amount.Cost]
		}
	}
	return 0, 0, 0
}

func TestAWalletHoldsWhatItsBudgetHoldsAndRefusesBeyond(t *testing.T) {
	t.Parallel()
	s := prepaid(t)
	a := s.must(s.hold(dollar))
	if a.Granted || a.Reason != ledger.ReasonWalletExhausted || a.RefusedBy.Budget != "wallet:w" || !a.Suggested.IsZero() {
		t.Fatalf("an empty wallet: %+v", a)
	}
	s.topUp(10*dollar, "one")
	first := s.reserve(amount.Amounts{amount.Cost: 6 * dollar, amount.InputTokens: 500})
	if a := s.must(first); !a.Granted || len(a.States) != 2 {
		t.Fatalf("6 of 10: %+v", a)
	}
	refused := s.must(s.hold(5 * dollar))
	if refused.Granted {
		t.Fatal("5 of the 4 left were granted")
	}
	want := `Wallet "acme" has a balance of $10.00, of which $6.00 is held, and this call needs up to $5.00. Top it up, or wait until what is held is settled.`
	if refused.Message != want {
		t.Errorf("%s\nwant\n%s", refused.Message, want)
	}
	if r := refused.RefusedBy; r.Remaining != 4*dollar || r.Held != 6*dollar || r.Requested != 5*dollar {
		t.Errorf("refused by %+v", r)
	}
	s.must(charge(first.Ref, 2*dollar))
	if credit, spent, held := s.stand(); credit != 10*dollar || spent != 2*dollar || held != 0 {
		t.Errorf("credit %d spent %d held %d", credit, spent, held)
	}
	for key, w := range s.books.Windows {
		if key.Budget == "wallet:w" && w.Spent != (amount.Amounts{amount.Cost: 2 * dollar}) {
			t.Errorf("a wallet counts more than money: %v", w.Spent)
		}
	}
	if a := s.must(s.hold(8 * dollar)); !a.Granted {
		t.Errorf("all that is left: %+v", a)
	}
}

func TestABudgetRefusesBeforeItsWalletIsTouched(t *testing.T) {
	t.Parallel()
	s := prepaid(t)
	s.topUp(5000*dollar, "one")
	if a := s.must(s.hold(1001 * dollar)); a.Granted || a.RefusedBy.Budget != "a" {
		t.Fatalf("beyond the budget: %+v", a)
	}
	if _, _, held := s.stand(); held != 0 {
		t.Errorf("%d held in the wallet by a refusal", held)
	}
}

func TestEachLowBalanceIsAnnouncedOnceACrossing(t *testing.T) {
	t.Parallel()
	s := prepaid(t, 500, 200)
	s.topUp(10*dollar, "one")
	kinds := []ledger.EventType{ledger.WalletLow, ledger.WalletDepleted, ledger.WalletOverdrawn}
	step := func(n int64, want ...ledger.EventType) {
		t.Helper()
		s.events = nil
		s.spend(n)
		if got := s.named(kinds...); !slices.Equal(got, want) {
			t.Errorf("after spending %d: %v, want %v", n, got, want)
		}
	}
	step(4 * dollar)
	step(1*dollar, ledger.WalletLow) // 5 left
	step(1 * dollar)
	step(2*dollar, ledger.WalletLow) // 2 left
	s.topUp(1*dollar, "two")         // 3 left: only the lower one is armed again
	step(1*dollar, ledger.WalletLow)
	s.wallet(2, false, 900, 500, 200) // a new one above is passed long ago
	step(1 * dollar)
	step(1*dollar, ledger.WalletDepleted)
	s.topUp(10*dollar, "three")
	step(9*dollar, ledger.WalletLow, ledger.WalletLow, ledger.WalletLow)
}

// What was used is charged in full, beyond the hold and beyond the balance:
// that is a debt, told at once, and from then on nothing is granted.
func TestAChargeBeyondTheBalanceIsADebt(t *testing.T) {
	t.Parallel()
	s := prepaid(t)
	s.topUp(10*dollar, "one")
	r := s.hold(10 * dollar)
	s.must(r)
	s.must(charge(r.Ref, 13*dollar))
	if credit, spent, _ := s.stand(); credit-spent != -3*dollar {
		t.Errorf("balance %d", credit-spent)
	}
	if got := s.named(ledger.WalletOverdrawn); len(got) != 1 {
		t.Errorf("told %v", got)
	}
	if a := s.must(s.hold(1)); a.Granted {
		t.Error("granted in debt")
	}
	if a := s.must(s.reserve(amount.Amounts{amount.ToolCalls: 1})); !a.Granted {
		t.Errorf("what costs nothing was refused: %+v", a)
	}
	s.topUp(3*dollar, "two")
	if a := s.must(s.hold(1)); a.Granted {
		t.Error("granted with nothing left")
	}
	s.topUp(1, "three")
	if a := s.must(s.hold(1)); !a.Granted {
		t.Error("the last nano-dollar was refused")
	}
}

func TestAFrozenWalletPaysForNothingAndStillSettles(t *testing.T) {
	t.Parallel()
	s := prepaid(t)
	s.topUp(10*dollar, "one")
	r := s.hold(dollar)
	s.must(r)
	s.wallet(2, true)
	if a := s.must(s.hold(1)); a.Granted || a.Reason != ledger.ReasonWalletFrozen {
		t.Errorf("frozen: %+v", a)
	}
	s.must(charge(r.Ref, dollar))
	s.topUp(dollar, "two")
	if credit, spent, held := s.stand(); credit != 11*dollar || spent != dollar || held != 0 {
		t.Errorf("credit %d spent %d held %d", credit, spent, held)
	}
	s.wallet(3, false)
	if a := s.must(s.hold(1)); !a.Granted {
		t.Errorf("thawed: %+v", a)
	}
}

func TestMovementsAreDoneOnceAndNeverTakeWhatIsNotThere(t *testing.T) {
	t.Parallel()
	s := prepaid(t)
	s.topUp(10*dollar, "one")
	s.topUp(10*dollar, "one")
	if _, err := s.move(ledger.TopUp, 11*dollar, "one"); !fault.HasReason(err, "IDEMPOTENCY_KEY_REUSED") {
		t.Errorf("the key with another amount: %v", err)
	}
	s.must(s.hold(4 * dollar))
	s.spend(dollar)
	if _, err := s.move(ledger.Refund, -6*dollar, "too much"); !fault.HasReason(err, "WALLET_EXHAUSTED") {
		t.Errorf("a refund of what is held: %v", err)
	}
	if a, err := s.move(ledger.Refund, -5*dollar, "all"); err != nil || a.Movement.Balance != 4*dollar {
		t.Errorf("a refund of all that is free: %+v, %v", a, err)
	}
	if _, err := s.move(ledger.ByHand, -2*dollar, "more than spent"); !fault.HasReason(err, "CORRECTION_TOO_LARGE") {
		t.Errorf("a correction of more than was spent: %v", err)
	}
	if _, err := s.move(ledger.ByHand, -dollar, "put right"); err != nil {
		t.Error(err)
	}
	if credit, spent, held := s.stand(); credit != 5*dollar || spent != 0 || held != 4*dollar {
		t.Errorf("credit %d spent %d held %d", credit, spent, held)
	}
	_, err := s.do((&ledger.Move{Tenant: s.tenant, Key: "x", Kind: ledger.TopUp, Account: catalog.WalletAccount("nobody's"), Cost: 1}).Seal())
	if !fault.Is(err, fault.NotFound) {
		t.Errorf("a wallet that is not there: %v", err)
	}
}

func TestACorrectionOfAChargeReachesEverythingItWasChargedTo(t *testing.T) {
	t.Parallel()
	s := prepaid(t)
	s.topUp(10*dollar, "one")
	r := s.hold(6 * dollar)
	s.must(r)
	correct := func(n int64, key string) error {
		_, err := s.do((&ledger.Move{Tenant: s.tenant, Key: key, Kind: ledger.ByHand, Reservation: r.ID, Cost: n, Reason: "billed twice", Actor: "user:ada"}).Seal())
		return err
	}
	if err := correct(-1, "early"); !fault.HasReason(err, "RESERVATION_NOT_CHARGED") {
		t.Errorf("before the charge: %v", err)
	}
	s.must(charge(r.Ref, 6*dollar))
	for range 2 {
		if err := correct(-2*dollar, "k"); err != nil {
			t.Fatal(err)
		}
	}
	for key, w := range s.books.Windows {
		if w.Spent[amount.Cost] != 4*dollar {
			t.Errorf("%s has %d spent", key.Budget, w.Spent[amount.Cost])
		}
	}
}
