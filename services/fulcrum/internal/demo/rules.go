package demo

import (
	"context"
	"errors"
	"fmt"
	"time"

	costv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/cost/v1"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
)

// What the agents of the demo may count on.
const (
	forbiddenRule = "destructive tools are forbidden"
	crowdWorkflow = "crowd"
	crowdRoom     = 50
	agentLimitUSD = 1.00
)

// mailPolicy is written in Rego to show that both forms run side by side.
const mailPolicy = `package fulcrum.policy

import rego.v1

warn contains {"rule_id": "external-mail", "message": "mail leaves the company"} if {
	input.tool.name == "send_email"
	not endswith(input.action.args.to, "@acme.example")
}
`

func (w *world) createPolicies(ctx context.Context) (string, error) {
	policies := []*policyv1.Policy{
		{
			Name: "no-destructive-tools",
			Rules: []*policyv1.PolicyRule{{
				RuleId: "deny-destructive", Name: forbiddenRule, Enabled: true,
				RuleType: policyv1.RuleType_RULE_TYPE_TOOL_ALLOWLIST,
				Conditions: []*policyv1.PolicyCondition{{
					ConditionType: policyv1.ConditionType_CONDITION_TYPE_IN_LIST, Field: "tool.name",
					Operator: policyv1.ConditionOperator_CONDITION_OPERATOR_IN, Values: []string{"delete_database", "drop_table"},
				}},
				Actions: []*policyv1.PolicyAction{{
					ActionType: policyv1.ActionType_ACTION_TYPE_DENY, Severity: policyv1.SeverityLevel_SEVERITY_LEVEL_CRITICAL,
					Message: "this tool destroys data and is never allowed",
				}},
			}},
			Scope:       &policyv1.PolicyScope{Phases: []policyv1.ExecutionPhase{policyv1.ExecutionPhase_EXECUTION_PHASE_PRE_TOOL_CALL}},
			Enforcement: policyv1.EnforcementLevel_ENFORCEMENT_LEVEL_BLOCK,
			Status:      policyv1.PolicyStatus_POLICY_STATUS_ACTIVE,
		},
		{
			Name: "large-refunds-need-a-person",
			Rules: []*policyv1.PolicyRule{{
				RuleId: "refund-approval", Name: "refunds above 100 USD need approval", Enabled: true,
				Conditions: []*policyv1.PolicyCondition{{
					ConditionType: policyv1.ConditionType_CONDITION_TYPE_RANGE, Field: "action.args.amount_usd",
					Operator: policyv1.ConditionOperator_CONDITION_OPERATOR_GREATER_THAN,
					Value:    &policyv1.PolicyCondition_FloatValue{FloatValue: 100},
				}},
				Actions: []*policyv1.PolicyAction{{
					ActionType: policyv1.ActionType_ACTION_TYPE_REQUIRE_APPROVAL,
					Parameters: map[string]string{"quorum": "1", "roles": "finance-lead"},
					Message:    "a finance lead must approve refunds above 100 USD",
				}},
			}},
			Scope:       &policyv1.PolicyScope{ToolNames: []string{"issue_refund"}},
			Enforcement: policyv1.EnforcementLevel_ENFORCEMENT_LEVEL_BLOCK,
			Status:      policyv1.PolicyStatus_POLICY_STATUS_ACTIVE,
		},
		{
			Name:        "mail-outside-is-noted",
			Rego:        mailPolicy,
			Scope:       &policyv1.PolicyScope{ToolNames: []string{"send_email"}},
			Enforcement: policyv1.EnforcementLevel_ENFORCEMENT_LEVEL_BLOCK,
			Status:      policyv1.PolicyStatus_POLICY_STATUS_ACTIVE,
		},
	}
	for _, p := range policies {
		if _, err := w.acme.owner.policies.CreatePolicy(ctx, &policyv1.CreatePolicyRequest{Policy: p}); err != nil {
			return "", fmt.Errorf("create policy %s: %w", p.GetName(), err)
		}
	}
	return fmt.Sprintf("%d policies: two of rules, one in Rego", len(policies)), nil
}

func (w *world) createBudgets(ctx context.Context) (string, error) {
	monthly := &costv1.BudgetPeriod{PeriodType: costv1.BudgetPeriodType_BUDGET_PERIOD_TYPE_MONTHLY}
	daily := &costv1.BudgetPeriod{PeriodType: costv1.BudgetPeriodType_BUDGET_PERIOD_TYPE_DAILY}
	budgets := []*costv1.Budget{
		{Name: "acme", Limits: &costv1.BudgetLimits{MaxCostUsd: 100}, Period: monthly},
		{Name: "team growth", Limits: &costv1.BudgetLimits{MaxCostUsd: 50}, Period: monthly, Scope: &costv1.BudgetScope{Team: "growth"}},
		{Name: "research-bot", Limits: &costv1.BudgetLimits{MaxCostUsd: agentLimitUSD}, Period: daily, Scope: &costv1.BudgetScope{AgentId: w.acme.agent}},
		{Name: "crowd", Limits: &costv1.BudgetLimits{MaxToolCalls: crowdRoom}, Period: daily, Scope: &costv1.BudgetScope{WorkflowId: crowdWorkflow}},
	}
	for _, b := range budgets {
		b.Mode = costv1.BudgetMode_BUDGET_MODE_HARD
		if _, err := w.acme.owner.costs.CreateBudget(ctx, &costv1.CreateBudgetRequest{Budget: b}); err != nil {
			return "", fmt.Errorf("create budget %s: %w", b.GetName(), err)
		}
	}
	return "tenant 100 USD, team 50 USD, agent 1 USD, workflow 50 calls", nil
}

// awaitConfiguration measures how long a change takes to reach the data plane:
// it asks, without recording anything, until the newest rules answer.
func (w *world) awaitConfiguration(ctx context.Context) (string, error) {
	result, err := w.awaitPolicies(ctx)
	if err != nil {
		return "", err
	}
	return eventually(ctx, 5*time.Second, func() (string, error) {
		resp, err := w.acme.owner.governance.Authorize(ctx, &governancev1.AuthorizeRequest{
			Envelope: inline(crowdWorkflow), Action: tool("lookup", nil), IdempotencyKey: newKey(), DryRun: true,
			Estimate: &governancev1.Estimate{ToolCalls: crowdRoom + 1}})
		if err != nil {
			return "", err
		}
		if resp.GetRefusedBy() == nil {
			return "", errors.New("budget crowd is not known yet")
		}
		return result, nil
	})
}

func (w *world) awaitPolicies(ctx context.Context) (string, error) {
	return eventually(ctx, 5*time.Second, func() (string, error) {
		resp, err := w.acme.owner.governance.Authorize(ctx, &governancev1.AuthorizeRequest{
			Envelope: inline("warm-up"), Action: tool("drop_table", nil), IdempotencyKey: newKey(), DryRun: true})
		if err != nil {
			return "", err
		}
		if resp.GetDecision() != governancev1.Decision_DECISION_DENY {
			return "", fmt.Errorf("drop_table is still %s", resp.GetDecision())
		}
		return fmt.Sprintf("policy set version %d", resp.GetPolicySetVersion()), nil
	})
}
