package immune

import (
	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	brainv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/brain/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
)

// State is where a generated policy stands.
type State string

// The states. Approving and Modifying are an answer that the control plane has
// not carried out yet: the same answer again goes on with it.
const (
	Pending   State = "PENDING"
	Approving State = "APPROVING"
	Modifying State = "MODIFYING"
	Approved  State = "APPROVED"
	Modified  State = "MODIFIED"
	Rejected  State = "REJECTED"
)

// Generated is a policy that a detector proposed.
type Generated struct {
	ID        uuid.UUID
	Pattern   uuid.UUID
	Policy    *policyv1.Policy // the draft
	Reasoning string
	Cause     Actor // whose actions caused it
	State     State
	PolicyID  uuid.UUID // the control plane's, when it is carried out
}

// Answer is what a person says to a generated policy.
type Answer struct {
	Decision brainv1.ReviewDecision
	Note     string
}

// MayReview says whether a caller may answer at all: a person, or a key that no
// agent holds, and not whoever caused what the draft is about.
func MayReview(who identity.Principal, g Generated) error {
	if who.AgentID != "" {
		return fault.New(fault.Denied, "an agent does not review policies").WithReason("REVIEWER_IS_AGENT").
			WithHint("Ask a person with the scope policy:approve.")
	}
	if g.Cause.Caused(who.AgentID, who.KeyID, who.UserID) {
		return fault.New(fault.Denied, "nobody reviews a policy that his own actions caused").WithReason("REVIEW_OWN_ACTION").
			WithHint("Ask another person with the scope policy:approve.")
	}
	return nil
}

// Next is the state that an answer leads to, and whether the control plane has
// something to do. It returns a Precondition fault if the draft was answered
// otherwise before.
func (g Generated) Next(d brainv1.ReviewDecision) (next State, carryOut bool, err error) {
	var claimed, done State
	switch d {
	case brainv1.ReviewDecision_REVIEW_DECISION_APPROVE:
		claimed, done = Approving, Approved
	case brainv1.ReviewDecision_REVIEW_DECISION_MODIFY:
		claimed, done = Modifying, Modified
	case brainv1.ReviewDecision_REVIEW_DECISION_REJECT:
		claimed, done = Rejected, Rejected
	default:
		return "", false, fault.Field("decision", "must be APPROVE, REJECT or MODIFY")
	}
	switch g.State {
	case Pending, claimed:
		return claimed, claimed != Rejected, nil
	case done:
		return done, false, nil
	}
	return "", false, fault.New(fault.Precondition, "this policy was answered already: it is %s", string(g.State)).WithReason("REVIEWED")
}

// Done is the state after the control plane has carried a claim out.
func (s State) Done() State {
	switch s {
	case Approving:
		return Approved
	case Modifying:
		return Modified
	}
	return s
}
