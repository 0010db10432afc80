package web

import (
	"context"
	"net/http"
	"strings"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/rpc"
	auditv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/audit/v1"
	brainv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/brain/v1"
	controlplanev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/controlplane/v1"
	costv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/cost/v1"
	envelopev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/envelope/v1"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	ledgerv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/ledger/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	lifecyclev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policylifecycle/v1"
	pricingv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/pricing/v1"
	walletv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/wallet/v1"
)

// newREST serves /v1 over the same structs as gRPC.
func (f *front) newREST() (http.Handler, error) {
	conn := newInproc(f.around)
	f.o.Services.Register(conn)
	f.rest = restMethods(conn.services)

	mux := runtime.NewServeMux(
		runtime.WithMarshalerOption(runtime.MIMEWildcard, newMarshaler()),
		runtime.WithMiddlewares(f.admitREST),
		runtime.WithErrorHandler(f.restError),
		runtime.WithRoutingErrorHandler(f.routingError),
		// Of the headers, only the key of a create goes on; who calls is known by now.
		runtime.WithIncomingHeaderMatcher(func(key string) (string, bool) {
			return "idempotency-key", strings.EqualFold(key, "Idempotency-Key")
		}),
		runtime.WithOutgoingHeaderMatcher(func(string) (string, bool) { return "", false }),
		runtime.WithMetadata(func(context.Context, *http.Request) metadata.MD { return nil }),
		runtime.WithDisablePathLengthFallback(),
		runtime.WithDisableHTTPMethodOverride(),
	)
	ctx := context.Background() // of the registration, which dials nothing
	for _, register := range []func(context.Context, *runtime.ServeMux, grpc.ClientConnInterface) error{
		func(ctx context.Context, m *runtime.ServeMux, c grpc.ClientConnInterface) error {
			return governancev1.RegisterGovernanceServiceHandlerClient(ctx, m, governancev1.NewGovernanceServiceClient(c))
		},
		func(ctx context.Context, m *runtime.ServeMux, c grpc.ClientConnInterface) error {
			return envelopev1.RegisterEnvelopeServiceHandlerClient(ctx, m, envelopev1.NewEnvelopeServiceClient(c))
		},
		func(ctx context.Context, m *runtime.ServeMux, c grpc.ClientConnInterface) error {
			return policyv1.RegisterPolicyServiceHandlerClient(ctx, m, policyv1.NewPolicyServiceClient(c))
		},
		func(ctx context.Context, m *runtime.ServeMux, c grpc.ClientConnInterface) error {
			return lifecyclev1.RegisterPolicyLifecycleServiceHandlerClient(ctx, m, lifecyclev1.NewPolicyLifecycleServiceClient(c))
		},
		func(ctx context.Context, m *runtime.ServeMux, c grpc.ClientConnInterface) error {
			return costv1.RegisterCostServiceHandlerClient(ctx, m, costv1.NewCostServiceClient(c))
		},
		func(ctx context.Context, m *runtime.ServeMux, c grpc.ClientConnInterface) error {
			return pricingv1.RegisterPriceServiceHandlerClient(ctx, m, pricingv1.NewPriceServiceClient(c))
		},
		func(ctx context.Context, m *runtime.ServeMux, c grpc.ClientConnInterface) error {
			return brainv1.RegisterOracleServiceHandlerClient(ctx, m, brainv1.NewOracleServiceClient(c))
		},
		func(ctx context.Context, m *runtime.ServeMux, c grpc.ClientConnInterface) error {
			return auditv1.RegisterAuditServiceHandlerClient(ctx, m, auditv1.NewAuditServiceClient(c))
		},
		func(ctx context.Context, m *runtime.ServeMux, c grpc.ClientConnInterface) error {
			return walletv1.RegisterWalletServiceHandlerClient(ctx, m, walletv1.NewWalletServiceClient(c))
		},
		func(ctx context.Context, m *runtime.ServeMux, c grpc.ClientConnInterface) error {
			return ledgerv1.RegisterBookkeepingServiceHandlerClient(ctx, m, ledgerv1.NewBookkeepingServiceClient(c))
		},
		func(ctx context.Context, m *runtime.ServeMux, c grpc.ClientConnInterface) error {
			return controlplanev1.RegisterAdminServiceHandlerClient(ctx, m, controlplanev1.NewAdminServiceClient(c))
		},
		func(ctx context.Context, m *runtime.ServeMux, c grpc.ClientConnInterface) error {
			return controlplanev1.RegisterToolServiceHandlerClient(ctx, m, controlplanev1.NewToolServiceClient(c))
		},
		func(ctx context.Context, m *runtime.ServeMux, c grpc.ClientConnInterface) error {
			return brainv1.RegisterImmuneSystemServiceHandlerClient(ctx, m, brainv1.NewImmuneSystemServiceClient(c))
		},
		func(ctx context.Context, m *runtime.ServeMux, c grpc.ClientConnInterface) error {
			return controlplanev1.RegisterWebhookServiceHandlerClient(ctx, m, controlplanev1.NewWebhookServiceClient(c))
		},
		func(ctx context.Context, m *runtime.ServeMux, c grpc.ClientConnInterface) error {
			return brainv1.RegisterSemanticJudgeServiceHandlerClient(ctx, m, brainv1.NewSemanticJudgeServiceClient(c))
		},
	} {
		if err := register(ctx, mux, conn); err != nil {
			return nil, err
		}
	}
	return mux, nil
}

