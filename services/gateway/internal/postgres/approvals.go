package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/gatewaydb"
	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	"github.com/fulcrum-io/fulcrum/pkg/outbox"
	busv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/bus/v1"

	"github.com/fulcrum-io/fulcrum/services/gateway/internal/approval"
	"github.com/fulcrum-io/fulcrum/services/gateway/internal/envelope"
)

// Approval is a stored approval as people see it.
type Approval struct {
	ID               uuid.UUID
	Decision         uuid.UUID
	Envelope         uuid.UUID
	PolicyID         string
	PolicyName       string
	PolicySetVersion int64
	ActionKind       string
	ActionName       string
	Metadata         map[string]string
	State            approval.State // as it is now, expiry included
	ReviewerID       string
	ReviewNote       string
	Quorum           int32
	Votes            int32 // for it
	Roles            []string
	Version          int64
	CreatedAt        time.Time
	UpdatedAt        time.Time
	ExpiresAt        time.Time
}

// Approval returns one approval, or approval.ErrNotFound.
func (s *Store) Approval(ctx context.Context, tenant, id uuid.UUID) (Approval, error) {
	var row gatewaydb.GetApprovalRow
	err := s.db.Read(ctx, tenant, func(ctx context.Context, tx db.Tx) (err error) {
		row, err = gatewaydb.New(tx).GetApproval(ctx, gatewaydb.GetApprovalParams{TenantID: tenant, ID: id})
		return err
	})
	if none(err) {
		return Approval{}, approval.ErrNotFound(id)
	}
	if err != nil {
		return Approval{}, away("load approval", err)
	}
	return seen(row)
}

// Approvals returns up to limit approvals after a position, newest first, and
// how many there are. State "" selects all.
func (s *Store) Approvals(ctx context.Context, tenant uuid.UUID, state approval.State, after Position, limit int) (list []Approval, total int64, err error) {
	var rows []gatewaydb.ListApprovalsRow
	err = s.db.Read(ctx, tenant, func(ctx context.Context, tx db.Tx) (err error) {
		q := gatewaydb.New(tx)
		if total, err = q.CountApprovals(ctx, gatewaydb.CountApprovalsParams{TenantID: tenant, State: string(state)}); err != nil {
			return err
		}
		rows, err = q.ListApprovals(ctx, gatewaydb.ListApprovalsParams{
			TenantID: tenant, BeforeAt: after.At, BeforeID: after.ID, State: string(state), Lim: int32(limit),
		})
		return err
	})
	if err != nil {
		return nil, 0, away("list approvals", err)
	}
	for _, row := range rows {
		a, err := seen(gatewaydb.GetApprovalRow(row))
		if err != nil {
			return nil, 0, err
		}
		list = append(list, a)
	}
	return list, total, nil
}

func seen(row gatewaydb.GetApprovalRow) (Approval, error) {
	a := Approval{
		ID: row.ID, Decision: row.DecisionID, Envelope: orZero(row.EnvelopeID), PolicyID: row.PolicyID, PolicyName: row.PolicyName,
		PolicySetVersion: row.PolicySetVersion, ActionKind: row.ActionKind, ActionName: row.ActionName,
		State: approval.State(row.State), ReviewerID: row.ReviewerID, ReviewNote: row.ReviewNote, Quorum: row.Quorum, Votes: row.Votes, Roles: row.Roles,
		Version: row.Version, CreatedAt: row.CreatedAt, UpdatedAt: row.UpdatedAt, ExpiresAt: row.ExpiresAt,
	}
	if row.Overdue {
		a.State = approval.Expired
	}
	if err := json.Unmarshal(row.Metadata, &a.Metadata); err != nil {
		return Approval{}, fmt.Errorf("read metadata of approval %s: %w", row.ID, err)
	}
	return a, nil
}

// Vote is what a reviewer says about an approval.
type Vote struct {
	Approval uuid.UUID
	Verdict  approval.State // Approved or Rejected
	Note     string
}

// Review counts a vote of who. One rejection rejects; the quorum approves. The
// same vote again changes nothing, another one of the same reviewer is a
// fault.Conflict, a vote on what is final a fault.Precondition, one of who may
// not judge a fault.Denied, and one about nothing approval.ErrNotFound. A vote
// that does not count changes nothing but leaves an event, in who's tenant.
func (s *Store) Review(ctx context.Context, who identity.Principal, v Vote) error {
	var refusal error
	err := s.db.WithTenant(ctx, who.Tenant, func(ctx context.Context, tx db.Tx) error {
		refusal = nil
		err := s.vote(ctx, tx, who, v)
		if !isRefusal(err) {
			return err
		}
		refusal = err
		return outbox.Append(ctx, tx, refusedEvent(who, v, err))
	})
	if err == nil {
		s.nudge()
		return refusal
	}
	return away("review approval", err)
}

// vote counts a vote, or says why it does not count. Before it refuses, it has
// written nothing.
func (s *Store) vote(ctx context.Context, tx db.Tx, who identity.Principal, v Vote) error {
	q := gatewaydb.New(tx)
	a, err := q.LockApproval(ctx, gatewaydb.LockApprovalParams{TenantID: who.Tenant, ID: v.Approval})
	if none(err) {
		return approval.ErrNotFound(v.Approval)
	}
	if err != nil {
		return err
	}
	by := approval.Requester{KeyID: a.RequestedByKey, AgentID: a.RequestedByAgent, UserID: a.RequestedByUser}
	if err := approval.Eligible(who, by, a.Roles); err != nil {
		return err
	}
	state := approval.State(a.State)
	if a.Overdue && !state.Final() {
		state = approval.Expired
	}
	if state != approval.Pending {
		return reviewed(ctx, q, who, v, state)
	}
	return s.count(ctx, tx, who, a, v)
}

