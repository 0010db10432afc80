package immune

import (
	"fmt"
	"time"

	"github.com/google/uuid"

	busv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/bus/v1"
)

// Actor is whose doing something is.
type Actor struct {
	Agent string
	KeyID string
	User  string
}

// who names an actor in patterns: the agent, else the key, else the person.
func (a Actor) who() string {
	switch {
	case a.Agent != "":
		return "agent:" + a.Agent
	case a.KeyID != "":
		return "key:" + a.KeyID
	case a.User != "":
		return "user:" + a.User
	}
	return ""
}

// Caused reports whether a caller is this actor in any of its roles: then it
// has no say in what becomes of it.
func (a Actor) Caused(agent, key, user string) bool {
	return a.Agent != "" && a.Agent == agent || a.KeyID != "" && a.KeyID == key || a.User != "" && a.User == user
}

// Sighting is something that one event adds to one detector's window.
type Sighting struct {
	Detector  Name
	Signature string // of the pattern: what all its sightings have in common
	Amount    int64
	At        time.Time
	Actor     Actor
	Kind      string // of the action, like TOOL_CALL
	Action    string // its name
	Envelope  string
}

// Pattern is the pattern's id: the same for the same signature, within a tenant.
func Pattern(tenant uuid.UUID, signature string) uuid.UUID {
	return uuid.NewSHA1(tenant, []byte("attack pattern\x00"+signature))
}

// Watched reports whether any detector looks at an event. What callers publish
// themselves proves nothing.
func Watched(e *busv1.Event) bool {
	return e.GetOrigin() == busv1.Origin_ORIGIN_SYSTEM && (e.GetType() == "decision_made" || e.GetCost().GetCostNano() > 0)
}

// See is what the detectors see in an event.
func See(e *busv1.Event) []Sighting {
	actor := Actor{Agent: e.GetAgentId(), KeyID: e.GetApiKeyId(), User: e.GetUserId()}
	if !Watched(e) || actor.who() == "" || e.GetOccurredAt().CheckValid() != nil {
		return nil
	}
	text := func(field string) string { return e.GetPayload().GetFields()[field].GetStringValue() }
	base := Sighting{Amount: 1, At: e.GetOccurredAt().AsTime(), Actor: actor, Kind: text("action_kind"), Action: text("action_name"), Envelope: e.GetEnvelopeId()}
	var all []Sighting
	add := func(d Name, amount int64, signature string) {
		s := base
		s.Detector, s.Amount, s.Signature = d, amount, signature
		all = append(all, s)
	}
	if cost := e.GetCost().GetCostNano(); cost > 0 {
		add(CostVelocity, cost, fmt.Sprintf("%s by %s", CostVelocity, actor.who()))
	}
	if e.GetType() != "decision_made" {
		return all
	}
	if mark := text("action_mark"); mark != "" && text("method") == "authorize" {
		add(Loop, 1, fmt.Sprintf("%s of %s %q #%s by %s", Loop, base.Kind, base.Action, mark, actor.who()))
	}
	if base.Kind == "DATA_ACCESS" && (e.GetDecision() == "ALLOW" || e.GetDecision() == "WARN") {
		add(BulkRead, 1, fmt.Sprintf("%s by %s", BulkRead, actor.who()))
	}
	if e.GetDecision() == "REQUIRE_APPROVAL" || e.GetDecision() == "DENY" && denied(e) {
		add(Privilege, 1, fmt.Sprintf("%s by %s", Privilege, actor.who()))
	}
	return all
}

// denied reports whether a policy said no, rather than a budget, a rate, an
// ended envelope or something that was away.
func denied(e *busv1.Event) bool {
	if e.GetPayload().GetFields()["degraded"].GetBoolValue() {
		return false
	}
	for _, v := range e.GetPayload().GetFields()["reasons"].GetListValue().GetValues() {
		r := v.GetStructValue().GetFields()
		if r["policy_id"].GetStringValue() != "" && r["decision"].GetStringValue() == "DENY" && !r["shadow"].GetBoolValue() {
			return true
		}
	}
	return false
}
