package immune

import (
	"fmt"
	"time"

	"github.com/google/uuid"

	brainv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/brain/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
)

// Incident is something that went wrong, immutable.
type Incident struct {
	ID          uuid.UUID
	Pattern     uuid.UUID
	Signature   string
	Indicators  []string
	Detector    Name      // "": reported
	Window      time.Time // of a detector: where it starts
	Severity    brainv1.IncidentSeverity
	Category    brainv1.IncidentCategory
	Description string
	Details     map[string]string
	ReportedBy  string
	OccurredAt  time.Time
	Actor       Actor
	Envelope    string
	// Proposal is a draft that would have prevented it; nil where no policy can
	// name who did it.
	Proposal  *policyv1.Policy
	Reasoning string
}

// Found is the incident that a detector opens when amount was seen in the window
// of s. Its id is its own; nothing in it depends on when it is made.
func Found(tenant uuid.UUID, d Detector, s Sighting, amount int64) *Incident {
	window := d.start(s.At)
	seen := fmt.Sprint(amount)
	if d.Name == CostVelocity {
		seen = fmt.Sprintf("%.2f USD", float64(amount)/1e9)
	}
	in := &Incident{
		ID: uuid.Must(uuid.NewV7()), Pattern: Pattern(tenant, s.Signature), Signature: s.Signature, Detector: d.Name, Window: window,
		OccurredAt: s.At, Actor: s.Actor, Envelope: s.Envelope, ReportedBy: "detector:" + string(d.Name),
		Description: fmt.Sprintf("%s: %s within %s, where %s is the threshold (%s)", s.Actor.who(), seen, d.Window, d.limit(), d.About),
		Details: map[string]string{
			"detector": string(d.Name), "threshold": fmt.Sprint(d.Threshold), "amount": fmt.Sprint(amount), "window_seconds": fmt.Sprint(int(d.Window.Seconds())),
			"window_start": window.Format(time.RFC3339),
		},
	}
	for k, v := range map[string]string{
		"agent_id": s.Actor.Agent, "api_key_id": s.Actor.KeyID, "user_id": s.Actor.User, "action_kind": s.Kind, "action_name": s.Action, "envelope_id": s.Envelope,
	} {
		if v != "" {
			in.Details[k] = v
			if k == "agent_id" || k == "api_key_id" || k == "action_name" {
				in.Indicators = append(in.Indicators, k+"="+v)
			}
		}
	}
	in.Severity, in.Category = grade(d.Name)
	in.Proposal, in.Reasoning = propose(in, d, s)
	return in
}

func grade(n Name) (brainv1.IncidentSeverity, brainv1.IncidentCategory) {
	switch n {
	case CostVelocity:
		return brainv1.IncidentSeverity_INCIDENT_SEVERITY_HIGH, brainv1.IncidentCategory_INCIDENT_CATEGORY_BUDGET_OVERRUN
	case BulkRead:
		return brainv1.IncidentSeverity_INCIDENT_SEVERITY_HIGH, brainv1.IncidentCategory_INCIDENT_CATEGORY_SECURITY_BREACH
	case Privilege:
		return brainv1.IncidentSeverity_INCIDENT_SEVERITY_HIGH, brainv1.IncidentCategory_INCIDENT_CATEGORY_POLICY_VIOLATION
	case Loop:
		return brainv1.IncidentSeverity_INCIDENT_SEVERITY_MEDIUM, brainv1.IncidentCategory_INCIDENT_CATEGORY_RATE_LIMIT_EXCEEDED
	}
	return brainv1.IncidentSeverity_INCIDENT_SEVERITY_MEDIUM, brainv1.IncidentCategory_INCIDENT_CATEGORY_ANOMALY_DETECTED
}

// Reported is the incident that somebody reports. Its pattern is its category
// and whom it names, so that reports of the same add up.
func Reported(tenant uuid.UUID, by string, r *brainv1.Incident, now time.Time) *Incident {
	at := now
	if r.GetTimestamp() != nil {
		at = r.GetTimestamp().AsTime()
	}
	in := &Incident{
		ID: uuid.Must(uuid.NewV7()), Severity: r.GetSeverity(), Category: r.GetCategory(), Description: r.GetDescription(), Details: r.GetDetails(),
		ReportedBy: by, OccurredAt: at, Actor: Actor{Agent: r.GetDetails()["agent_id"]},
	}
	in.Signature = "reported " + brainv1.IncidentCategory_name[int32(r.GetCategory())]
	for _, k := range []string{"agent_id", "tool_name", "pattern"} {
		if v := r.GetDetails()[k]; v != "" {
			in.Signature += fmt.Sprintf(" %s=%.256s", k, v)
			in.Indicators = append(in.Indicators, fmt.Sprintf("%s=%.256s", k, v))
		}
	}
	in.Pattern = Pattern(tenant, in.Signature)
	return in
}
