// Package access says who may call what, in one table.
package access

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
)

// Rule is what a method asks of its caller.
type Rule struct {
	Scope string // a caller of a tenant with this scope
	Admin bool   // a platform administrator; with a Scope, either of the two
	// Elsewhere: part of a service we share, answered by another process.
	Elsewhere bool
	// Open to whoever can connect.
	Open bool
}

// rules is every method that is served here. What is not in it is refused.
var rules = map[string]Rule{
	"/fulcrum.policy.v1.PolicyService/CreatePolicy": {Scope: "policy:write"},
	"/fulcrum.policy.v1.PolicyService/GetPolicy":    {Scope: "policy:read"},
	"/fulcrum.policy.v1.PolicyService/UpdatePolicy": {Scope: "policy:write"},
	"/fulcrum.policy.v1.PolicyService/DeletePolicy": {Scope: "policy:write"},
	"/fulcrum.policy.v1.PolicyService/ListPolicies": {Scope: "policy:read"},

	"/fulcrum.policylifecycle.v1.PolicyLifecycleService/LintPolicy":            {Scope: "policy:read"},
	"/fulcrum.policylifecycle.v1.PolicyLifecycleService/TestPolicy":            {Scope: "policy:read"},
	"/fulcrum.policylifecycle.v1.PolicyLifecycleService/CreatePolicyVersion":   {Scope: "policy:write"},
	"/fulcrum.policylifecycle.v1.PolicyLifecycleService/ListPolicyVersions":    {Scope: "policy:read"},
	"/fulcrum.policylifecycle.v1.PolicyLifecycleService/GetPolicyVersion":      {Scope: "policy:read"},
	"/fulcrum.policylifecycle.v1.PolicyLifecycleService/ActivatePolicy":        {Scope: "policy:approve"},
	"/fulcrum.policylifecycle.v1.PolicyLifecycleService/RollBackPolicy":        {Scope: "policy:approve"},
	"/fulcrum.policylifecycle.v1.PolicyLifecycleService/ListPolicyActivations": {Scope: "policy:read"},
	"/fulcrum.policylifecycle.v1.PolicyLifecycleService/StartPolicyShadow":     {Scope: "policy:write"},
	"/fulcrum.policylifecycle.v1.PolicyLifecycleService/StopPolicyShadow":      {Scope: "policy:write"},
	"/fulcrum.policylifecycle.v1.PolicyLifecycleService/ListPolicyShadows":     {Scope: "policy:read"},
	"/fulcrum.policylifecycle.v1.PolicyLifecycleService/ExportPolicies":        {Scope: "policy:read"},
	"/fulcrum.policylifecycle.v1.PolicyLifecycleService/ImportPolicies":        {Scope: "policy:write"},

	"/fulcrum.policylifecycle.v1.PolicyLifecycleService/SimulatePolicies":      {Elsewhere: true},
	"/fulcrum.policylifecycle.v1.PolicyLifecycleService/GetPolicyShadowReport": {Elsewhere: true},

	"/fulcrum.policy.v1.PolicyService/EvaluatePolicy":       {Elsewhere: true},
	"/fulcrum.policy.v1.PolicyService/EvaluatePolicies":     {Elsewhere: true},
	"/fulcrum.policy.v1.PolicyService/GetEvaluationHistory": {Elsewhere: true},
	"/fulcrum.policy.v1.PolicyService/ListApprovals":        {Elsewhere: true},
	"/fulcrum.policy.v1.PolicyService/UpdateApproval":       {Elsewhere: true},

	"/fulcrum.cost.v1.CostService/CreateBudget": {Scope: "cost:write"},
	"/fulcrum.cost.v1.CostService/GetBudget":    {Scope: "cost:read"},
	"/fulcrum.cost.v1.CostService/UpdateBudget": {Scope: "cost:write"},
	"/fulcrum.cost.v1.CostService/DeleteBudget": {Scope: "cost:write"},
	"/fulcrum.cost.v1.CostService/ListBudgets":  {Scope: "cost:read"},

	"/fulcrum.cost.v1.CostService/CreateBudgetOverride": {Scope: "cost:write"},
	"/fulcrum.cost.v1.CostService/ListBudgetOverrides":  {Scope: "cost:read"},
	"/fulcrum.cost.v1.CostService/RevokeBudgetOverride": {Scope: "cost:write"},

	"/fulcrum.cost.v1.CostService/GetCostSummary":  {Elsewhere: true},
	"/fulcrum.cost.v1.CostService/GetSpendSummary": {Elsewhere: true},
	"/fulcrum.cost.v1.CostService/GetBudgetStatus": {Elsewhere: true},
	"/fulcrum.cost.v1.CostService/PredictCost":     {Elsewhere: true},

	"/fulcrum.pricing.v1.PriceService/ImportPrices":      {Scope: "cost:write"},
	"/fulcrum.pricing.v1.PriceService/EndPrice":          {Scope: "cost:write"},
	"/fulcrum.pricing.v1.PriceService/ListPriceVersions": {Scope: "cost:read"},
	"/fulcrum.pricing.v1.PriceService/GetPriceVersion":   {Scope: "cost:read"},

	"/fulcrum.pricing.v1.PriceService/ListPrices":  {Elsewhere: true},
	"/fulcrum.pricing.v1.PriceService/GetPrice":    {Elsewhere: true},
	"/fulcrum.pricing.v1.PriceService/Rerate":      {Elsewhere: true},
	"/fulcrum.pricing.v1.PriceService/GetRerate":   {Elsewhere: true},
	"/fulcrum.pricing.v1.PriceService/ListRerates": {Elsewhere: true},

	"/fulcrum.wallet.v1.WalletService/CreateWallet": {Scope: "cost:write"},
	"/fulcrum.wallet.v1.WalletService/UpdateWallet": {Scope: "cost:write"},

	"/fulcrum.wallet.v1.WalletService/GetWallet":        {Elsewhere: true},
	"/fulcrum.wallet.v1.WalletService/ListWallets":      {Elsewhere: true},
	"/fulcrum.wallet.v1.WalletService/TopUpWallet":      {Elsewhere: true},
	"/fulcrum.wallet.v1.WalletService/AdjustWallet":     {Elsewhere: true},
	"/fulcrum.wallet.v1.WalletService/GetStatement":     {Elsewhere: true},
	"/fulcrum.wallet.v1.WalletService/CreateSigningKey": {Elsewhere: true},
	"/fulcrum.wallet.v1.WalletService/ListSigningKeys":  {Elsewhere: true},

	"/fulcrum.tenant.v1.TenantService/CreateApiKey": {Scope: "api_key:write"},
	"/fulcrum.tenant.v1.TenantService/ListApiKeys":  {Scope: "api_key:read"},
	"/fulcrum.tenant.v1.TenantService/RevokeApiKey": {Scope: "api_key:write"},

	"/fulcrum.agent.v1.AgentService/CreateAgent": {Scope: "agent:write"},
	"/fulcrum.agent.v1.AgentService/GetAgent":    {Scope: "agent:read"},
	"/fulcrum.agent.v1.AgentService/ListAgents":  {Scope: "agent:read"},
	"/fulcrum.agent.v1.AgentService/UpdateAgent": {Scope: "agent:write"},
	"/fulcrum.agent.v1.AgentService/DeleteAgent": {Scope: "agent:write"},

	"/fulcrum.agent.v1.AgentService/GetAgentMetrics":    {Elsewhere: true},
	"/fulcrum.agent.v1.AgentService/RecordAgentMetrics": {Elsewhere: true},

	"/grpc.health.v1.Health/Check": {Open: true},
	"/grpc.health.v1.Health/List":  {Open: true},
	"/grpc.health.v1.Health/Watch": {Open: true},

	"/fulcrum.controlplane.v1.AdminService/CreateTenant":         {Admin: true},
	"/fulcrum.controlplane.v1.AdminService/ListTenants":          {Admin: true},
	"/fulcrum.controlplane.v1.AdminService/IssueApiKey":          {Admin: true},
	"/fulcrum.controlplane.v1.AdminService/UpdateTenantSettings": {Admin: true, Scope: "tenant:admin"},

	"/fulcrum.controlplane.v1.ToolService/RegisterTool": {Scope: "policy:approve"},
	"/fulcrum.controlplane.v1.ToolService/ImportTools":  {Scope: "policy:approve"},
	"/fulcrum.controlplane.v1.ToolService/ListTools":    {Scope: "policy:read"},
	"/fulcrum.controlplane.v1.ToolService/DeleteTool":   {Scope: "policy:approve"},
}

// Of returns the rule of a method, and whether there is one.
func Of(method string) (Rule, bool) {
	r, ok := rules[method]
	return r, ok
}

// Unary refuses callers that may not call the method.
func Unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	if err := check(ctx, info.FullMethod); err != nil {
		return nil, err
	}
	return next(ctx, req)
}

// Stream refuses callers that may not call the method.
func Stream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	if err := check(stream.Context(), info.FullMethod); err != nil {
		return err
	}
	return next(srv, stream)
}

func check(ctx context.Context, method string) error {
	r, ok := Of(method)
	switch {
	case !ok:
		return fault.New(fault.Denied, "nobody may call %s", method).WithReason("METHOD_CLOSED")
	case r.Open:
		return nil
	case r.Elsewhere:
		return status.Errorf(codes.Unimplemented, "%s is not served here", method)
	}
	p, err := identity.From(ctx)
	if err != nil {
		return err
	}
	if r.Admin && (p.Admin || r.Scope == "") {
		return p.MustBeAdmin()
	}
	_, err = identity.Allowed(ctx, r.Scope)
	return err
}
