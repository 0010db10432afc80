// Package approval binds a person's answer to one exact action, once.
package approval

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/gowebpki/jcs"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
)

// State is where an approval stands.
type State string

// The states. All but Pending and Approved are final.
const (
	Pending   State = "PENDING"
	Approved  State = "APPROVED"
	Rejected  State = "REJECTED"
	Expired   State = "EXPIRED"
	Cancelled State = "CANCELLED"
	Consumed  State = "CONSUMED"
)

// Final reports whether nothing more can happen to an approval in state s.
func (s State) Final() bool { return s != Pending && s != Approved }

// Proto is s on the wire.
func (s State) Proto() governancev1.ApprovalState {
	return governancev1.ApprovalState(governancev1.ApprovalState_value["APPROVAL_STATE_"+string(s)])
}

// Bounds of what a rule may ask for.
const (
	DefaultTTL = 15 * time.Minute
	MaxTTL     = 7 * 24 * time.Hour
	MaxQuorum  = 20
)

// Subject is everything an approval is bound to. Change any of it, and the
// approval is for something else.
type Subject struct {
	Tenant           uuid.UUID
	Action           *governancev1.Action
	KeyID            string
	AgentID          string
	UserID           string
	Envelope         uuid.UUID
	PolicySetVersion int64
}

// Digest is the SHA-256 of the canonical JSON (RFC 8785) of the subject.
func (s Subject) Digest() ([sha256.Size]byte, error) {
	arguments := json.RawMessage("{}")
	if s.Action.GetArguments() != nil {
		raw, err := protojson.Marshal(s.Action.GetArguments())
		if err != nil {
			return [sha256.Size]byte{}, fault.Field("action.arguments", "cannot be written as JSON").WithCause(err)
		}
		arguments = raw
	}
	input := sha256.Sum256([]byte(s.Action.GetInputText()))
	raw, err := json.Marshal(map[string]any{
		"version":            1,
		"tenant":             s.Tenant,
		"kind":               s.Action.GetKind().String(),
		"name":               s.Action.GetName(),
		"arguments":          arguments,
		"model":              s.Action.GetModel(),
		"resource":           s.Action.GetResource(),
		"input_sha256":       fmt.Sprintf("%x", input),
		"key":                s.KeyID,
		"agent":              s.AgentID,
		"user":               s.UserID,
		"envelope":           s.Envelope,
		"policy_set_version": fmt.Sprint(s.PolicySetVersion), // text: canonical JSON has doubles only
	})
	if err != nil {
		return [sha256.Size]byte{}, fmt.Errorf("write approval subject: %w", err)
	}
	canonical, err := jcs.Transform(raw)
	if err != nil {
		return [sha256.Size]byte{}, fault.Field("action.arguments", "have no canonical form").WithCause(err)
	}
	return sha256.Sum256(canonical), nil
}

// Request is an approval to be asked for.
type Request struct {
	ID               uuid.UUID
	Decision         uuid.UUID
	Envelope         uuid.UUID // uuid.Nil: outside any
	Digest           [sha256.Size]byte
	PolicySetVersion int64
	PolicyID         string
	PolicyName       string
	ActionKind       string
	ActionName       string
	Metadata         map[string]string // what the reviewer is shown
	KeyID            string
	AgentID          string
	UserID           string
	Quorum           int32
	Roles            []string
	OpensEnvelope    bool // the envelope itself waits for it
	TTL              time.Duration
}

// Granted is the part of a stored approval that a new decision looks at.
type Granted struct {
	ID               uuid.UUID
	State            State
	Digest           []byte
	PolicySetVersion int64
	Overdue          bool // past its expiry by the database's clock
	ExpiresAt        time.Time
	Quorum           int32
	Roles            []string
	Reviewer         string
	Note             string
}

// Standing is the state as it is now, whether or not the expiry has been
// written down yet.
func (g *Granted) Standing() State {
	if g.Overdue && !g.State.Final() {
		return Expired
	}
	return g.State
}

// Use says that a decision uses an approval up.
type Use struct {
	Approval uuid.UUID
	Decision uuid.UUID
	Digest   [sha256.Size]byte
}

// ErrUsed says that an approval was used up, or ran out, while it was about to
// be used.
var ErrUsed = fault.New(fault.Precondition, "the approval is not usable any more").WithReason("APPROVAL_NOT_USABLE")

// ErrNotFound says that a tenant has no such approval.
func ErrNotFound(id uuid.UUID) error {
	return fault.New(fault.NotFound, "there is no approval %s", id).WithReason("APPROVAL_NOT_FOUND").WithMeta("approval_id", id.String())
}

// Reason is the stable code of a refusal, for events; "" if err is none.
func Reason(err error) string {
	f, ok := fault.As(err)
	if !ok {
		return ""
	}
	return f.Code()
}

// Requester is who asked for the action that an approval is about.
type Requester struct{ KeyID, AgentID, UserID string }

// Eligible returns nil if p may judge an action of by: he holds one of the
// roles, if there are any, and the action is not his own.
func Eligible(p identity.Principal, by Requester, roles []string) error {
	own := p.KeyID == by.KeyID && p.KeyID != "" || p.AgentID == by.AgentID && p.AgentID != "" || p.UserID == by.UserID && p.UserID != ""
	if own {
		return fault.New(fault.Denied, "nobody approves their own action").
			WithReason("APPROVAL_OWN_ACTION").
			WithHint("Ask somebody else: a credential with another key, agent and user.")
	}
	if len(roles) == 0 || slices.ContainsFunc(p.Roles, func(r string) bool { return slices.Contains(roles, r) }) {
		return nil
	}
	return fault.New(fault.Denied, "this approval needs a reviewer with one of the roles %v", roles).
		WithReason("APPROVAL_ROLE_MISSING")
}
