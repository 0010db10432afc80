package webhook

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/services/event-processor/internal/journal"
)

func asked(tenant uuid.UUID) journal.Fact {
	return journal.Fact{
		Tenant: tenant, ID: uuid.New(), Type: "approval_requested", System: true, OccurredAt: time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC), EnvelopeID: "env",
		Labels: `{"approval_id": "a1"}`,
		Payload: `{"action_kind": "TOOL_CALL", "action_name": "refund", "digest": "abcd", "quorum": "2", "roles": ["finance"], "requested_by_agent": "bot",
			"policy_id": "p", "policy_name": "refunds", "expires_at": "2026-05-01T12:15:00Z", "decision_id": "d",
			"arguments": {"card": "4111"}, "reasons": [{"message": "secret reason"}]}`,
	}
}

// What is told is enough to know who should look, and where; arguments are not
// told even where the event has them.
func TestAMessageTellsWhatIsAskedAndNoArguments(t *testing.T) {
	t.Parallel()
	tenant := uuid.New()
	kind, body, ok := Writer{ReviewURL: "https://console.example/approvals/{approval_id}"}.Write(asked(tenant))
	if !ok || kind != "approval.requested" {
		t.Fatalf("%q, %v", kind, ok)
	}
	var got, want any
	if err := json.Unmarshal(body, &got); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(`{"type": "approval.requested", "timestamp": "2026-05-01T12:00:00Z", "tenant_id": "`+tenant.String()+`", "data": {
		"approval_id": "a1", "state": "PENDING", "decision_id": "d", "envelope_id": "env", "action": {"kind": "TOOL_CALL", "name": "refund"},
		"requested_by": {"agent_id": "bot"}, "digest": "sha256:abcd", "policy": {"policy_id": "p", "name": "refunds"}, "quorum": 2, "roles": ["finance"],
		"expires_at": "2026-05-01T12:15:00Z", "review_url": "https://console.example/approvals/a1"}}`), &want); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestOnlyWhatFulcrumStatesIsTold(t *testing.T) {
	t.Parallel()
	forged := asked(uuid.New())
	forged.System = false
	if _, _, ok := (Writer{}).Write(forged); ok {
		t.Error("what a caller publishes is told as ours")
	}
	other := asked(uuid.New())
	other.Type = "decision_made"
	if _, _, ok := (Writer{}).Write(other); ok {
		t.Error("every decision is told")
	}
	broken := asked(uuid.New())
	broken.Payload, broken.Labels = `[]`, `7`
	if _, body, ok := (Writer{}).Write(broken); !ok || !strings.Contains(string(body), `"state":"PENDING"`) {
		t.Errorf("a payload of another form: %s", body)
	}
	long := asked(uuid.New())
	long.Payload = `{"action_name": "` + strings.Repeat("ü", 60000) + `"}`
	if _, body, _ := (Writer{}).Write(long); len(body) > 4096 || !json.Valid(body) {
		t.Errorf("a long name makes %d bytes", len(body))
	}
}
