package web

import (
	"context"
	"errors"
	"net/http"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/fulcrum-io/fulcrum/pkg/rpc"
	agentv1connect "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/agent/v1/agentv1connect"
	auditv1connect "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/audit/v1/auditv1connect"
	brainv1connect "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/brain/v1/brainv1connect"
	controlplanev1connect "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/controlplane/v1/controlplanev1connect"
	costv1connect "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/cost/v1/costv1connect"
	envelopev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/envelope/v1"
	envelopev1connect "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/envelope/v1/envelopev1connect"
	eventstorev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/eventstore/v1"
	eventstorev1connect "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/eventstore/v1/eventstorev1connect"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	governancev1connect "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1/governancev1connect"
	ledgerv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/ledger/v1"
	ledgerv1connect "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/ledger/v1/ledgerv1connect"
	policyv1connect "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1/policyv1connect"
	lifecyclev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policylifecycle/v1"
	lifecyclev1connect "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policylifecycle/v1/policylifecyclev1connect"
	pricingv1connect "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/pricing/v1/pricingv1connect"
	tenantv1connect "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/tenant/v1/tenantv1connect"
	walletv1connect "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/wallet/v1/walletv1connect"

	"github.com/fulcrum-io/fulcrum/services/gateway/internal/api"
)

// mountConnect serves Connect, gRPC-Web and gRPC over HTTP at the rpc's paths.
func (f *front) mountConnect(mux *http.ServeMux) {
	opts := []connect.HandlerOption{
		connect.WithInterceptors(f.connectInterceptor()),
		connect.WithReadMaxBytes(rpc.MaxMessage),
		connect.WithSendMaxBytes(rpc.MaxMessage),
		connect.WithCodec(strictCodec{"json"}),
		connect.WithCodec(strictCodec{"json; charset=utf-8"}),
		connect.WithRecover(func(ctx context.Context, s connect.Spec, _ http.Header, p any) error {
			return f.panicked(ctx, s.Procedure, p)
		}),
	}
	writer := connect.NewErrorWriter(opts...)
	s := f.o.Services
	mount := func(path string, h http.Handler) { mux.Handle(path, f.admitConnect(writer, h)) }
	mount(governancev1connect.NewGovernanceServiceHandler(connectGovernance{s.Governance}, opts...))
	mount(envelopev1connect.NewEnvelopeServiceHandler(connectEnvelopes{s.Envelopes}, opts...))
	mount(eventstorev1connect.NewEventStoreServiceHandler(connectEvents{s.Events}, opts...))
	mount(policyv1connect.NewPolicyServiceHandler(s.Policies, opts...))
	mount(lifecyclev1connect.NewPolicyLifecycleServiceHandler(connectLifecycle{s.Lifecycle}, opts...))
	mount(costv1connect.NewCostServiceHandler(s.Cost, opts...))
	mount(pricingv1connect.NewPriceServiceHandler(s.Prices, opts...))
	mount(brainv1connect.NewOracleServiceHandler(s.Oracle, opts...))
	mount(tenantv1connect.NewTenantServiceHandler(s.Tenant, opts...))
	mount(agentv1connect.NewAgentServiceHandler(s.Agents, opts...))
	mount(auditv1connect.NewAuditServiceHandler(s.Audit, opts...))
	mount(walletv1connect.NewWalletServiceHandler(s.Wallets, opts...))
	mount(ledgerv1connect.NewBookkeepingServiceHandler(connectBooks{s.Books}, opts...))
	mount(controlplanev1connect.NewAdminServiceHandler(s.Admin, opts...))
	mount(controlplanev1connect.NewToolServiceHandler(s.Tools, opts...))
	mount(brainv1connect.NewImmuneSystemServiceHandler(s.Immune, opts...))
	mount(controlplanev1connect.NewWebhookServiceHandler(s.Webhooks, opts...))
	mount(brainv1connect.NewSemanticJudgeServiceHandler(s.Judge, opts...))
}

// Streams are all that differs between the doors.
type connectGovernance struct{ *api.Governance }

func (s connectGovernance) WaitForApproval(ctx context.Context, req *governancev1.WaitForApprovalRequest, out *connect.ServerStream[governancev1.WaitForApprovalResponse]) error {
	return s.Governance.Wait(ctx, req, out.Send)
}

type connectEnvelopes struct{ *api.Envelopes }

