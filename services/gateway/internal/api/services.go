package api

import (
	"google.golang.org/grpc"

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

// Services are the whole public surface.
type Services struct {
	Governance *Governance
	Envelopes  *Envelopes
	Policies   *Policies
	Lifecycle  *Lifecycle
	Events     *Events
	Cost       *Cost
	Prices     *Prices
	Oracle     *Oracle
	Tenant     *Tenant
	Agents     *Agents
	Audit      *Audit
	Wallets    *Wallets
	Books      *Books
	Admin      *Admin
	Tools      *Tools
	Immune     *Immune
	Webhooks   *Webhooks
	Judge      *Judge
}

// Register registers every service.
func (s Services) Register(r grpc.ServiceRegistrar) {
	governancev1.RegisterGovernanceServiceServer(r, s.Governance)
	envelopev1.RegisterEnvelopeServiceServer(r, s.Envelopes)
	policyv1.RegisterPolicyServiceServer(r, s.Policies)
	lifecyclev1.RegisterPolicyLifecycleServiceServer(r, s.Lifecycle)
	eventstorev1.RegisterEventStoreServiceServer(r, s.Events)
	costv1.RegisterCostServiceServer(r, s.Cost)
	pricingv1.RegisterPriceServiceServer(r, s.Prices)
	brainv1.RegisterOracleServiceServer(r, s.Oracle)
	tenantv1.RegisterTenantServiceServer(r, s.Tenant)
	agentv1.RegisterAgentServiceServer(r, s.Agents)
	auditv1.RegisterAuditServiceServer(r, s.Audit)
	walletv1.RegisterWalletServiceServer(r, s.Wallets)
	ledgerv1.RegisterBookkeepingServiceServer(r, s.Books)
	controlplanev1.RegisterAdminServiceServer(r, s.Admin)
	controlplanev1.RegisterToolServiceServer(r, s.Tools)
	brainv1.RegisterImmuneSystemServiceServer(r, s.Immune)
	controlplanev1.RegisterWebhookServiceServer(r, s.Webhooks)
	brainv1.RegisterSemanticJudgeServiceServer(r, s.Judge)
}
