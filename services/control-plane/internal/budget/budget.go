// Package budget keeps budgets as people write them. What is spent of them is
// another service's business.
package budget

import (
	"context"
	"errors"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	costv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/cost/v1"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/change"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/mask"
)

// Filter selects budgets; nil selects all.
type Filter struct {
	Workflow  *string
	Suspended *bool
	IDs       []uuid.UUID // only these; none: all
}

// Store keeps budgets. Each change is one transaction that also publishes the
// tenant's next budget bundle and records what happened.
type Store interface {
	Overrides
	// CreateBudget stores a budget under an id of its own. Repeated, it returns
	// what it returned the first time; it is a Conflict if once stands for
	// another request.
	CreateBudget(ctx context.Context, by identity.Principal, b *costv1.Budget, once change.Once) (*costv1.Budget, error)
	// Budget returns a budget, or NotFound.
	Budget(ctx context.Context, tenant, id uuid.UUID) (*costv1.Budget, error)
	// ReplaceBudget puts next in the place of old. It returns a Conflict,
	// changing nothing, if the stored budget is not old any more.
	ReplaceBudget(ctx context.Context, by identity.Principal, old, next *costv1.Budget) (*costv1.Budget, error)
	// DeleteBudget ends old, with the same Conflict.
	DeleteBudget(ctx context.Context, by identity.Principal, old *costv1.Budget) error
	// Budgets returns up to limit budgets after an id, oldest first, and how
	// many there are in all.
	Budgets(ctx context.Context, tenant uuid.UUID, f Filter, after uuid.UUID, limit int) ([]*costv1.Budget, int32, error)
}

// Service is what may be done with budgets.
type Service struct{ store Store }

// New returns a Service over store.
func New(store Store) *Service { return &Service{store: store} }

// Create stores a budget, which counts from the moment the data plane has it.
func (s *Service) Create(ctx context.Context, by identity.Principal, b *costv1.Budget, once change.Once) (*costv1.Budget, error) {
	b = proto.CloneOf(b)
	if err := suspend(b, b, nil); err != nil {
		return nil, err
	}
	if err := sameWorkflow(b, nil); err != nil {
		return nil, err
	}
	Normalize(b)
	if err := Check(b); err != nil {
		return nil, err
	}
	unbound(b.GetPeriod())
	return s.store.CreateBudget(ctx, by, b, once)
}

// Budget returns one budget.
func (s *Service) Budget(ctx context.Context, tenant, id uuid.UUID) (*costv1.Budget, error) {
	return s.store.Budget(ctx, tenant, id)
}

// Budgets returns up to limit budgets after an id, and how many there are in all.
func (s *Service) Budgets(ctx context.Context, tenant uuid.UUID, f Filter, after uuid.UUID, limit int) ([]*costv1.Budget, int32, error) {
	return s.store.Budgets(ctx, tenant, f, after, limit)
}

// attempts is how often a change without an etag is applied again to what
// another change has left.
const attempts = 5

// Update applies patch to the budget it names. With an etag in patch it is a
// Conflict if the budget has changed since that etag; without one the patch
// applies to whatever is there.
func (s *Service) Update(ctx context.Context, by identity.Principal, patch *costv1.Budget, paths []string) (*costv1.Budget, error) {
	id, err := uuid.Parse(patch.GetBudgetId())
	if err != nil {
		return nil, fault.Field("budget.budget_id", "must be a UUID")
	}
	for range attempts {
		var old, next *costv1.Budget
		if old, err = s.store.Budget(ctx, by.Tenant, id); err != nil {
			return nil, err
		}
		if patch.GetEtag() != "" && patch.GetEtag() != old.GetEtag() {
			return nil, change.Stale("budget")
		}
		if next, err = patched(old, patch, paths); err != nil {
			return nil, err
		}
		if proto.Equal(old, next) {
			return old, nil
		}
		next, err = s.store.ReplaceBudget(ctx, by, old, next)
		if err == nil || !errors.Is(err, fault.Conflict) || patch.GetEtag() != "" {
			return next, err
		}
	}
	return nil, err
}

func patched(old, patch *costv1.Budget, paths []string) (*costv1.Budget, error) {
	next := proto.CloneOf(old)
	if err := mask.Apply(next, patch, paths, mutable); err != nil {
		return nil, err
	}
	if err := suspend(next, patch, paths); err != nil {
		return nil, err
	}
	if err := sameWorkflow(next, old); err != nil {
		return nil, err
	}
	Normalize(next)
	if err := Check(next); err != nil {
		return nil, err
	}
	unbound(next.GetPeriod())
	return next, nil
}

// Delete ends a budget. What was spent of it stays in the ledger.
func (s *Service) Delete(ctx context.Context, by identity.Principal, id uuid.UUID) error {
	var err error
	for range attempts {
		var old *costv1.Budget
		if old, err = s.store.Budget(ctx, by.Tenant, id); err != nil {
			return err
		}
		if err = s.store.DeleteBudget(ctx, by, old); !errors.Is(err, fault.Conflict) {
			return err
		}
	}
	return err
}