func (s connectEnvelopes) WatchEnvelope(ctx context.Context, req *envelopev1.WatchEnvelopeRequest, out *connect.ServerStream[envelopev1.WatchEnvelopeResponse]) error {
	return s.Envelopes.Watch(ctx, req, out.Send)
}

type connectLifecycle struct{ *api.Lifecycle }

func (s connectLifecycle) SimulatePolicies(ctx context.Context, req *lifecyclev1.SimulatePoliciesRequest, out *connect.ServerStream[lifecyclev1.SimulatePoliciesResponse]) error {
	return s.Lifecycle.Simulate(ctx, req, out.Send)
}

type connectEvents struct{ *api.Events }

func (s connectEvents) StreamEvents(ctx context.Context, req *eventstorev1.StreamEventsRequest, out *connect.ServerStream[eventstorev1.StreamEventsResponse]) error {
	return s.Events.Stream(ctx, req, out.Send)
}

type connectBooks struct{ *api.Books }

func (s connectBooks) ExportEntries(ctx context.Context, req *ledgerv1.ExportEntriesRequest, out *connect.ServerStream[ledgerv1.ExportEntriesResponse]) error {
	return s.Export(ctx, req, out.Send)
}

// admitConnect lets a call in before anything of its body is read.
func (f *front) admitConnect(writer *connect.ErrorWriter, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, err := f.admit(r, r.URL.Path)
		if err == nil {
			next.ServeHTTP(w, r.WithContext(ctx))
			return
		}
		rpc.LogFailure(r.Context(), f.o.Log, r.URL.Path, err)
		if !writer.IsSupported(r) {
			rpc.WriteProblem(w, r, err)
			return
		}
		_ = writer.Write(w, r, connectError(err)) // fails when the client is gone
	})
}

// connectInterceptor checks, validates, and turns faults into Connect's errors.
func (f *front) connectInterceptor() connect.Interceptor { return interceptor{f} }

type interceptor struct{ f *front }

func (i interceptor) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		err := i.f.check(ctx, req.Any())
		if err == nil {
			var resp connect.AnyResponse
			if resp, err = next(ctx, req); err == nil {
				return resp, nil
			}
		}
		return nil, i.failed(ctx, req.Spec().Procedure, err)
	}
}

func (i interceptor) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

func (i interceptor) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, conn connect.StreamingHandlerConn) error {
		if err := next(ctx, checkedConn{conn, ctx, i.f}); err != nil {
			return i.failed(ctx, conn.Spec().Procedure, err)
		}
		return nil
	}
}

// failed logs a failure and dresses it for the wire.
func (i interceptor) failed(ctx context.Context, procedure string, err error) error {
	rpc.LogFailure(ctx, i.f.o.Log, procedure, err)
	return connectError(err)
}

// checkedConn checks each message of a stream.
type checkedConn struct {
	connect.StreamingHandlerConn
	ctx context.Context
	f   *front
}

func (c checkedConn) Receive(m any) error {
	if err := c.StreamingHandlerConn.Receive(m); err != nil {
		return err
	}
	return c.f.check(c.ctx, m)
}

// connectError is what a Connect client learns of err: as much as a gRPC client.
func connectError(err error) *connect.Error {
	if already, ok := errors.AsType[*connect.Error](err); ok {
		return already // the protocol's own: a body that cannot be read, a message too large
	}
	s := rpc.ToStatus(err)
	out := connect.NewError(connect.Code(s.Code()), errors.New(s.Message()))
	for _, detail := range s.Details() {
		m, ok := detail.(proto.Message)
		if !ok {
			continue
		}
		if d, err := connect.NewErrorDetail(m); err == nil {
			out.AddDetail(d)
		}
		if retry, ok := m.(*errdetails.RetryInfo); ok {
			out.Meta().Set("Retry-After", seconds(retry.GetRetryDelay().AsDuration()))
		}
	}
	return out
}

// strictCodec is Connect's JSON, read as strictly as REST's.
type strictCodec struct{ name string }

func (c strictCodec) Name() string { return c.name }

func (c strictCodec) Marshal(v any) ([]byte, error) {
	m, ok := v.(proto.Message)
	if !ok {
		return nil, errors.New("not a protobuf message")
	}
	return protojson.Marshal(m)
}

func (c strictCodec) Unmarshal(body []byte, v any) error {
	m, ok := v.(proto.Message)
	if !ok {
		return errors.New("not a protobuf message")
	}
	if len(body) == 0 {
		return errors.New("zero-length payload is not a valid JSON object")
	}
	return strict.Unmarshal(body, m)
}
