// Package exchange carries policies from one deployment to another in bundles
// that are signed, so that what arrives is what was reviewed.
package exchange

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/gowebpki/jcs"
	"golang.org/x/mod/sumdb/note"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/strictjson"
	lifecyclev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policylifecycle/v1"
)

// format names the bundle's form, inside what is signed.
const format = "fulcrum-policies/1"

// purpose separates these signatures from whatever else a key may sign.
const purpose = "fulcrum policy bundle 1\n"

// document is a bundle as a file has it.
type document struct {
	Policies  json.RawMessage `json:"policies"`
	Signature signature       `json:"signature"`
}

// signature is Ed25519 over the purpose and the canonical form (RFC 8785) of
// policies, which no spelling of the file changes.
type signature struct {
	Key     string `json:"key"`
	KeyHash uint32 `json:"key_hash"`
	Ed25519 []byte `json:"ed25519"`
}

// seal signs an export.
func seal(key note.Signer, export *lifecyclev1.PolicyExport) ([]byte, error) {
	raw, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(export)
	if err != nil {
		return nil, fmt.Errorf("write policies: %w", err)
	}
	canonical, err := jcs.Transform(raw)
	if err != nil {
		return nil, fmt.Errorf("canonical form: %w", err)
	}
	sig, err := key.Sign(append([]byte(purpose), canonical...))
	if err != nil {
		return nil, fmt.Errorf("sign policies: %w", err)
	}
	out, err := json.MarshalIndent(document{Policies: canonical, Signature: signature{Key: key.Name(), KeyHash: key.KeyHash(), Ed25519: sig}}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write bundle: %w", err)
	}
	return append(out, '\n'), nil
}

// open returns the export of a bundle and the name of the trusted key that
// signed it, or an Invalid fault that says why it is refused.
func open(trusted []note.Verifier, bundle []byte) (*lifecyclev1.PolicyExport, string, error) {
	var d document
	if err := strictjson.Unique(bundle); err != nil {
		return nil, "", refused("BUNDLE_MALFORMED", "is no bundle of policies: %s", err)
	}
	decoder := json.NewDecoder(bytes.NewReader(bundle))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&d); err != nil || decoder.More() || len(d.Policies) == 0 {
		return nil, "", refused("BUNDLE_MALFORMED", "is no bundle of policies").WithCause(err)
	}
	if len(d.Signature.Ed25519) == 0 {
		return nil, "", refused("BUNDLE_UNSIGNED", "is not signed")
	}
	canonical, err := jcs.Transform(d.Policies)
	if err != nil {
		return nil, "", refused("BUNDLE_MALFORMED", "has no canonical form").WithCause(err)
	}
	for _, key := range trusted {
		if key.Name() != d.Signature.Key || key.KeyHash() != d.Signature.KeyHash {
			continue
		}
		if !key.Verify(append([]byte(purpose), canonical...), d.Signature.Ed25519) {
			return nil, "", refused("BUNDLE_TAMPERED", "was changed after %s signed it", key.Name())
		}
		export := &lifecyclev1.PolicyExport{}
		if err := protojson.Unmarshal(canonical, export); err != nil {
			return nil, "", refused("BUNDLE_MALFORMED", "has policies that this release does not understand").WithCause(err)
		}
		if export.GetFormat() != format {
			return nil, "", refused("BUNDLE_MALFORMED", "has the form %q, this release reads %q", export.GetFormat(), format)
		}
		return export, key.Name(), nil
	}
	return nil, "", refused("BUNDLE_KEY_UNKNOWN", "is signed by %q, which is no trusted key", clip(d.Signature.Key)).
		WithHint("An operator adds trusted keys to FULCRUM_POLICY_TRUSTED_KEYS.")
}

func refused(reason, form string, a ...any) *fault.Error {
	return fault.Field("bundle", form, a...).WithReason(reason)
}

func clip(s string) string {
	if len(s) > 100 {
		return s[:100] + "…"
	}
	return s
}
