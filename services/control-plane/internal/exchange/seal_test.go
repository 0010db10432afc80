package exchange

import (
	"bytes"
	"crypto/rand"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"google.golang.org/protobuf/proto"

	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	lifecyclev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policylifecycle/v1"
)

// Whatever bytes come as a bundle, what is believed is what was signed: no other
// policies than those of the one bundle that this key signed.
func FuzzOpen(f *testing.F) {
	private, public, err := note.GenerateKey(rand.Reader, "test")
	if err != nil {
		f.Fatal(err)
	}
	signer, err := note.NewSigner(private)
	if err != nil {
		f.Fatal(err)
	}
	key, err := note.NewVerifier(public)
	if err != nil {
		f.Fatal(err)
	}
	signed := &lifecyclev1.PolicyExport{Format: format}
	signed.Policies = append(signed.Policies, &policyv1.Policy{Name: "a", Rego: "package fulcrum.policy\n\ndeny contains \"x\"\n"})
	bundle, err := seal(signer, signed)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(bundle)
	f.Add(bytes.ReplaceAll(bundle, []byte("deny"), []byte("warn")))
	f.Add([]byte(`{"policies": {}, "signature": {"key": "test", "key_hash": 1, "ed25519": "AAAA"}}`))
	f.Add([]byte(`{"policies": [1e400, "\ud800"], "signature": {"ed25519": "AA=="}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		export, by, err := open([]note.Verifier{key}, raw)
		if err != nil {
			return
		}
		if by != "test" || !proto.Equal(export, signed) {
			t.Errorf("believed %v by %q", export, by)
		}
	})
}
