// Package receipt is a wallet's statement: what it says, how it is signed, and
// how anybody checks it without asking the server.
package receipt

import (
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"time"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
)

// Statement is what happened to a wallet in [From, To). Amounts are nano-USD:
// Closing = Opening + Credited - Charged.
type Statement struct {
	Version  int       `json:"version"` // 1
	Tenant   string    `json:"tenant_id"`
	Wallet   string    `json:"wallet_id"`
	Name     string    `json:"name"`
	From     time.Time `json:"from"`
	To       time.Time `json:"to"`
	Issued   time.Time `json:"issued_at"`
	Currency string    `json:"currency"` // "USD", in units of 1e-9

	Opening  int64 `json:"opening_balance_nano"`
	Credited int64 `json:"credited_nano"`
	Charged  int64 `json:"charged_nano"`
	Closing  int64 `json:"closing_balance_nano"`

	Days      []Day      `json:"days"`
	Movements []Movement `json:"movements"` // by hand
}

// Day is what was credited and charged on one day, UTC.
type Day struct {
	Date     string `json:"date"`
	Credited int64  `json:"credited_nano"`
	Charged  int64  `json:"charged_nano"`
}

// Movement is one change by hand.
type Movement struct {
	ID        string    `json:"movement_id"`
	At        time.Time `json:"occurred_at"`
	Kind      string    `json:"kind"`
	Amount    int64     `json:"amount_nano"` // added to the balance
	Reference string    `json:"reference,omitempty"`
	Reason    string    `json:"reason,omitempty"`
	Actor     string    `json:"actor"`
}

// Signed is a statement as it is carried away. Document is JSON of a Statement;
// the signature is over its very bytes.
type Signed struct {
	Document  string `json:"document"`
	Signature []byte `json:"signature"` // Ed25519
	KeyID     string `json:"key_id"`
	PublicKey []byte `json:"public_key"`
}

// context keeps a signature of a statement from meaning anything else.
const context = "fulcrum wallet statement v1\n"

// Write is s as the text that is signed.
func (s Statement) Write() (string, error) {
	raw, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return "", fmt.Errorf("write statement: %w", err)
	}
	return string(raw) + "\n", nil
}

// Sign signs a document.
func Sign(key ed25519.PrivateKey, document string) []byte {
	return ed25519.Sign(key, []byte(context+document))
}

// Verify checks that key signed s, that the document adds up, and returns what
// it says. With no key it is checked with the one that s carries: that proves
// only that nobody changed it since. Its error is a fault.
func Verify(s Signed, key ed25519.PublicKey) (Statement, error) {
	var st Statement
	if key == nil {
		key = s.PublicKey
	}
	if len(key) != ed25519.PublicKeySize || len(s.Signature) == 0 {
		return st, fault.New(fault.Invalid, "the statement is not signed").WithReason("STATEMENT_UNSIGNED")
	}
	if !ed25519.Verify(key, []byte(context+s.Document), s.Signature) {
		return st, fault.New(fault.Invalid, "the signature does not fit: the statement was changed, or another key signed it").WithReason("STATEMENT_FORGED")
	}
	if err := json.Unmarshal([]byte(s.Document), &st); err != nil {
		return st, fault.New(fault.Invalid, "the signed document is not a statement: %v", err)
	}
	var credited, charged int64
	for _, d := range st.Days {
		credited, charged = credited+d.Credited, charged+d.Charged
	}
	if st.Version != 1 || credited != st.Credited || charged != st.Charged || st.Closing != st.Opening+st.Credited-st.Charged {
		return st, fault.New(fault.Invalid, "the signature fits, but the statement does not add up").WithReason("STATEMENT_WRONG")
	}
	return st, nil
}