// isRefusal reports whether err says that a vote does not count, and not that
// nobody could tell.
func isRefusal(err error) bool {
	return fault.Is(err, fault.NotFound) || fault.Is(err, fault.Denied) || fault.Is(err, fault.Precondition) || fault.Is(err, fault.Conflict)
}

func refusedEvent(who identity.Principal, v Vote, refusal error) *busv1.Event {
	e := approvalEvent(who.Tenant, v.Approval, uuid.Nil, "approval_refused", who.Actor(), map[string]string{
		"verdict": string(v.Verdict), "note": v.Note, "message": refusal.Error(),
	})
	e.Labels["reason"] = approval.Reason(refusal)
	e.ApiKeyId, e.AgentId, e.Team, e.UserId = who.KeyID, who.AgentID, who.Team, who.UserID
	return e
}

// reviewed answers a vote that came when the approval was not pending any more.
func reviewed(ctx context.Context, q *gatewaydb.Queries, who identity.Principal, v Vote, state approval.State) error {
	said, err := q.GetVote(ctx, gatewaydb.GetVoteParams{TenantID: who.Tenant, ApprovalID: v.Approval, ReviewerID: who.Actor()})
	if err == nil && approval.State(said) == v.Verdict {
		return nil // the reply to it was lost
	}
	if err != nil && !none(err) {
		return err
	}
	return fault.New(fault.Precondition, "the approval is %s already", state).
		WithReason("APPROVAL_NOT_PENDING").WithMeta("approval_id", v.Approval.String()).WithMeta("state", string(state))
}

// count adds a vote to a locked, pending approval.
func (s *Store) count(ctx context.Context, tx db.Tx, who identity.Principal, a gatewaydb.LockApprovalRow, v Vote) error {
	q := gatewaydb.New(tx)
	n, err := q.InsertVote(ctx, gatewaydb.InsertVoteParams{
		TenantID: who.Tenant, ApprovalID: v.Approval, ReviewerID: who.Actor(), Verdict: string(v.Verdict), Note: v.Note,
	})
	if err != nil {
		return err
	}
	if n == 0 {
		said, err := q.GetVote(ctx, gatewaydb.GetVoteParams{TenantID: who.Tenant, ApprovalID: v.Approval, ReviewerID: who.Actor()})
		if err == nil && said != string(v.Verdict) {
			err = fault.New(fault.Conflict, "you have said %s about this approval already", said).WithReason("VOTE_CAST")
		}
		return err
	}
	votes := int64(0)
	if v.Verdict == approval.Approved {
		votes, err = q.CountVotes(ctx, gatewaydb.CountVotesParams{TenantID: who.Tenant, ApprovalID: v.Approval})
		if err != nil {
			return err
		}
		if votes < int64(a.Quorum) {
			return outbox.Append(ctx, tx, s.voteEvent(who, a, v, votes, "approval_vote_cast"))
		}
	}
	if err := q.ResolveApproval(ctx, gatewaydb.ResolveApprovalParams{
		TenantID: who.Tenant, ID: v.Approval, State: string(v.Verdict), ReviewerID: who.Actor(), ReviewNote: v.Note,
	}); err != nil {
		return err
	}
	kind := map[approval.State]string{approval.Approved: "approval_approved", approval.Rejected: "approval_rejected"}[v.Verdict]
	events := []*busv1.Event{s.voteEvent(who, a, v, votes, kind)}
	if a.OpensEnvelope && a.EnvelopeID != nil {
		opened, err := openAfter(ctx, q, who, *a.EnvelopeID, v)
		if err != nil {
			return err
		}
		events = append(events, opened...)
	}
	return outbox.Append(ctx, tx, events...)
}

// openAfter lets an envelope go that waited for this approval, or ends it.
func openAfter(ctx context.Context, q *gatewaydb.Queries, who identity.Principal, env uuid.UUID, v Vote) ([]*busv1.Event, error) {
	m := envelope.Move{Envelope: env, To: envelope.Authorized, Reason: "approved by " + who.Actor()}
	if v.Verdict == approval.Rejected {
		m.To, m.Reason = envelope.PolicyViolation, "rejected by "+who.Actor()
	}
	id := tenantID{who.Tenant, env}
	done, err := moveEnvelopes(ctx, q, []tenantID{id}, map[tenantID]step{id: {move: m, actor: who.Actor()}})
	return done.events, err
}

func (s *Store) voteEvent(who identity.Principal, a gatewaydb.LockApprovalRow, v Vote, votes int64, kind string) *busv1.Event {
	more := asked{
		decision: a.DecisionID, kind: a.ActionKind, name: a.ActionName, digest: a.Digest, quorum: a.Quorum,
		key: a.RequestedByKey, agent: a.RequestedByAgent, user: a.RequestedByUser,
	}.facts()
	more["note"], more["verdict"], more["votes"] = v.Note, string(v.Verdict), strconv.FormatInt(votes, 10)
	more["policy_id"], more["policy_name"] = a.PolicyID, a.PolicyName
	e := approvalEvent(who.Tenant, a.ID, orZero(a.EnvelopeID), kind, who.Actor(), more)
	e.ApiKeyId, e.UserId = who.KeyID, who.UserID
	return e
}
