package webhook

import (
	"strconv"

	"github.com/fulcrum-io/fulcrum/services/event-processor/internal/journal"
)

// approval is what an endpoint is told of one: enough to know who should look,
// and where. Arguments and input are seen there only.
type approval struct {
	ID          string   `json:"approval_id"`
	State       string   `json:"state"`
	Decision    string   `json:"decision_id,omitempty"`
	Envelope    string   `json:"envelope_id,omitempty"`
	Action      action   `json:"action"`
	RequestedBy asker    `json:"requested_by"`
	Digest      string   `json:"digest,omitempty"` // SHA-256 of all that the approval is bound to
	Policy      *policy  `json:"policy,omitempty"`
	Quorum      int      `json:"quorum,omitempty"`
	Votes       *int     `json:"votes,omitempty"`
	Roles       []string `json:"roles,omitempty"`
	ExpiresAt   string   `json:"expires_at,omitempty"`
	Reviewer    string   `json:"reviewer,omitempty"`
	Note        string   `json:"note,omitempty"`
	ReviewURL   string   `json:"review_url,omitempty"`
}

type action struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
}

type asker struct {
	Agent string `json:"agent_id,omitempty"`
	User  string `json:"user_id,omitempty"`
	Key   string `json:"api_key_id,omitempty"`
}

type policy struct {
	ID   string `json:"policy_id,omitempty"`
	Name string `json:"name,omitempty"`
}

func approvalData(f journal.Fact, p payload, state, review string) any {
	a := approval{
		ID: p.text("approval_id"), State: state, Decision: p.text("decision_id"), Envelope: f.EnvelopeID,
		Action:      action{Kind: p.text("action_kind"), Name: p.text("action_name")},
		RequestedBy: asker{Agent: p.text("requested_by_agent"), User: p.text("requested_by_user"), Key: p.text("requested_by_key")},
		Roles:       p.texts("roles"), ExpiresAt: p.text("expires_at"), Note: p.text("note"), ReviewURL: review,
	}
	if d := p.text("digest"); d != "" {
		a.Digest = "sha256:" + d
	}
	if id, name := p.text("policy_id"), p.text("policy_name"); id != "" || name != "" {
		a.Policy = &policy{ID: id, Name: name}
	}
	a.Quorum, _ = strconv.Atoi(p.text("quorum"))
	if n, err := strconv.Atoi(p.text("votes")); err == nil {
		a.Votes = &n
	}
	if p.text("verdict") != "" { // a person spoke
		a.Reviewer = f.Actor
	}
	return a
}

func incidentData(_ journal.Fact, p payload, _, _ string) any {
	out := map[string]string{}
	for _, name := range []string{"incident_id", "pattern_id", "detector", "severity", "category", "description", "generated_policy_id"} {
		if v := p.text(name); v != "" {
			out[name] = v
		}
	}
	return out
}
