package rpc

import (
	"cmp"
	"context"
	"crypto/tls"
	"log/slog"
	"runtime"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"

	"github.com/fulcrum-io/fulcrum/pkg/secret"
	"github.com/fulcrum-io/fulcrum/pkg/telemetry"
)

// MaxMessage is the largest message sent or received unless options say
// otherwise.
const MaxMessage = 4 << 20

// ServerOptions shape a Server. Log is required.
type ServerOptions struct {
	Log           *slog.Logger
	InternalToken secret.Secret        // required to serve beyond loopback, unless Authenticate is set
	Telemetry     *telemetry.Telemetry // nil: none

	// Authenticate replaces the internal token: the front door's own way to
	// know its callers. It returns the context for the call, with an
	// identity.Principal in it, or a fault. Health and reflection are not asked.
	Authenticate func(ctx context.Context, fullMethod string) (context.Context, error)

	// Unary and Stream run after authentication and before validation: the
	// place for rate limits.
	Unary  []grpc.UnaryServerInterceptor
	Stream []grpc.StreamServerInterceptor

	TLS        *tls.Config // nil: plain text, for private networks
	Reflection bool
	MaxMessage int    // bytes in either direction; MaxMessage
	MaxStreams uint32 // calls in flight on one connection; 1000
}

// Server is a grpc.Server with what all services share: recovery, telemetry,
// errors, authentication, validation and health.
type Server struct {
	grpc     *grpc.Server
	health   *health.Server
	token    secret.Secret
	internal bool
	draining chan struct{} // closed by Serve when it stops taking calls
}

// NewServer returns a Server that is not serving yet, and reports so until
// Watch finds its checks passing.
//
// A call passes, outermost first: recovery from panics, telemetry, the error
// map, authentication, the interceptors of o, validation, the handler. So
// somebody who is not let in learns nothing about what a valid request is.
func NewServer(o ServerOptions) *Server {
	s := &Server{
		health:   health.NewServer(),
		token:    o.InternalToken,
		internal: o.Authenticate == nil,
		draining: make(chan struct{}),
	}
	authenticate := o.Authenticate
	if s.internal {
		authenticate = internalCaller(o.InternalToken)
	}
	unary := []grpc.UnaryServerInterceptor{recoverUnary(o.Log), errorsUnary(o.Log), authenticateUnary(authenticate)}
	unary = append(append(unary, o.Unary...), validateUnary)
	stream := []grpc.StreamServerInterceptor{recoverStream(o.Log), errorsStream(o.Log), s.authenticateStream(authenticate)}
	stream = append(append(stream, o.Stream...), validateStream)

	options := []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(unary...),
		grpc.ChainStreamInterceptor(stream...),
		grpc.StatsHandler(o.Telemetry.GRPCServer()),
		grpc.MaxRecvMsgSize(cmp.Or(o.MaxMessage, MaxMessage)),
		grpc.MaxSendMsgSize(cmp.Or(o.MaxMessage, MaxMessage)),
		// A call on a new goroutine grows its stack several times over, which cost a
		// tenth of a short call. When all of these are taken there is a new one as
		// before; calls that wait for a commit take many.
		grpc.NumStreamWorkers(uint32(32 * runtime.GOMAXPROCS(0))),
		grpc.MaxConcurrentStreams(cmp.Or(o.MaxStreams, 1000)),
		grpc.MaxHeaderListSize(16 << 10),
		grpc.ConnectionTimeout(10 * time.Second),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: time.Minute, Timeout: 20 * time.Second}),
	}
	if o.TLS != nil {
		options = append(options, grpc.Creds(credentials.NewTLS(o.TLS)))
	}
	s.grpc = grpc.NewServer(options...)
	s.health.SetServingStatus("", healthpb.HealthCheckResponse_NOT_SERVING)
	healthpb.RegisterHealthServer(s.grpc, s.health)
	if o.Reflection {
		reflection.Register(s.grpc)
	}
	return s
}

// GRPC is where services are registered.
func (s *Server) GRPC() *grpc.Server { return s.grpc }

// Health is what Watch keeps truthful.
func (s *Server) Health() *health.Server { return s.health }
