package cli

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/rpc"
	"github.com/fulcrum-io/fulcrum/pkg/secret"
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

// client is the gateway's public door, as any outside program uses it.
type client struct {
	conn *grpc.ClientConn

	admin      controlplanev1.AdminServiceClient
	agents     agentv1.AgentServiceClient
	audit      auditv1.AuditServiceClient
	costs      costv1.CostServiceClient
	envelopes  envelopev1.EnvelopeServiceClient
	events     eventstorev1.EventStoreServiceClient
	governance governancev1.GovernanceServiceClient
	keys       tenantv1.TenantServiceClient
	oracle     brainv1.OracleServiceClient
	policies   policyv1.PolicyServiceClient
	prices     pricingv1.PriceServiceClient
	wallets    walletv1.WalletServiceClient
	books      ledgerv1.BookkeepingServiceClient
	lifecycle  lifecyclev1.PolicyLifecycleServiceClient
	webhooks   controlplanev1.WebhookServiceClient
	tools      controlplanev1.ToolServiceClient
}

// maxMessage lets a page of large audit entries through.
const maxMessage = 64 << 20

func (o *operator) dial(cmd *cobra.Command) (*client, error) {
	addr, err := o.address()
	if err != nil {
		return nil, err
	}
	key, err := o.credential()
	if err != nil {
		return nil, err
	}
	tls, err := o.transport(addr)
	if err != nil {
		return nil, err
	}
	if tls == nil && !secret.Loopback(addr) {
		o.say(cmd, "warning: the API key goes to %s unencrypted", addr)
	}
	conn, err := rpc.Dial(addr, rpc.DialOptions{
		Public: true, TLS: tls, Timeout: o.timeout, MaxMessage: maxMessage,
		Extra: []grpc.DialOption{
			grpc.WithPerRPCCredentials(bearer{key: key, secure: tls != nil}),
			grpc.WithChainUnaryInterceptor(o.patience(cmd, addr)),
			grpc.WithDisableRetry(), // a person decides whether to do something twice
		},
	})
	if err != nil {
		return nil, err
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
		keys:       tenantv1.NewTenantServiceClient(conn),
		oracle:     brainv1.NewOracleServiceClient(conn),
		policies:   policyv1.NewPolicyServiceClient(conn),
		prices:     pricingv1.NewPriceServiceClient(conn),
		wallets:    walletv1.NewWalletServiceClient(conn),
		books:      ledgerv1.NewBookkeepingServiceClient(conn),
		lifecycle:  lifecyclev1.NewPolicyLifecycleServiceClient(conn),
		webhooks:   controlplanev1.NewWebhookServiceClient(conn),
		tools:      controlplanev1.NewToolServiceClient(conn),
	}, nil
}

// bearer sends the key on every call.
type bearer struct {
	key    secret.Secret
	secure bool
}

func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + b.key.Reveal()}, nil
}

func (b bearer) RequireTransportSecurity() bool { return b.secure }

// patience says what is being waited for when a request takes long.
func (o *operator) patience(cmd *cobra.Command, addr string) grpc.UnaryClientInterceptor {
	return func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, next grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		notice := time.AfterFunc(longWait, func() { o.say(cmd, "waiting for %s …", addr) })
		defer notice.Stop()
		return next(ctx, method, req, reply, cc, opts...)
	}
}

// once names a request, so that the server does it once however often it comes.
func once(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "idempotency-key", uuid.Must(uuid.NewV7()).String())
}

// pages reads a list until it ends or limit entries are there; 0: all. more
// says that there are others.
func pages[T any](o *operator, cmd *cobra.Command, limit int, page func(token string, size int32) ([]T, string, error)) (all []T, more bool, err error) {
	p := o.pulse(cmd, "read")
	defer p.end()
	most := int32(maxPage)
	for token := ""; ; {
		size := most
		if limit > 0 {
			size = int32(min(int64(size), int64(limit-len(all))))
		}
		some, following, err := page(token, size)
		if err != nil {
			if most, err = smaller(cmd.Context(), size, err); err != nil {
				return nil, false, err
			}
			continue
		}
		all = append(all, some...)
		p.set(int64(len(all)), 0)
		if following == "" {
			return all, false, nil
		}
		if limit > 0 && len(all) >= limit {
			return all, true, nil
		}
		token = following
	}
}

// maxPage is the largest page that every list accepts.
const maxPage = 1000

// smaller is the page to try after one failed: a smaller one if that was too
// large to send, the same one after a while if we were too fast.
func smaller(ctx context.Context, page int32, err error) (int32, error) {
	f, ok := fault.As(err)
	switch {
	case !ok || f.Kind != fault.Exhausted:
		return page, err
	case f.RetryAfter > 0:
		select {
		case <-ctx.Done():
			return page, ctx.Err()
		case <-time.After(f.RetryAfter):
			return page, nil
		}
	case page == 1:
		return page, err
	}
	return max(1, page/4), nil
}

// cut says that a list was not shown whole.
func (o *operator) cut(cmd *cobra.Command, more bool, shown int) {
	if more {
		o.say(cmd, "the first %d are shown; --limit 0 shows all", shown)
	}
}
