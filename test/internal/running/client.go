package running

import (
	"context"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	agentv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/agent/v1"
	auditv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/audit/v1"
	controlplanev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/controlplane/v1"
	costv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/cost/v1"
	envelopev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/envelope/v1"
	eventstorev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/eventstore/v1"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	pricingv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/pricing/v1"
	tenantv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/tenant/v1"
	walletv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/wallet/v1"
)

// Client speaks native gRPC with one credential.
type Client struct {
	Key  string // "" shows none
	Conn *grpc.ClientConn

	Admin      controlplanev1.AdminServiceClient
	Agents     agentv1.AgentServiceClient
	Audit      auditv1.AuditServiceClient
	Costs      costv1.CostServiceClient
	Envelopes  envelopev1.EnvelopeServiceClient
	Events     eventstorev1.EventStoreServiceClient
	Governance governancev1.GovernanceServiceClient
	Policies   policyv1.PolicyServiceClient
	Prices     pricingv1.PriceServiceClient
	Keys       tenantv1.TenantServiceClient
	Wallets    walletv1.WalletServiceClient
}

// Client returns a client that is closed when the test ends. It finds the stack
// again after a restart.
func (s *Stack) Client(t testing.TB, key string) *Client {
	t.Helper()
	o := []grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 1.5, MaxDelay: 300 * time.Millisecond},
			MinConnectTimeout: time.Second,
		}),
	}
	if key != "" {
		o = append(o, grpc.WithPerRPCCredentials(shown(key)))
	}
	conn, err := grpc.NewClient(s.GRPCAddr, o...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &Client{
		Key: key, Conn: conn,
		Admin:      controlplanev1.NewAdminServiceClient(conn),
		Agents:     agentv1.NewAgentServiceClient(conn),
		Audit:      auditv1.NewAuditServiceClient(conn),
		Costs:      costv1.NewCostServiceClient(conn),
		Envelopes:  envelopev1.NewEnvelopeServiceClient(conn),
		Events:     eventstorev1.NewEventStoreServiceClient(conn),
		Governance: governancev1.NewGovernanceServiceClient(conn),
		Policies:   policyv1.NewPolicyServiceClient(conn),
		Prices:     pricingv1.NewPriceServiceClient(conn),
		Keys:       tenantv1.NewTenantServiceClient(conn),
		Wallets:    walletv1.NewWalletServiceClient(conn),
	}
}

// shown is a key in the metadata, the way the published clients send it.
type shown string

func (k shown) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"x-api-key": string(k)}, nil
}

func (shown) RequireTransportSecurity() bool { return false }

// Reason is the ErrorInfo's reason of a refusal, "" if it has none.
func Reason(err error) string {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			return info.GetReason()
		}
	}
	return ""
}
