package postgres

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/controldb"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	costv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/cost/v1"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/budget"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/change"
)

// CreateBudget implements budget.Store.
func (s *Store) CreateBudget(ctx context.Context, by identity.Principal, b *costv1.Budget, once change.Once) (*costv1.Budget, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return nil, fmt.Errorf("new budget id: %w", err)
	}
	content, err := budgetContent(b)
	if err != nil {
		return nil, err
	}
	stored := proto.CloneOf(b)
	_, err = s.create(ctx, by, by.Tenant, once, []kind{budgets}, stored, func(ctx context.Context, q *controldb.Queries) (told, error) {
		if err := paidFor(ctx, q, by.Tenant, b); err != nil {
			return told{}, err
		}
		row, err := q.InsertBudget(ctx, controldb.InsertBudgetParams{
			TenantID: by.Tenant, ID: id, Name: b.GetName(), WorkflowID: b.GetWorkflowId(), Suspended: b.GetSuspended(),
			Content: content, CreatedBy: by.Actor(),
		})
		if err != nil {
			return told{}, fmt.Errorf("insert budget: %w", err)
		}
		stored.BudgetId, stored.TenantId, stored.Etag = id.String(), by.Tenant.String(), change.Etag(row.Revision)
		stored.CreatedAt, stored.UpdatedAt = timestamppb.New(row.CreatedAt), timestamppb.New(row.UpdatedAt)
		return fact(change.Fact{Type: "budget_created", Action: "budget.create", Resource: "budget:" + id.String(), After: stored}), nil
	})
	return stored, err
}

// Budget implements budget.Store.
func (s *Store) Budget(ctx context.Context, tenant, id uuid.UUID) (b *costv1.Budget, err error) {
	err = s.db.Read(ctx, tenant, func(ctx context.Context, tx db.Tx) error {
		q := controldb.New(tx)
		row, err := q.Budget(ctx, controldb.BudgetParams{TenantID: tenant, ID: id})
		if err != nil {
			return missing(err, "budget", id.String())
		}
		if b, err = budgetOf(tenant, row); err != nil {
			return err
		}
		return overridden(ctx, q, tenant, b)
	})
	return b, err
}

// ReplaceBudget implements budget.Store. The revision is compared by the UPDATE
// itself, so of two writers that read the same one, one finds nothing to update.
func (s *Store) ReplaceBudget(ctx context.Context, by identity.Principal, old, next *costv1.Budget) (*costv1.Budget, error) {
	id, err := uuid.Parse(old.GetBudgetId())
	if err != nil {
		return nil, fmt.Errorf("budget id of a stored budget: %w", err)
	}
	content, err := budgetContent(next)
	if err != nil {
		return nil, err
	}
	stored := proto.CloneOf(next)
	_, err = s.change(ctx, by, by.Tenant, []kind{budgets}, func(ctx context.Context, q *controldb.Queries) (told, error) {
		if next.GetWalletId() != old.GetWalletId() {
			if err := paidFor(ctx, q, by.Tenant, next); err != nil {
				return told{}, err
			}
		}
		row, err := q.UpdateBudget(ctx, controldb.UpdateBudgetParams{
			TenantID: by.Tenant, ID: id, Revision: change.Revision(old.GetEtag()),
			Name: next.GetName(), WorkflowID: next.GetWorkflowId(), Suspended: next.GetSuspended(), Content: content,
		})
		if err != nil {
			return told{}, moved(err, "budget")
		}
		stored.Etag, stored.UpdatedAt = change.Etag(row.Revision), timestamppb.New(row.UpdatedAt)
		return fact(change.Fact{
			Type: "budget_updated", Action: "budget.update", Resource: "budget:" + id.String(), Before: old, After: stored,
		}), nil
	})
	if err != nil {
		return nil, err
	}
	return stored, nil
}

// DeleteBudget implements budget.Store.
func (s *Store) DeleteBudget(ctx context.Context, by identity.Principal, old *costv1.Budget) error {
	id, err := uuid.Parse(old.GetBudgetId())
	if err != nil {
		return fmt.Errorf("budget id of a stored budget: %w", err)
	}
	_, err = s.change(ctx, by, by.Tenant, []kind{budgets}, func(ctx context.Context, q *controldb.Queries) (told, error) {
		n, err := q.DeleteBudget(ctx, controldb.DeleteBudgetParams{TenantID: by.Tenant, ID: id, Revision: change.Revision(old.GetEtag())})
		if err != nil {
			return told{}, fmt.Errorf("delete budget: %w", err)
		}
		if n == 0 {
			return told{}, change.Stale("budget")
		}
		return fact(change.Fact{Type: "budget_deleted", Action: "budget.delete", Resource: "budget:" + id.String(), Before: old}), nil
	})
	return err
}

// Budgets implements budget.Store.
func (s *Store) Budgets(ctx context.Context, tenant uuid.UUID, f budget.Filter, after uuid.UUID, limit int) (page []*costv1.Budget, total int32, err error) {
	ids := f.IDs
	if ids == nil {
		ids = []uuid.UUID{} // a null array would match nothing
	}
	err = s.db.Read(ctx, tenant, func(ctx context.Context, tx db.Tx) error {
		q := controldb.New(tx)
		rows, err := q.Budgets(ctx, controldb.BudgetsParams{
			TenantID: tenant, WorkflowID: f.Workflow, Suspended: f.Suspended, Ids: ids, AfterID: after, Lim: int32(limit),
		})
		if err != nil {
			return fmt.Errorf("list budgets: %w", err)
		}
		for _, row := range rows {
			b, err := budgetOf(tenant, controldb.BudgetRow(row))
			if err != nil {
				return err
			}
			page = append(page, b)
		}
		if err := overridden(ctx, q, tenant, page...); err != nil {
			return err
		}
		total, err = q.CountBudgets(ctx, controldb.CountBudgetsParams{TenantID: tenant, WorkflowID: f.Workflow, Suspended: f.Suspended, Ids: ids})
		return err
	})
	return page, total, err
}

func budgetContent(b *costv1.Budget) ([]byte, error) {
	content, err := proto.MarshalOptions{Deterministic: true}.Marshal(budget.Content(b))
	if err != nil {
		return nil, fmt.Errorf("marshal budget: %w", err)
	}
	return content, nil
}

func budgetOf(tenant uuid.UUID, row controldb.BudgetRow) (*costv1.Budget, error) {
	b := &costv1.Budget{}
	if err := proto.Unmarshal(row.Content, b); err != nil {
		return nil, fmt.Errorf("read budget %s: %w", row.ID, err)
	}
	b.BudgetId, b.TenantId, b.Etag = row.ID.String(), tenant.String(), change.Etag(row.Revision)
	b.CreatedAt, b.UpdatedAt = timestamppb.New(row.CreatedAt), timestamppb.New(row.UpdatedAt)
	budget.Normalize(b)
	return b, nil
}
