package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A wallet's life as an operator types it: made, filled, drawn on by a budget,
// frozen, stated and verified; and the books around it.
func TestAWalletFromItsMakingToAVerifiedStatement(t *testing.T) {
	t.Parallel()
	s := newTenant(t)
	s.types("wallet create prepaid --low 5 --description credit").exits(0).shows("prepaid", "EMPTY").says("next: fulcrum wallet topup prepaid")
	s.types("wallet topup prepaid 20 --reference invoice-1 --idempotency-key k1").exits(0).shows("$20.00")
	s.types("wallet topup prepaid 20 --reference invoice-1 --idempotency-key k1").exits(0).shows("$20.00")
	s.types("wallet topup prepaid 21 --idempotency-key k1").says("already used")
	s.types("wallet refund prepaid 2.50 --reason", "paid too much").exits(0).shows("$17.50")
	s.types("wallet refund prepaid 100 --reason greed").says("cannot be taken out")
	s.types("wallet adjust prepaid --reason typo -- -0.50").exits(0).shows("$17.00")
	s.types("budget create drawn --cost 100 --wallet prepaid").exits(0)
	s.types("budget create lost --cost 100 --wallet nobody").says("no wallet")
	s.types("wallet freeze prepaid").says("reason")
	s.types("wallet freeze prepaid --reason disputed").exits(0).shows("FROZEN")
	s.types("wallet thaw prepaid --reason settled").exits(0).shows("OK")
	s.types("wallet show prepaid").exits(0).shows("credit", "$17.00", "low at")
	s.types("wallet list").exits(0).shows("prepaid", "$17.00")

	s.types("wallet statement prepaid").exits(0).says("not signed", "fulcrum wallet key prepaid")
	var made struct {
		Key struct {
			PublicKey string `json:"public_key"`
		} `json:"key"`
	}
	s.types("wallet key prepaid -o json").exits(0).json(&made)
	stated := s.types("wallet statement prepaid").exits(0).out
	file := filepath.Join(t.TempDir(), "statement.json")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(stated)
	s.types("wallet statement --verify "+file+" --key", made.Key.PublicKey).exits(0).shows("verified", "closing", "$17.00")
	s.types("wallet statement --verify " + file).exits(0).says("compare " + made.Key.PublicKey)
	write(strings.Replace(stated, "17000000000", "18000000000", 1))
	s.types("wallet statement --verify "+file+" --key", made.Key.PublicKey).exits(exitTampered).says("changed")

	s.types("hold list").exits(0).says("nothing is held")
	s.types("hold release 01a1fded-d2d8-7cf5-a33a-12f85d2852f1 --reason x").says("no reservation")
	s.types("ledger check").exits(0).says("add up")
	s.types("ledger correct --wallet prepaid --reason missed -- 1").exits(0).shows("prepaid")
	s.types("wallet show prepaid").exits(0).shows("$16.00")
	s.types("ledger export --from 1h").exits(0).shows("occurred_at,transaction_id,line,kind,account")
	s.types("ledger export").says("--from")
}
