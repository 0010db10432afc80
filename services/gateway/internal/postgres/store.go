// Package postgres keeps envelopes, decisions, approvals and idempotency keys.
package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/gatewaydb"
	budgetv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/budget/v1"
	envelopev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/envelope/v1"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	policyenginev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policyengine/v1"

	"github.com/fulcrum-io/fulcrum/services/gateway/internal/approval"
	"github.com/fulcrum-io/fulcrum/services/gateway/internal/decision"
	"github.com/fulcrum-io/fulcrum/services/gateway/internal/envelope"
)

// Store reads and writes the gateway's tables. Safe for concurrent use.
type Store struct {
	db    *db.DB
	nudge func() // tells the relay that there are events
}

// New returns a Store over d. nudge is called soon after commits that left
// events: once for many, because what it sets off commits too, and would get in
// the way of the next decision's commit.
func New(d *db.DB, nudge func()) *Store {
	return &Store{db: d, nudge: soon(nudge, 20*time.Millisecond)}
}

// soon returns a function that has f called within wait, once for all its calls
// until then.
func soon(f func(), wait time.Duration) func() {
	var coming atomic.Bool
	return func() {
		if coming.CompareAndSwap(false, true) {
			time.AfterFunc(wait, func() {
				coming.Store(false)
				f()
			})
		}
	}
}

// Load implements decision.Store.
func (s *Store) Load(ctx context.Context, tenant uuid.UUID, q decision.Query) (decision.Loaded, error) {
	var row gatewaydb.LoadActionRow
	err := s.db.Read(ctx, tenant, func(ctx context.Context, tx db.Tx) (err error) {
		row, err = gatewaydb.New(tx).LoadAction(ctx, gatewaydb.LoadActionParams{
			TenantID: tenant, Scope: q.Scope, Key: q.Key, EnvelopeID: q.Envelope, ApprovalID: q.Approval,
		})
		return err
	})
	if err != nil {
		return decision.Loaded{}, away("load action", err)
	}
	ld := decision.Loaded{Now: row.DbNow}
	if row.KeyFound && row.KeyLive {
		ld.Key = &decision.StoredKey{Hash: row.KeyHash, Answered: row.KeyAnswered, Response: row.KeyResponse, Attempt: row.KeyAttempt}
	}
	if row.EnvelopeFound {
		if ld.Envelope, err = loadedEnvelope(q.Envelope, row); err != nil {
			return decision.Loaded{}, err
		}
	}
	if row.ApprovalFound {
		ld.Approval = &approval.Granted{
			ID: q.Approval, State: approval.State(row.ApprovalState), Digest: row.ApprovalDigest, PolicySetVersion: row.ApprovalVersion,
			Overdue: row.ApprovalOverdue, ExpiresAt: row.ApprovalExpiresAt, Quorum: row.ApprovalQuorum, Roles: row.ApprovalRoles,
			Reviewer: row.ApprovalReviewer, Note: row.ApprovalNote,
		}
	}
	return ld, nil
}

func loadedEnvelope(id uuid.UUID, row gatewaydb.LoadActionRow) (*envelope.Envelope, error) {
	e := &envelope.Envelope{
		ID: id, Parent: row.ParentID, Root: row.RootID, Ancestors: row.Ancestors,
		Status: envelope.Status(row.Status), Reason: row.StatusReason,
		AgentID: row.AgentID, Team: row.Team, UserID: row.UserID, WorkflowID: row.WorkflowID, ExecutionID: row.ExecutionID,
		BudgetID: row.BudgetID, Overdue: row.Overdue, RootDescendants: int(row.RootDescendants),
		ExpiresAt: orZero(row.EnvelopeExpiresAt),
	}
	return e, governed(e, row.Governance, row.Limits, row.Metadata)
}

