package receipt

import (
	"crypto/ed25519"
	"strings"
	"testing"
	"time"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
)

func TestAStatementVerifiesUntilAByteOfItChanges(t *testing.T) {
	t.Parallel()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	other, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	st := Statement{
		Version: 1, Wallet: "w", From: time.Unix(0, 0).UTC(), Opening: 5, Credited: 10, Charged: 3, Closing: 12,
		Days: []Day{{Date: "2026-01-01", Credited: 10}, {Date: "2026-01-02", Charged: 3}},
	}
	sign := func(st Statement) Signed {
		document, err := st.Write()
		if err != nil {
			t.Fatal(err)
		}
		return Signed{Document: document, Signature: Sign(private, document), PublicKey: public}
	}
	good := sign(st)
	for _, key := range []ed25519.PublicKey{nil, public} {
		if got, err := Verify(good, key); err != nil || got.Closing != 12 {
			t.Errorf("Verify: %+v, %v", got, err)
		}
	}
	if _, err := Verify(good, other); !fault.HasReason(err, "STATEMENT_FORGED") {
		t.Errorf("another key: %v", err)
	}
	changed := good
	changed.Document = strings.Replace(good.Document, "12", "13", 1)
	if _, err := Verify(changed, nil); !fault.HasReason(err, "STATEMENT_FORGED") {
		t.Errorf("a changed digit: %v", err)
	}
	bare := good
	bare.Signature = nil
	if _, err := Verify(bare, nil); !fault.HasReason(err, "STATEMENT_UNSIGNED") {
		t.Errorf("no signature: %v", err)
	}
	st.Closing++
	if _, err := Verify(sign(st), nil); !fault.HasReason(err, "STATEMENT_WRONG") {
		t.Errorf("a sum that is wrong: %v", err)
	}
}
