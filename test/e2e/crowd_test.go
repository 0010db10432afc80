package e2e

import (
	"fmt"
	"sync"
	"testing"

	"google.golang.org/grpc/codes"

	costv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/cost/v1"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"

	"github.com/fulcrum-io/fulcrum/test/internal/running"
)

// Of any number of callers at once, through whatever doors, exactly as many get
// through as there is room for.
func TestExactlyAsManyPassAsThereIsRoom(t *testing.T) {
	t.Parallel()
	callers, room := rounds(500, 5000), rounds(100, 1000)
	tenant := stack.Tenant(t, "crowd")
	budget := tenant.Budget(t, &costv1.Budget{Name: "crowd", Limits: &costv1.BudgetLimits{MaxToolCalls: int32(room)},
		Scope: &costv1.BudgetScope{WorkflowId: "crowd"}})
	agent := tenant.Agent(t, "bot")

	var mu sync.Mutex // guards what follows
	allowed, refusedBy := map[string]int{}, 0

	through := doors()[:5:5] // one of them REST
	two := []int{0, 4}
	gate := make(chan struct{})
	var crowd sync.WaitGroup
	for i := range callers {
		d := through[two[i%2]]
		crowd.Go(func() {
			<-gate
			req := running.Inline("crowd", running.Tool("lookup"))
			req.Estimate = &governancev1.Estimate{ToolCalls: 1}
			a, err := d.Call(t.Context(), agent.Key, governancev1.GovernanceService_Authorize_FullMethodName, req)
			if err != nil || a.Code != codes.OK {
				t.Errorf("%s: %s %v", d.Name, a, err)
				return
			}
			resp := a.Body.(*governancev1.AuthorizeResponse)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case resp.GetDecision() == governancev1.Decision_DECISION_ALLOW:
				allowed[d.Name]++
			case resp.GetDecision() == governancev1.Decision_DECISION_DENY && resp.GetRefusedBy().GetId() == budget.GetBudgetId():
				refusedBy++
			default:
				t.Errorf("%s: %v", d.Name, resp)
			}
		})
	}
	close(gate)
	crowd.Wait()

	passed := 0
	for _, n := range allowed {
		passed += n
	}
	if passed != room || refusedBy != callers-room {
		t.Errorf("%d passed %v and %d were refused by the budget, want %d and %d", passed, allowed, refusedBy, room, callers-room)
	}
	if len(allowed) < 2 {
		t.Logf("only one door let anybody through: %v", allowed)
	}
	db := stack.Database(t)
	for what, c := range map[string]struct {
		sql  string
		want int
	}{
		"recorded as allowed": {"select count(*) from fulcrum.decisions where tenant_id = $1 and workflow_id = 'crowd' and decision = 'ALLOW'", room},
		"recorded as denied":  {"select count(*) from fulcrum.decisions where tenant_id = $1 and workflow_id = 'crowd' and decision = 'DENY'", callers - room},
		"holds":               {"select count(*) from fulcrum.reservations where tenant_id = $1", room},
		"held in the window":  {fmt.Sprintf("select tool_calls_held from fulcrum.budget_windows where tenant_id = $1 and budget_id = '%s'", budget.GetBudgetId()), room},
	} {
		if got := db.Count(t, c.sql, tenant.ID); got != int64(c.want) {
			t.Errorf("%s: %d, want %d", what, got, c.want)
		}
	}
}
