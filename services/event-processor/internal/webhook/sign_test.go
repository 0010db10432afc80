package webhook

import (
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
	"time"

	standard "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/fulcrum-io/fulcrum/pkg/secret"
)

// The example of the specification's own tests.
func TestASignatureIsThatOfTheSpecification(t *testing.T) {
	t.Parallel()
	got, err := sign([]secret.Secret{secret.New("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")}, "msg_p5jXN8AQM9LWM0D4loKWxJek",
		time.Unix(1614265330, 0), []byte(`{"test": 2432232314}`))
	if want := "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="; err != nil || got != want {
		t.Errorf("%q, %v; want %q", got, err, want)
	}
}

// Receivers check with a library of others: either secret satisfies it while
// both sign, and neither a changed body nor another id does.
func TestReceiversVerifyEverySignature(t *testing.T) {
	t.Parallel()
	first, second, stranger := NewSecret(), NewSecret(), NewSecret()
	body, now := []byte(`{"type":"webhook.test"}`), time.Now()
	signature, err := sign([]secret.Secret{first, second}, "msg_1", now, body)
	if err != nil || strings.Count(signature, "v1,") != 2 {
		t.Fatalf("%q, %v", signature, err)
	}
	verify := func(s secret.Secret, id string, body []byte) error {
		w, err := standard.NewWebhook(s.Reveal())
		if err != nil {
			t.Fatal(err)
		}
		h := http.Header{}
		h.Set("Webhook-Id", id)
		h.Set("Webhook-Timestamp", signedAt(now))
		h.Set("Webhook-Signature", signature)
		return w.Verify(body, h)
	}
	for name, s := range map[string]secret.Secret{"first": first, "second": second} {
		if err := verify(s, "msg_1", body); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, err := range map[string]error{
		"another secret": verify(stranger, "msg_1", body), "another id": verify(first, "msg_2", body), "another body": verify(first, "msg_1", []byte(`{}`)),
	} {
		if err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

func TestASecretHasTheFormAndTheStrength(t *testing.T) {
	t.Parallel()
	s := NewSecret().Reveal()
	raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(s, "whsec_"))
	if !strings.HasPrefix(s, "whsec_") || err != nil || len(raw) != 32 {
		t.Errorf("%d bytes, %v", len(raw), err)
	}
	if _, err := sign(nil, "msg_1", time.Now(), nil); err == nil {
		t.Error("something is sent unsigned")
	}
}
