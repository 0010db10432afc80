package webhook

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/services/event-processor/internal/journal"
)

// TestType is the type of what TestWebhook sends.
const TestType = "webhook.test"

// kinds are the events of the journal that endpoints can be told, by what
// tenants call them. Payloads are never handed on whole: what an endpoint gets
// is listed here, and arguments are not in it.
var kinds = map[string]struct {
	name  string
	state string // of an approval then
	data  func(f journal.Fact, p payload, state, review string) any
}{
	"approval_requested": {"approval.requested", "PENDING", approvalData},
	"approval_vote_cast": {"approval.vote_cast", "PENDING", approvalData},
	"approval_approved":  {"approval.approved", "APPROVED", approvalData},
	"approval_rejected":  {"approval.rejected", "REJECTED", approvalData},
	"approval_expired":   {"approval.expired", "EXPIRED", approvalData},
	"approval_cancelled": {"approval.cancelled", "CANCELLED", approvalData},
	"approval_consumed":  {"approval.consumed", "CONSUMED", approvalData},
	"incident_opened":    {"incident.opened", "", incidentData},
}

// Types are all types of messages, in order.
func Types() []string {
	var all []string
	for k := range maps.Values(kinds) {
		all = append(all, k.name)
	}
	slices.Sort(all)
	return all
}

// Writer makes messages of facts. The zero Writer names no place for reviews.
type Writer struct {
	// ReviewURL is where people review approvals; {approval_id} in it is replaced.
	ReviewURL string
}

// Write returns the type and the body of what endpoints are told of f, or false
// if they are told nothing. Only what Fulcrum states itself is told.
func (w Writer) Write(f journal.Fact) (kind string, body []byte, ok bool) {
	k, ok := kinds[f.Type]
	if !ok || !f.System {
		return "", nil, false
	}
	var p payload
	if json.Unmarshal([]byte(f.Payload), &p) != nil {
		p = nil // told without, rather than not
	}
	var labels map[string]string
	if json.Unmarshal([]byte(f.Labels), &labels) == nil && labels["approval_id"] != "" {
		p = p.with("approval_id", labels["approval_id"])
	}
	review := ""
	if w.ReviewURL != "" && p.text("approval_id") != "" {
		review = strings.ReplaceAll(w.ReviewURL, "{approval_id}", p.text("approval_id"))
	}
	return k.name, envelope(k.name, f.OccurredAt, f.Tenant, k.data(f, p, k.state, review)), true
}

// envelope is the form of every body.
func envelope(kind string, at time.Time, tenant uuid.UUID, data any) []byte {
	body, err := json.Marshal(struct {
		Type      string    `json:"type"`
		Timestamp time.Time `json:"timestamp"`
		Tenant    uuid.UUID `json:"tenant_id"`
		Data      any       `json:"data"`
	}{kind, at.UTC(), tenant, data})
	if err != nil {
		panic("webhook: " + err.Error()) // text and numbers only
	}
	return body
}

// testBody is what TestWebhook sends.
func testBody(tenant, endpoint uuid.UUID, at time.Time) []byte {
	return envelope(TestType, at, tenant, map[string]string{"webhook_id": endpoint.String()})
}

// payload is a fact's own, read with suspicion.
type payload map[string]any

func (p payload) with(name, value string) payload {
	out := maps.Clone(p)
	if out == nil {
		out = payload{}
	}
	out[name] = value
	return out
}

// most bounds a text in a body.
const most = 1024

func (p payload) text(name string) string {
	s, _ := p[name].(string)
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

func (p payload) texts(name string) []string {
	list, _ := p[name].([]any)
	var out []string
	for _, v := range list {
		if s, ok := v.(string); ok {
			out = append(out, s)
		}
	}
	return out
}
