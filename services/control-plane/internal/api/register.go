package api

import (
	"google.golang.org/grpc"

	agentv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/agent/v1"
	controlplanev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/controlplane/v1"
	costv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/cost/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	lifecyclev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policylifecycle/v1"
	pricingv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/pricing/v1"
	tenantv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/tenant/v1"
	walletv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/wallet/v1"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/agent"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/budget"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/exchange"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/keys"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/policy"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/price"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/tenant"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/tool"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/wallet"
)

// Services is what the control plane does.
type Services struct {
	Policies *policy.Service
	Exchange *exchange.Service
	Budgets  *budget.Service
	Prices   *price.Service
	Keys     *keys.Service
	Agents   *agent.Service
	Tenants  *tenant.Service
	Wallets  *wallet.Service
	Tools    *tool.Service
}

// Register puts every service on g. Each of their methods needs a rule in
// package access, which a test walks.
func Register(g grpc.ServiceRegistrar, s Services) {
	policyv1.RegisterPolicyServiceServer(g, NewPolicies(s.Policies))
	lifecyclev1.RegisterPolicyLifecycleServiceServer(g, NewLifecycle(s.Policies, s.Exchange))
	costv1.RegisterCostServiceServer(g, NewBudgets(s.Budgets))
	pricingv1.RegisterPriceServiceServer(g, NewPrices(s.Prices))
	tenantv1.RegisterTenantServiceServer(g, NewKeys(s.Keys))
	agentv1.RegisterAgentServiceServer(g, NewAgents(s.Agents))
	walletv1.RegisterWalletServiceServer(g, NewWallets(s.Wallets))
	controlplanev1.RegisterAdminServiceServer(g, NewAdmin(s.Tenants, s.Keys))
	controlplanev1.RegisterToolServiceServer(g, NewTools(s.Tools))
}
