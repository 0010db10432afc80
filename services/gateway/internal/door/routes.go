package door

import (
	"strings"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	agentv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/agent/v1"
	auditv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/audit/v1"
	brainv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/brain/v1"
	controlplanev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/controlplane/v1"
	costv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/cost/v1"
	envelopev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/envelope/v1"
	eventstorev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/eventstore/v1"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	ledgerv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/ledger/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	lifecyclev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policylifecycle/v1"
	pricingv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/pricing/v1"
	tenantv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/tenant/v1"
	walletv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/wallet/v1"
)

// Route is who may call a method: a credential of a tenant with any one of the
// scopes; or, where Admin is set, a platform administrator.
type Route struct {
	Scopes []string // any of them; none: no tenant's credential may call it
	Admin  bool
}

func anyOf(scopes ...string) Route { return Route{Scopes: scopes} }

// Routes is every method of the public surface. What is not here is refused:
// a test compares it with what is registered.
func Routes() map[string]Route {
	return map[string]Route{
		governancev1.GovernanceService_Authorize_FullMethodName:       anyOf("envelope:write"),
		governancev1.GovernanceService_AuthorizeBatch_FullMethodName:  anyOf("envelope:write"),
		governancev1.GovernanceService_Settle_FullMethodName:          anyOf("envelope:write"),
		governancev1.GovernanceService_Release_FullMethodName:         anyOf("envelope:write"),
		governancev1.GovernanceService_Renew_FullMethodName:           anyOf("envelope:write"),
		governancev1.GovernanceService_WaitForApproval_FullMethodName: anyOf("approval:read", "envelope:write"),
		governancev1.GovernanceService_GetDecision_FullMethodName:     anyOf("envelope:read", "audit:read"),
		governancev1.GovernanceService_ListDecisions_FullMethodName:   anyOf("envelope:read", "audit:read"),
		governancev1.GovernanceService_FilterTools_FullMethodName:     anyOf("envelope:write", "policy:read"),

		envelopev1.EnvelopeService_CreateEnvelope_FullMethodName:       anyOf("envelope:write"),
		envelopev1.EnvelopeService_GetEnvelope_FullMethodName:          anyOf("envelope:read"),
		envelopev1.EnvelopeService_UpdateEnvelopeStatus_FullMethodName: anyOf("envelope:write"),
		envelopev1.EnvelopeService_ListEnvelopes_FullMethodName:        anyOf("envelope:read"),
		envelopev1.EnvelopeService_TerminateEnvelope_FullMethodName:    anyOf("envelope:write"),
		envelopev1.EnvelopeService_WatchEnvelope_FullMethodName:        anyOf("envelope:read"),

		policyv1.PolicyService_CreatePolicy_FullMethodName:         anyOf("policy:write"),
		policyv1.PolicyService_GetPolicy_FullMethodName:            anyOf("policy:read"),
		policyv1.PolicyService_UpdatePolicy_FullMethodName:         anyOf("policy:write", "policy:approve"),
		policyv1.PolicyService_DeletePolicy_FullMethodName:         anyOf("policy:write"),
		policyv1.PolicyService_ListPolicies_FullMethodName:         anyOf("policy:read"),
		policyv1.PolicyService_EvaluatePolicy_FullMethodName:       anyOf("envelope:write", "policy:read"),
		policyv1.PolicyService_EvaluatePolicies_FullMethodName:     anyOf("envelope:write", "policy:read"),
		policyv1.PolicyService_GetEvaluationHistory_FullMethodName: anyOf("policy:read", "audit:read"),
		policyv1.PolicyService_ListApprovals_FullMethodName:        anyOf("approval:read"),
		policyv1.PolicyService_UpdateApproval_FullMethodName:       anyOf("approval:write"),

		lifecyclev1.PolicyLifecycleService_ActivatePolicy_FullMethodName:        anyOf("policy:approve"),
		lifecyclev1.PolicyLifecycleService_CreatePolicyVersion_FullMethodName:   anyOf("policy:write"),
		lifecyclev1.PolicyLifecycleService_ExportPolicies_FullMethodName:        anyOf("policy:read"),
		lifecyclev1.PolicyLifecycleService_GetPolicyShadowReport_FullMethodName: anyOf("policy:read"),
		lifecyclev1.PolicyLifecycleService_GetPolicyVersion_FullMethodName:      anyOf("policy:read"),
		lifecyclev1.PolicyLifecycleService_ImportPolicies_FullMethodName:        anyOf("policy:write"),
		lifecyclev1.PolicyLifecycleService_LintPolicy_FullMethodName:            anyOf("policy:read"),
		lifecyclev1.PolicyLifecycleService_ListPolicyActivations_FullMethodName: anyOf("policy:read"),
		lifecyclev1.PolicyLifecycleService_ListPolicyShadows_FullMethodName:     anyOf("policy:read"),
		lifecyclev1.PolicyLifecycleService_ListPolicyVersions_FullMethodName:    anyOf("policy:read"),
		lifecyclev1.PolicyLifecycleService_RollBackPolicy_FullMethodName:        anyOf("policy:approve"),
		lifecyclev1.PolicyLifecycleService_SimulatePolicies_FullMethodName:      anyOf("policy:read"),
		lifecyclev1.PolicyLifecycleService_StartPolicyShadow_FullMethodName:     anyOf("policy:write"),
		lifecyclev1.PolicyLifecycleService_StopPolicyShadow_FullMethodName:      anyOf("policy:write"),
		lifecyclev1.PolicyLifecycleService_TestPolicy_FullMethodName:            anyOf("policy:read"),

		costv1.CostService_CreateBudget_FullMethodName:         anyOf("cost:write"),
		costv1.CostService_GetBudget_FullMethodName:            anyOf("cost:read"),
		costv1.CostService_UpdateBudget_FullMethodName:         anyOf("cost:write"),
		costv1.CostService_DeleteBudget_FullMethodName:         anyOf("cost:write"),
		costv1.CostService_ListBudgets_FullMethodName:          anyOf("cost:read"),
		costv1.CostService_CreateBudgetOverride_FullMethodName: anyOf("cost:write"),
		costv1.CostService_ListBudgetOverrides_FullMethodName:  anyOf("cost:read"),
		costv1.CostService_RevokeBudgetOverride_FullMethodName: anyOf("cost:write"),
		costv1.CostService_GetCostSummary_FullMethodName:       anyOf("cost:read"),
		costv1.CostService_GetSpendSummary_FullMethodName:      anyOf("cost:read"),
		costv1.CostService_GetBudgetStatus_FullMethodName:      anyOf("cost:read"),
		costv1.CostService_PredictCost_FullMethodName:          anyOf("cost:read"),

		pricingv1.PriceService_ImportPrices_FullMethodName:      anyOf("cost:write"),
		pricingv1.PriceService_EndPrice_FullMethodName:          anyOf("cost:write"),
		pricingv1.PriceService_ListPriceVersions_FullMethodName: anyOf("cost:read"),
		pricingv1.PriceService_GetPriceVersion_FullMethodName:   anyOf("cost:read"),
		pricingv1.PriceService_ListPrices_FullMethodName:        anyOf("cost:read"),
		pricingv1.PriceService_GetPrice_FullMethodName:          anyOf("cost:read"),
		pricingv1.PriceService_Rerate_FullMethodName:            anyOf("cost:read", "cost:write"),
		pricingv1.PriceService_GetRerate_FullMethodName:         anyOf("cost:read"),
		pricingv1.PriceService_ListRerates_FullMethodName:       anyOf("cost:read"),

		brainv1.OracleService_PredictBudgetOverrun_FullMethodName: anyOf("cost:read"),
		brainv1.OracleService_GetPredictionModel_FullMethodName:   anyOf("cost:read"),
		brainv1.OracleService_ListPredictionModels_FullMethodName: anyOf("cost:read"),

		walletv1.WalletService_CreateWallet_FullMethodName:     anyOf("cost:write"),
		walletv1.WalletService_UpdateWallet_FullMethodName:     anyOf("cost:write"),
		walletv1.WalletService_GetWallet_FullMethodName:        anyOf("cost:read"),
		walletv1.WalletService_ListWallets_FullMethodName:      anyOf("cost:read"),
		walletv1.WalletService_TopUpWallet_FullMethodName:      anyOf("cost:write"),
		walletv1.WalletService_AdjustWallet_FullMethodName:     anyOf("cost:write"),
		walletv1.WalletService_GetStatement_FullMethodName:     anyOf("cost:read"),
		walletv1.WalletService_CreateSigningKey_FullMethodName: anyOf("cost:write"),
		walletv1.WalletService_ListSigningKeys_FullMethodName:  anyOf("cost:read"),

		ledgerv1.BookkeepingService_ExportEntries_FullMethodName: anyOf("cost:read"),
		ledgerv1.BookkeepingService_CheckLedger_FullMethodName:   anyOf("cost:read"),
		ledgerv1.BookkeepingService_CorrectCharge_FullMethodName: anyOf("cost:write"),
		ledgerv1.BookkeepingService_ListHolds_FullMethodName:     anyOf("cost:read"),
		ledgerv1.BookkeepingService_ReleaseHold_FullMethodName:   anyOf("cost:write"),

		eventstorev1.EventStoreService_PublishEvent_FullMethodName:       anyOf("event:write"),
		eventstorev1.EventStoreService_PublishEventBatch_FullMethodName:  anyOf("event:write"),
		eventstorev1.EventStoreService_QueryEvents_FullMethodName:        anyOf("event:read"),
		eventstorev1.EventStoreService_GetExecutionEvents_FullMethodName: anyOf("event:read"),
		eventstorev1.EventStoreService_StreamEvents_FullMethodName:       anyOf("event:read"),
		eventstorev1.EventStoreService_GetEventStoreStats_FullMethodName: anyOf("event:read"),

		tenantv1.TenantService_CreateApiKey_FullMethodName: anyOf("api_key:write"),
		tenantv1.TenantService_ListApiKeys_FullMethodName:  anyOf("api_key:read"),
		tenantv1.TenantService_RevokeApiKey_FullMethodName: anyOf("api_key:write"),

		agentv1.AgentService_CreateAgent_FullMethodName:        anyOf("agent:write"),
		agentv1.AgentService_GetAgent_FullMethodName:           anyOf("agent:read"),
		agentv1.AgentService_ListAgents_FullMethodName:         anyOf("agent:read"),
		agentv1.AgentService_UpdateAgent_FullMethodName:        anyOf("agent:write"),
		agentv1.AgentService_DeleteAgent_FullMethodName:        anyOf("agent:write"),
		agentv1.AgentService_GetAgentMetrics_FullMethodName:    anyOf("agent:read"),
		agentv1.AgentService_RecordAgentMetrics_FullMethodName: anyOf("agent:write"),

		auditv1.AuditService_GetLogCheckpoint_FullMethodName:    anyOf("audit:read"),
		auditv1.AuditService_GetInclusionProof_FullMethodName:   anyOf("audit:read"),
		auditv1.AuditService_GetConsistencyProof_FullMethodName: anyOf("audit:read"),
		auditv1.AuditService_ListEntries_FullMethodName:         anyOf("audit:read"),
		auditv1.AuditService_GetVerificationKey_FullMethodName:  anyOf("audit:read"),

		brainv1.ImmuneSystemService_ReportIncident_FullMethodName:        anyOf("event:write"),
		brainv1.ImmuneSystemService_ListIncidents_FullMethodName:         anyOf("event:read"),
		brainv1.ImmuneSystemService_GetAttackPatterns_FullMethodName:     anyOf("event:read"),
		brainv1.ImmuneSystemService_GetPendingPolicies_FullMethodName:    anyOf("policy:read"),
		brainv1.ImmuneSystemService_ReviewGeneratedPolicy_FullMethodName: anyOf("policy:approve"),
		brainv1.ImmuneSystemService_ListDetectors_FullMethodName:         anyOf("policy:read"),
		brainv1.ImmuneSystemService_UpdateDetector_FullMethodName:        anyOf("policy:approve"),

		brainv1.SemanticJudgeService_EvaluateCondition_FullMethodName: anyOf("policy:read"),
		brainv1.SemanticJudgeService_ClassifyRisk_FullMethodName:      anyOf("policy:read"),
		brainv1.SemanticJudgeService_DeriveIntent_FullMethodName:      anyOf("policy:read"),

		controlplanev1.AdminService_CreateTenant_FullMethodName:         {Admin: true},
		controlplanev1.AdminService_ListTenants_FullMethodName:          {Admin: true},
		controlplanev1.AdminService_IssueApiKey_FullMethodName:          {Admin: true},
		controlplanev1.AdminService_UpdateTenantSettings_FullMethodName: {Admin: true, Scopes: []string{"tenant:admin"}},

		controlplanev1.ToolService_RegisterTool_FullMethodName: anyOf("policy:approve"),
		controlplanev1.ToolService_ImportTools_FullMethodName:  anyOf("policy:approve"),
		controlplanev1.ToolService_ListTools_FullMethodName:    anyOf("policy:read"),
		controlplanev1.ToolService_DeleteTool_FullMethodName:   anyOf("policy:approve"),

		controlplanev1.WebhookService_CreateWebhook_FullMethodName:         anyOf("tenant:admin"),
		controlplanev1.WebhookService_ListWebhooks_FullMethodName:          anyOf("tenant:admin"),
		controlplanev1.WebhookService_UpdateWebhook_FullMethodName:         anyOf("tenant:admin"),
		controlplanev1.WebhookService_DeleteWebhook_FullMethodName:         anyOf("tenant:admin"),
		controlplanev1.WebhookService_TestWebhook_FullMethodName:           anyOf("tenant:admin"),
		controlplanev1.WebhookService_RotateWebhookSecret_FullMethodName:   anyOf("tenant:admin"),
		controlplanev1.WebhookService_ListWebhookDeliveries_FullMethodName: anyOf("tenant:admin"),
	}
}

// RecordCost is the route of the budget side door, which is HTTP only.
const RecordCost = "/fulcrum.http/RecordCost"

// The routes of the OpenID AuthZEN door, which is HTTP only.
const (
	AccessEvaluation  = "/fulcrum.http/AccessEvaluation"
	AccessEvaluations = "/fulcrum.http/AccessEvaluations"
)

// otherRoutes are the doors that are no rpc of ours.
func otherRoutes() map[string]Route {
	return map[string]Route{
		authv3.Authorization_Check_FullMethodName: anyOf("envelope:write"),
		RecordCost:        anyOf("cost:write", "envelope:write"),
		AccessEvaluation:  anyOf("envelope:write"),
		AccessEvaluations: anyOf("envelope:write"),
	}
}

// short is a method without its package, for metrics and messages.
func short(method string) string { return method[strings.LastIndexByte(method, '/')+1:] }