// governed reads the parts of an envelope that are kept encoded.
func governed(e *envelope.Envelope, governance, limits []byte, metadata json.RawMessage) error {
	e.Governance = new(envelopev1.GovernanceContext)
	if err := proto.Unmarshal(governance, e.Governance); err != nil {
		return fmt.Errorf("read governance of envelope %s: %w", e.ID, err)
	}
	var all budgetv1.ReserveRequest
	if err := proto.Unmarshal(limits, &all); err != nil {
		return fmt.Errorf("read limits of envelope %s: %w", e.ID, err)
	}
	e.Limits = all.GetEnvelopeLimits()
	if len(metadata) > 2 { // more than {}
		if err := json.Unmarshal(metadata, &e.Metadata); err != nil {
			return fmt.Errorf("read metadata of envelope %s: %w", e.ID, err)
		}
	}
	return nil
}

// around is how far a decision's time may be from the time in its id: the
// clocks of gateway and database differ.
const around = 24 * time.Hour

// LoadDecision implements decision.Store.
func (s *Store) LoadDecision(ctx context.Context, tenant, id uuid.UUID, q decision.Query) (decision.Record, *decision.StoredKey, error) {
	minted := time.Unix(id.Time().UnixTime())
	var row gatewaydb.LoadDecisionRow
	err := s.db.Read(ctx, tenant, func(ctx context.Context, tx db.Tx) (err error) {
		row, err = gatewaydb.New(tx).LoadDecision(ctx, gatewaydb.LoadDecisionParams{
			TenantID: tenant, ID: id, FromAt: minted.Add(-around), ToAt: minted.Add(around), Scope: q.Scope, Key: q.Key,
		})
		return err
	})
	if err != nil {
		return decision.Record{}, nil, away("load decision", err)
	}
	var key *decision.StoredKey
	if row.KeyFound {
		key = &decision.StoredKey{Hash: row.KeyHash, Answered: row.KeyAnswered, Response: row.KeyResponse, Attempt: row.KeyAttempt}
	}
	if !row.Found {
		return decision.Record{}, key, nil
	}
	d := decision.Record{
		ID: id, DecidedAt: row.DecidedAt, Method: decision.Method(row.Method), Envelope: row.EnvelopeID, Root: row.RootID, KeyID: row.KeyID, Team: row.Team,
		Reservation: row.ReservationID, Approval: row.ApprovalID,
		Facts: new(policyenginev1.Facts), Result: new(policyenginev1.EvaluateResponse), Response: new(governancev1.AuthorizeResponse),
	}
	for _, part := range []struct {
		raw  []byte
		into proto.Message
	}{{row.Input, d.Facts}, {row.Result, d.Result}, {row.Response, d.Response}} {
		if err := proto.Unmarshal(part.raw, part.into); err != nil {
			return decision.Record{}, nil, fmt.Errorf("read decision %s: %w", id, err)
		}
	}
	return d, key, nil
}

// GiveUp implements decision.Store. If a transaction that records the claim is
// still on its way, this waits for it.
func (s *Store) GiveUp(ctx context.Context, tenant uuid.UUID, c decision.Claim) (next int32, err error) {
	err = s.db.One(ctx, tenant, func(ctx context.Context, tx db.Tx) (err error) {
		next, err = gatewaydb.New(tx).GiveUpKey(ctx, gatewaydb.GiveUpKeyParams{
			TenantID: tenant, Scope: c.Scope, Key: c.Key, RequestHash: c.Hash[:], NextAttempt: c.Attempt + 1,
		})
		return err
	})
	if none(err) {
		return 0, decision.ErrRecorded
	}
	return next, away("give up attempt", err)
}

// FailureModes implements decision.Tenants.
func (s *Store) FailureModes(ctx context.Context, tenant uuid.UUID) (decision.FailureModes, error) {
	var raw json.RawMessage
	err := s.db.GlobalOne(ctx, func(ctx context.Context, tx db.Tx) (err error) {
		raw, err = gatewaydb.New(tx).TenantSettings(ctx, tenant)
		return err
	})
	if err != nil {
		return decision.FailureModes{}, away("load tenant settings", err)
	}
	return failureModes(raw)
}
