package demo

import (
	"context"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/fulcrum-io/fulcrum/pkg/secret"
	agentv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/agent/v1"
	auditv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/audit/v1"
	controlplanev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/controlplane/v1"
	costv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/cost/v1"
	envelopev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/envelope/v1"
	eventstorev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/eventstore/v1"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
)

// client speaks to the gateway's public door with one credential, as an
// outside program would: it knows the protos and nothing else of Fulcrum.
type client struct {
	conn *grpc.ClientConn

	admin      controlplanev1.AdminServiceClient
	agents     agentv1.AgentServiceClient
	audit      auditv1.AuditServiceClient
	costs      costv1.CostServiceClient
	envelopes  envelopev1.EnvelopeServiceClient
	events     eventstorev1.EventStoreServiceClient
	governance governancev1.GovernanceServiceClient
	policies   policyv1.PolicyServiceClient
}

func dial(addr string, key secret.Secret) (*client, error) {
	conn, err := grpc.NewClient(addr,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithPerRPCCredentials(bearer{key}))
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", addr, err)
	}
	return &client{
		conn:       conn,
		admin:      controlplanev1.NewAdminServiceClient(conn),
		agents:     agentv1.NewAgentServiceClient(conn),
		audit:      auditv1.NewAuditServiceClient(conn),
		costs:      costv1.NewCostServiceClient(conn),
		envelopes:  envelopev1.NewEnvelopeServiceClient(conn),
		events:     eventstorev1.NewEventStoreServiceClient(conn),
		governance: governancev1.NewGovernanceServiceClient(conn),
		policies:   policyv1.NewPolicyServiceClient(conn),
	}, nil
}

func (c *client) close() { _ = c.conn.Close() }

// bearer sends the key on every call. The demo's door is on loopback, so it
// does not insist on TLS.
type bearer struct{ key secret.Secret }

func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + b.key.Reveal()}, nil
}

func (bearer) RequireTransportSecurity() bool { return false }