// admitREST lets a call in once it is known which rpc it is, before anything of
// its body is read.
func (f *front) admitREST(next runtime.HandlerFunc) runtime.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request, params map[string]string) {
		pattern, _ := runtime.HTTPPattern(r.Context())
		method := f.rest[r.Method+" "+pattern.String()]
		ctx, err := f.admit(r, method)
		if err != nil {
			f.problem(w, r, method, err)
			return
		}
		r = r.WithContext(ctx)
		if method == policyv1.PolicyService_CreatePolicy_FullMethodName && f.policyForm(w, r) {
			return
		}
		next(w, r, params)
	}
}

// restError answers a REST call that failed.
func (f *front) restError(_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, r *http.Request, err error) {
	pattern, _ := runtime.HTTPPattern(r.Context())
	method := f.rest[r.Method+" "+pattern.String()]
	if _, ours := fault.As(err); !ours {
		if s, ok := status.FromError(err); ok && s.Code() == codes.InvalidArgument {
			err = f.unreadable(r, s.Message()) // the door's own complaint about body or query
		}
	}
	f.problem(w, r, method, err)
}

// unreadable explains why a request could not be read.
func (f *front) unreadable(r *http.Request, text string) error {
	if tooLarge(r) {
		return errTooLarge
	}
	return unreadable(text)
}

// routingError answers a call to a path that is not there.
func (f *front) routingError(_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, r *http.Request, code int) {
	f.noRoute(w, r, code)
}

func (f *front) noRoute(w http.ResponseWriter, r *http.Request, code int) {
	err := fault.New(fault.NotFound, "there is nothing at %s", clip(r.URL.Path, 200)).WithReason("ROUTE_NOT_FOUND")
	switch code {
	case http.StatusMethodNotAllowed:
		err = fault.New(fault.NotFound, "%s cannot be used with %s", clip(r.URL.Path, 200), clip(r.Method, 20)).WithReason("METHOD_NOT_ALLOWED")
		p := rpc.ProblemOf(err)
		p.Status, p.Title = code, http.StatusText(code)
		writeProblem(w, r, p)
		return
	case http.StatusBadRequest:
		err = fault.New(fault.Invalid, "the path is malformed").WithReason("PATH_MALFORMED")
	}
	rpc.WriteProblem(w, r, err)
}
