package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/eventsdb"
	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	"github.com/fulcrum-io/fulcrum/pkg/outbox"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	"github.com/fulcrum-io/fulcrum/services/event-processor/internal/immune"
)

// Answer takes a person's answer down, and returns the draft in the state it is
// in now and whether the control plane has something to do about it. The same
// answer again is the same.
func (s *Immune) Answer(ctx context.Context, who identity.Principal, id uuid.UUID, a immune.Answer) (g immune.Generated, carryOut bool, err error) {
	err = s.db.WithTenant(ctx, who.Tenant, func(ctx context.Context, tx db.Tx) error {
		q := eventsdb.New(tx)
		if g, err = lockGenerated(ctx, q, who.Tenant, id); err != nil {
			return err
		}
		if err := immune.MayReview(who, g); err != nil {
			return err
		}
		var next immune.State
		if next, carryOut, err = g.Next(a.Decision); err != nil || next == g.State {
			return err
		}
		return moveGenerated(ctx, tx, q, who, &g, next, a.Note)
	})
	return g, carryOut, err
}

// Done notes that the control plane has carried the answer out as a policy of
// its own. Repeated, it changes nothing.
func (s *Immune) Done(ctx context.Context, who identity.Principal, id, policy uuid.UUID, note string) error {
	return s.db.WithTenant(ctx, who.Tenant, func(ctx context.Context, tx db.Tx) error {
		q := eventsdb.New(tx)
		g, err := lockGenerated(ctx, q, who.Tenant, id)
		if err != nil || g.State.Done() == g.State {
			return err
		}
		g.PolicyID = policy
		return moveGenerated(ctx, tx, q, who, &g, g.State.Done(), note)
	})
}

// Withdraw makes a draft pending again: the control plane will never carry the
// answer out as it is.
func (s *Immune) Withdraw(ctx context.Context, who identity.Principal, id uuid.UUID) error {
	return s.db.WithTenant(ctx, who.Tenant, func(ctx context.Context, tx db.Tx) error {
		q := eventsdb.New(tx)
		g, err := lockGenerated(ctx, q, who.Tenant, id)
		if err != nil || g.State.Done() == g.State {
			return err
		}
		return moveGenerated(ctx, tx, q, who, &g, immune.Pending, "")
	})
}

func lockGenerated(ctx context.Context, q *eventsdb.Queries, tenant, id uuid.UUID) (immune.Generated, error) {
	row, err := q.LockGenerated(ctx, eventsdb.LockGeneratedParams{TenantID: tenant, ID: id})
	if errors.Is(err, pgx.ErrNoRows) {
		return immune.Generated{}, fault.New(fault.NotFound, "there is no generated policy %s", id).WithReason("GENERATED_POLICY_NOT_FOUND")
	}
	if err != nil {
		return immune.Generated{}, fmt.Errorf("lock generated policy: %w", err)
	}
	g := immune.Generated{
		ID: row.ID, Pattern: row.PatternID, Policy: new(policyv1.Policy), Reasoning: row.Reasoning, State: immune.State(row.State),
		Cause: immune.Actor{Agent: row.AgentID, KeyID: row.ApiKeyID, User: row.UserID},
	}
	if row.PolicyID != nil {
		g.PolicyID = *row.PolicyID
	}
	if err := proto.Unmarshal(row.Policy, g.Policy); err != nil {
		return immune.Generated{}, fmt.Errorf("read generated policy %s: %w", id, err)
	}
	return g, nil
}

func moveGenerated(ctx context.Context, tx db.Tx, q *eventsdb.Queries, who identity.Principal, g *immune.Generated, next immune.State, note string) error {
	p := eventsdb.MoveGeneratedParams{TenantID: who.Tenant, ID: g.ID, Was: string(g.State), State: string(next), Reviewer: who.Actor(), ReviewNote: note}
	if g.PolicyID != uuid.Nil {
		p.PolicyID = &g.PolicyID
	}
	n, err := q.MoveGenerated(ctx, p)
	if err != nil {
		return fmt.Errorf("move generated policy: %w", err)
	}
	if n != 1 {
		return fmt.Errorf("generated policy %s is not %s any more", g.ID, g.State)
	}
	facts := map[string]any{"generated_policy_id": g.ID.String(), "pattern_id": g.Pattern.String(), "from": string(g.State), "to": string(next), "note": note}
	if g.PolicyID != uuid.Nil {
		facts["policy_id"] = g.PolicyID.String()
	}
	event := immuneEvent(who.Tenant, "generated_policy_reviewed", who.Actor(), facts)
	event.Action, event.Resource = "generated_policy.review", "generated_policy:"+g.ID.String()
	event.ApiKeyId, event.UserId, event.AgentId, event.Team = who.KeyID, who.UserID, who.AgentID, who.Team
	g.State = next
	return outbox.Append(ctx, tx, event)
}
