package web

import (
	"bytes"
	"encoding/json"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
)

// Whatever JSON comes in, it is read in one way or refused: what is accepted
// says the same when it is written and read again, has nothing after it, and an
// ordinary parser agrees that it is one document.
func FuzzJSONDoor(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"action":{"kind":1,"name":"x"},"idempotency_key":"k"}`, `{"action":{},"action":{}}`, `{"idempotency_key":"a","idempotencyKey":"b"}`,
		`{"action":{"arguments":{"a":1,"a":2}}}`, `{} {}`, "\ufeff{}", `{"estimate":{"costUsd":1e400}}`, `{"attributes":{"a":"\ud800"}}`, `[]`, `null`, `{"hold_ttl":"1s"}`,
	} {
		f.Add([]byte(seed))
	}
	m := newMarshaler()
	f.Fuzz(func(t *testing.T, body []byte) {
		var req governancev1.AuthorizeRequest
		if err := m.NewDecoder(bytes.NewReader(body)).Decode(&req); err != nil {
			if f, ok := fault.As(unreadable(err.Error())); !ok || f.Kind != fault.Invalid || len(f.Violations) != 1 {
				t.Fatalf("%q is refused with %v", body, err)
			}
			return
		}
		var any json.RawMessage
		if err := json.Unmarshal(body, &any); err != nil {
			t.Fatalf("%q is accepted, and not one JSON document: %v", body, err)
		}
		written, err := protojson.Marshal(&req)
		if err != nil {
			t.Fatalf("%q is accepted, and cannot be written: %v", body, err)
		}
		var again governancev1.AuthorizeRequest
		if err := strict.Unmarshal(written, &again); err != nil || !proto.Equal(&req, &again) && !hasNaN(written) {
			t.Fatalf("%q became %q: %v", body, written, err)
		}
	})
}

// hasNaN reports whether a message may differ from itself.
func hasNaN(written []byte) bool { return bytes.Contains(written, []byte(`"NaN"`)) }

// Forms are read as strictly as messages.
func FuzzForm(f *testing.F) {
	for _, seed := range []string{
		`{"policy_type":"cost_limit","name":"n","rules":{"max_cost_usd":5}}`, `{"policyType":"x","policy_type":"y"}`, `{"a":{"b":[1,{"c":2}]}}`, `{}x`, `[`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var in form
		if err := decodeStrict(snake(body), &in); err != nil {
			if !fault.Is(err, fault.Invalid) {
				t.Fatalf("%q is refused with %v", body, err)
			}
			return
		}
		if p, err := in.policy(); err != nil && !fault.Is(err, fault.Invalid) {
			t.Fatalf("%q: %v", body, err)
		} else if err == nil && len(p.GetRules()) == 0 {
			t.Fatalf("%q made a policy without rules", body)
		}
	})
}
