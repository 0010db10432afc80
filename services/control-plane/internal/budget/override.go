package budget

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	costv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/cost/v1"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/change"
)

// MaxOverrides is how many overrides of one budget may be in force or to come:
// each instance of the data plane holds them.
const MaxOverrides = 20

// Override is what stands in for a budget's limits for a time.
type Override struct {
	Budget    uuid.UUID
	Limits    *costv1.BudgetLimits
	Suspended *bool
	StartsAt  *time.Time    // nil: now
	EndsAt    *time.Time    // nil: For after its start
	For       time.Duration // whole seconds
	Reason    string
}

// Span is when o begins and ends if it is made now, as exact as the database.
func (o Override) Span(now time.Time) (from, until time.Time) {
	from = now
	if o.StartsAt != nil {
		from = o.StartsAt.Truncate(time.Microsecond)
	}
	if o.EndsAt != nil {
		return from, o.EndsAt.Truncate(time.Microsecond)
	}
	return from, from.Add(o.For)
}

// Overrides keeps overrides of budgets. Each change is one transaction that
// also publishes the tenant's next budget bundle and records what happened.
// Time is the database's.
type Overrides interface {
	// CreateOverride stores o; as CreateBudget does, once. It is NotFound
	// without its budget, Invalid if it would have ended by now, Exhausted
	// beyond MaxOverrides.
	CreateOverride(ctx context.Context, by identity.Principal, o Override, once change.Once) (*costv1.BudgetOverride, error)
	// Overrides returns up to limit overrides of a budget before an id, newest
	// first; ended adds those that are over.
	Overrides(ctx context.Context, tenant, budget uuid.UUID, ended bool, before uuid.UUID, limit int) ([]*costv1.BudgetOverride, error)
	// RevokeOverride ends one now. One that was revoked is returned as it is;
	// one that is over is a Precondition.
	RevokeOverride(ctx context.Context, by identity.Principal, budget, id uuid.UUID, reason string) (*costv1.BudgetOverride, error)
}

// Override puts other limits in force for a time.
func (s *Service) Override(ctx context.Context, by identity.Principal, o Override, once change.Once) (*costv1.BudgetOverride, error) {
	var wrong []fault.Violation
	bad := func(field, format string, a ...any) {
		wrong = append(wrong, fault.Violation{Field: field, Description: fmt.Sprintf(format, a...)})
	}
	if o.Suspended == nil || !proto.Equal(o.Limits, &costv1.BudgetLimits{}) && o.Limits != nil {
		checkLimits(o.Limits, bad)
	}
	switch {
	case o.EndsAt == nil && o.For < time.Second:
		bad("ends_at", "say when it ends: ends_at or duration")
	case o.EndsAt != nil && o.StartsAt != nil && !o.EndsAt.After(*o.StartsAt):
		bad("ends_at", "must be after starts_at")
	}
	if len(wrong) > 0 {
		return nil, fault.Fields(wrong...).WithReason("OVERRIDE_INVALID")
	}
	return s.store.CreateOverride(ctx, by, o, once)
}

// Overrides lists the overrides of a budget, newest first.
func (s *Service) Overrides(ctx context.Context, tenant, budget uuid.UUID, ended bool, before uuid.UUID, limit int) ([]*costv1.BudgetOverride, error) {
	if _, err := s.store.Budget(ctx, tenant, budget); err != nil {
		return nil, err
	}
	return s.store.Overrides(ctx, tenant, budget, ended, before, limit)
}

// Revoke ends an override now.
func (s *Service) Revoke(ctx context.Context, by identity.Principal, budget, id uuid.UUID, reason string) (*costv1.BudgetOverride, error) {
	return s.store.RevokeOverride(ctx, by, budget, id, reason)
}
