package chaos

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	controlplanev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/controlplane/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"

	"github.com/fulcrum-io/fulcrum/test/internal/running"
)

// told is one message as a receiver has it.
type told struct {
	id, kind, approval string
	signed             bool
}

// Everything is killed while the receiver of a webhook is about to answer. The
// message comes again, with the same id; and what happens to the approval
// afterwards comes, too.
func TestAnApprovalIsToldThoughFulcrumIsKilled(t *testing.T) {
	t.Parallel()
	s := lab.New(t, "EVENT_PROCESSOR_WEBHOOK_NETWORKS=127.0.0.0/8", "EVENT_PROCESSOR_WEBHOOK_RETRY=100ms", "EVENT_PROCESSOR_WEBHOOK_TIMEOUT=5s")
	tn := s.Tenant(t, "webhooks")
	tn.Policy(t, "refunds", &policyv1.PolicyScope{ToolNames: []string{"issue_refund"}}, &policyv1.PolicyRule{
		RuleId: "refund", Name: "refunds need approval", Actions: []*policyv1.PolicyAction{{ActionType: policyv1.ActionType_ACTION_TYPE_REQUIRE_APPROVAL}},
	})
	var mu sync.Mutex // guards secret
	secret := ""
	got := make(chan told, 100)
	held, release := make(chan struct{}), make(chan struct{})
	var first sync.Once
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		mu.Lock()
		in := told{id: r.Header.Get("Webhook-Id"), signed: signedBy(secret, r.Header, body)}
		mu.Unlock()
		var m struct {
			Type string
			Data struct {
				ID string `json:"approval_id"`
			}
		}
		if json.Unmarshal(body, &m) == nil {
			in.kind, in.approval = m.Type, m.Data.ID
		}
		got <- in
		first.Do(func() {
			close(held)
			<-release
		})
	}))
	t.Cleanup(srv.Close)
	hook, err := controlplanev1.NewWebhookServiceClient(tn.Owner.Conn).CreateWebhook(t.Context(), &controlplanev1.CreateWebhookRequest{Url: srv.URL})
	if err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	secret = hook.GetSecret()
	mu.Unlock()
	bot := tn.Agent(t, "refund-bot")
	lead := tn.Issue(t, &controlplanev1.IssueApiKeyRequest{Name: "lead", Scopes: []string{"approval:read", "approval:write"}, UserId: "dana"})
	asked, err := bot.Governance.Authorize(t.Context(), running.Inline("refunds", running.Tool("issue_refund")))
	if err != nil {
		t.Fatal(err)
	}
	id := asked.GetApproval().GetApprovalId()

	<-held
	s.Kill()
	close(release)
	before := next(t, got)
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	after := next(t, got)
	if after != before || before.kind != "approval.requested" || before.approval != id || !before.signed {
		t.Errorf("before the kill %+v, after it %+v; the approval is %s", before, after, id)
	}
	running.Eventually(t, time.Minute, func(ctx context.Context) error { // the client finds its way back
		_, err := lead.Policies.UpdateApproval(ctx, &policyv1.UpdateApprovalRequest{ApprovalId: id, Status: "APPROVED"})
		return err
	})
	for {
		in := next(t, got)
		if in.kind == "approval.approved" && in.approval == id && in.signed {
			break
		}
		if in.id != before.id { // the first may come a third time
			t.Fatalf("then came %+v", in)
		}
	}
}

func next(t *testing.T, got chan told) told {
	t.Helper()
	select {
	case in := <-got:
		return in
	case <-time.After(2 * time.Minute):
		t.Fatal("the receiver was told nothing")
		return told{}
	}
}

// signedBy checks a message the way the specification says.
func signedBy(secret string, h http.Header, body []byte) bool {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	if err != nil {
		return false
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(h.Get("Webhook-Id") + "." + h.Get("Webhook-Timestamp") + "."))
	mac.Write(body)
	return h.Get("Webhook-Signature") == "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil))
}
