package envelope

import (
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/money"
	budgetv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/budget/v1"
	envelopev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/envelope/v1"
)

// The limits of a tree of envelopes.
const (
	MaxDepth       = 10
	MaxDescendants = 100
)

// Envelope is one governed execution. Treat it as read-only.
type Envelope struct {
	ID        uuid.UUID
	Parent    uuid.UUID   // uuid.Nil for a root
	Root      uuid.UUID   // itself for a root
	Ancestors []uuid.UUID // nearest first

	Status  Status
	Reason  string // why it stands there, for people
	Version int64  // grows by one with every move

	AgentID     string
	Team        string
	UserID      string
	KeyID       string
	WorkflowID  string
	ExecutionID string
	BudgetID    string
	AdapterType string
	Metadata    map[string]string
	Trace       map[string]string

	Governance *envelopev1.GovernanceContext
	Limits     []*budgetv1.EnvelopeLimits // its own and its ancestors', those that limit something

	CreatedAt, UpdatedAt time.Time
	CompletedAt          time.Time // zero until final
	ExpiresAt            time.Time // zero: never
	Overdue              bool      // past ExpiresAt by the database's clock
	RootDescendants      int       // how many are under the root
}

// Move is one step that an envelope shall take, if it may.
type Move struct {
	Envelope uuid.UUID
	To       Status
	Reason   string
}

// ErrTreeFull says that a tree takes no more envelopes.
var ErrTreeFull = fault.New(fault.Precondition, "the tree of this envelope already has %d descendants", MaxDescendants).
	WithReason("ENVELOPE_TREE_FULL").
	WithHint("Start a new root envelope, or let finished work end before starting more.")

// ErrNotFound says that a tenant has no such envelope.
func ErrNotFound(id uuid.UUID) error {
	return fault.New(fault.NotFound, "there is no envelope %s", id).WithReason("ENVELOPE_NOT_FOUND").WithMeta("envelope_id", id.String())
}

// ErrMove says that an envelope cannot go from one status to another.
func ErrMove(id uuid.UUID, from, to Status) error {
	return fault.New(fault.Precondition, "an envelope cannot go from %s to %s", from, to).
		WithReason("ENVELOPE_MOVE_ILLEGAL").
		WithMeta("envelope_id", id.String()).WithMeta("from", string(from)).WithMeta("to", string(to))
}

// Standing is the status as it is now: an envelope past its time has timed out,
// whether or not anybody has written it down yet.
func (e *Envelope) Standing() Status {
	if e.Overdue && !e.Status.Final() {
		return Timeout
	}
	return e.Status
}

// Under makes e a child of parent: its place in the tree, its inherited limits
// and permissions. field names the governance of e in the caller's request.
func (e *Envelope) Under(parent *Envelope, field string) error {
	switch {
	case !parent.Status.Acts() || parent.Overdue:
		return fault.New(fault.Precondition, "the parent envelope is %s", parent.Standing()).
			WithReason("ENVELOPE_NOT_ACTIVE").WithMeta("envelope_id", parent.ID.String())
	case len(parent.Ancestors) >= MaxDepth:
		return fault.New(fault.Precondition, "envelopes may be %d deep, and the parent is there already", MaxDepth).
			WithReason("ENVELOPE_TOO_DEEP").WithMeta("envelope_id", parent.ID.String())
	case parent.RootDescendants >= MaxDescendants:
		return ErrTreeFull
	}
	e.Parent, e.Root = parent.ID, parent.Root
	e.Ancestors = append([]uuid.UUID{parent.ID}, parent.Ancestors...)
	e.Limits = append(e.Limits, parent.Limits...)
	if e.BudgetID == "" {
		e.BudgetID = parent.BudgetID
	}
	if e.AgentID == "" {
		e.AgentID, e.Team = parent.AgentID, parent.Team
	}
	if e.UserID == "" {
		e.UserID = parent.UserID
	}
	if e.WorkflowID == "" {
		e.WorkflowID = parent.WorkflowID
	}
	if !parent.ExpiresAt.IsZero() && (e.ExpiresAt.IsZero() || parent.ExpiresAt.Before(e.ExpiresAt)) {
		e.ExpiresAt = parent.ExpiresAt
	}
	var err error
	if e.Governance.AllowedTools, err = narrow(field+".allowed_tools", e.Governance.GetAllowedTools(), parent.Governance.GetAllowedTools()); err != nil {
		return err
	}
	e.Governance.AllowedModels, err = narrow(field+".allowed_models", e.Governance.GetAllowedModels(), parent.Governance.GetAllowedModels())
	return err
}

// narrow gives a child no more than its parent has. An empty list allows
// everything, so an empty intersection must not become one.
func narrow(field string, own, parents []string) ([]string, error) {
	if len(own) == 0 {
		return parents, nil
	}
	if len(parents) == 0 {
		return own, nil
	}
	both := slices.DeleteFunc(slices.Clone(own), func(s string) bool { return !slices.Contains(parents, s) })
	if len(both) == 0 {
		return nil, fault.Field(field, "the parent envelope allows none of these")
	}
	return both, nil
}

// Limit adds what the envelope's own governance limits to its Limits.
func (e *Envelope) Limit(field string) error {
	g := e.Governance
	cost, err := money.FromUSD(g.GetCostLimitUsd())
	if err != nil {
		return fault.Field(field+".cost_limit_usd", "is not an amount of money: %v", err)
	}
	own := &budgetv1.EnvelopeLimits{
		EnvelopeId:      e.ID.String(),
		MaxTokens:       g.GetTokenBudget(),
		MaxCostNano:     int64(cost),
		MaxLlmCalls:     int64(g.GetMaxLlmCalls()),
		MaxToolCalls:    int64(g.GetMaxToolCalls()),
		MaxInputTokens:  g.GetMaxInputTokens(),
		MaxOutputTokens: g.GetMaxOutputTokens(),
		MaxSeconds:      g.GetMaxExecutionSeconds(),
	}
	limited := units(own)
	if g.GetSliceOfParent() {
		if err := e.slice(field, limited); err != nil {
			return err
		}
		own.Slice = true
	}
	if len(limited) > 0 {
		e.Limits = append([]*budgetv1.EnvelopeLimits{own}, e.Limits...)
	}
	return nil
}
