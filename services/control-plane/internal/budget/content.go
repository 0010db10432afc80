package budget

import (
	"cmp"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	costv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/cost/v1"
)

// mutable are the fields that a caller decides. Of the status only SUSPENDED
// is one, and means suspended.
var mutable = map[string]bool{
	"workflow_id": true, "limits": true, "thresholds": true, "period": true, "name": true, "description": true,
	"tags": true, "scope": true, "mode": true, "time_zone": true, "suspended": true, "status": true, "wallet_id": true,
}

// Content is the part of a budget that is stored as written: without what the
// server sets and without what only the ledger knows.
func Content(b *costv1.Budget) *costv1.Budget {
	c := proto.CloneOf(b)
	c.BudgetId, c.TenantId, c.Etag = "", "", ""
	c.CreatedAt, c.UpdatedAt, c.ResetAt = nil, nil, nil
	c.CurrentSpend, c.Overrides = nil, nil
	c.Status = costv1.BudgetStatusType_BUDGET_STATUS_TYPE_UNSPECIFIED
	for _, t := range c.GetThresholds() {
		t.Notified, t.NotifiedAt = false, nil
	}
	return c
}

// Normalize writes down what the caller left to us, so that a budget says by
// itself what it means: the mode, thresholds in order, one scope.
func Normalize(b *costv1.Budget) {
	b.Name = strings.TrimSpace(b.GetName())
	b.Status, b.CurrentSpend, b.ResetAt = costv1.BudgetStatusType_BUDGET_STATUS_TYPE_UNSPECIFIED, nil, nil
	if b.GetSuspended() {
		b.Status = costv1.BudgetStatusType_BUDGET_STATUS_TYPE_SUSPENDED
	}
	if b.GetMode() == costv1.BudgetMode_BUDGET_MODE_UNSPECIFIED {
		b.Mode = costv1.BudgetMode_BUDGET_MODE_HARD
	}
	for _, t := range b.GetThresholds() {
		t.Notified, t.NotifiedAt = false, nil
	}
	slices.SortStableFunc(b.GetThresholds(), func(x, y *costv1.NotificationThreshold) int {
		return cmp.Compare(x.GetThresholdPercent(), y.GetThresholdPercent())
	})
	if proto.Equal(b.GetScope(), &costv1.BudgetScope{}) {
		b.Scope = nil
	}
}

// unbound leaves out what only shows the current window: callers send back what
// they read. Where a CUSTOM period starts is theirs to say.
func unbound(p *costv1.BudgetPeriod) {
	if p == nil {
		return
	}
	p.PeriodEnd = nil
	if p.GetPeriodType() != costv1.BudgetPeriodType_BUDGET_PERIOD_TYPE_CUSTOM {
		p.PeriodStart = nil
	}
}

// suspend reads the published way to suspend a budget by hand: its status.
// Named in the mask it is an order; otherwise most likely what the caller has
// read, of which only SUSPENDED says something that is theirs to say.
func suspend(b, patch *costv1.Budget, paths []string) error {
	named := slices.Contains(paths, "status")
	switch patch.GetStatus() {
	case costv1.BudgetStatusType_BUDGET_STATUS_TYPE_SUSPENDED:
		if named || len(paths) == 0 || slices.Contains(paths, "*") {
			b.Suspended = true
		}
	case costv1.BudgetStatusType_BUDGET_STATUS_TYPE_OK:
		if named {
			b.Suspended = false
		}
	default:
		if named {
			return fault.Field("budget.status", "only SUSPENDED and OK are set by hand; the rest follows from the spending")
		}
	}
	return nil
}

// sameWorkflow keeps the published workflow_id and the scope's one thing. Of
// the two, the one that differs from old is what the caller meant.
func sameWorkflow(b, old *costv1.Budget) error {
	flat, scoped := b.GetWorkflowId(), b.GetScope().GetWorkflowId()
	switch {
	case flat == scoped:
		return nil
	case scoped == old.GetScope().GetWorkflowId():
		if b.Scope == nil {
			b.Scope = &costv1.BudgetScope{}
		}
		b.Scope.WorkflowId = flat
	case flat == old.GetWorkflowId():
		b.WorkflowId = scoped
	default:
		return fault.Field("budget.scope.workflow_id", "differs from budget.workflow_id: set one of them")
	}
	return nil
}
