package vault

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"strings"
	"testing"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/secret"
)

func newKEK() secret.Secret {
	raw := make([]byte, keySize)
	rand.Read(raw)
	return secret.New(base64.StdEncoding.EncodeToString(raw))
}

func open(t *testing.T, current, previous secret.Secret) *Vault {
	t.Helper()
	v, err := New("SETTING", current, previous)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestASecretOpensUnderItsNameOnly(t *testing.T) {
	t.Parallel()
	v := open(t, newKEK(), secret.Secret{})
	plain := secret.New("the private half")
	sealed, err := v.Seal([]byte("tenant a"), plain)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(sealed.Data, []byte("private")) {
		t.Error("it is not encrypted")
	}
	if got, err := v.Open([]byte("tenant a"), sealed); err != nil || !got.Equal("the private half") {
		t.Errorf("Open: %v", err)
	}
	if _, err := v.Open([]byte("tenant b"), sealed); err == nil {
		t.Error("it opens under another name")
	}
	for i := range sealed.Data {
		changed := sealed
		changed.Data = bytes.Clone(sealed.Data)
		changed.Data[i] ^= 1
		if _, err := v.Open([]byte("tenant a"), changed); err == nil {
			t.Fatalf("it opens with byte %d changed", i)
		}
	}
	again, err := v.Seal([]byte("tenant a"), plain)
	if err != nil || bytes.Equal(again.Data, sealed.Data) || bytes.Equal(again.DataKey, sealed.DataKey) {
		t.Errorf("sealed twice the same: %v", err)
	}
}

func TestTheKeyEncryptionKeyIsRotatedByRewrapping(t *testing.T) {
	t.Parallel()
	before, after := newKEK(), newKEK()
	old := open(t, before, secret.Secret{})
	sealed, err := old.Seal([]byte("n"), secret.New("s"))
	if err != nil {
		t.Fatal(err)
	}
	both := open(t, after, before)
	if _, err := both.Open([]byte("n"), sealed); err != nil {
		t.Errorf("while both are there: %v", err)
	}
	rewrapped, err := both.Rewrap([]byte("n"), sealed)
	if err != nil || rewrapped.KEK != both.Current() || !bytes.Equal(rewrapped.Data, sealed.Data) {
		t.Fatalf("Rewrap: %+v, %v", rewrapped, err)
	}
	alone := open(t, after, secret.Secret{})
	if got, err := alone.Open([]byte("n"), rewrapped); err != nil || !got.Equal("s") {
		t.Errorf("with the new one alone: %v", err)
	}
	if _, err := alone.Open([]byte("n"), sealed); !fault.HasReason(err, "KEK_UNKNOWN") {
		t.Errorf("what the old one wraps: %v", err)
	}
}

func TestWithoutAKeyItSaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	v := open(t, secret.Secret{}, secret.Secret{})
	_, err := v.Seal(nil, secret.New("s"))
	if f, ok := fault.As(err); !ok || f.Code() != "KEK_MISSING" || !strings.Contains(f.Hint, "SETTING_FILE") {
		t.Errorf("Seal: %v", err)
	}
	for _, bad := range []string{"short", base64.StdEncoding.EncodeToString(make([]byte, 31))} {
		if _, err := New("SETTING", secret.New(bad), secret.Secret{}); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}
