package rpc

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	"github.com/fulcrum-io/fulcrum/pkg/secret"
	"github.com/fulcrum-io/fulcrum/pkg/telemetry"
)

// DialOptions shape a connection to another service.
type DialOptions struct {
	InternalToken secret.Secret        // required beyond loopback, unless Public
	Telemetry     *telemetry.Telemetry // nil: none

	// Public is for clients of the front door: neither principal nor token is
	// sent. Credentials such as an API key go into Extra.
	Public bool

	TLS        *tls.Config   // nil: plain text, for private networks
	Timeout    time.Duration // of unary calls whose context has no deadline; 10 s
	MaxMessage int           // bytes in either direction; MaxMessage
	Extra      []grpc.DialOption
}

// retries asks for up to three attempts while a peer is unavailable, and gives
// up retrying as a whole when half of the calls fail. Every call of ours that
// changes something carries an idempotency key, so an attempt whose answer was
// lost may be repeated.
const retries = `{
	"loadBalancingConfig": [{"round_robin": {}}],
	"retryThrottling": {"maxTokens": 100, "tokenRatio": 0.5},
	"methodConfig": [{
		"name": [{}],
		"retryPolicy": {
			"maxAttempts": 3,
			"initialBackoff": "0.02s",
			"maxBackoff": "0.2s",
			"backoffMultiplier": 3,
			"retryableStatusCodes": ["UNAVAILABLE"]
		}
	}]
}`

// Dial returns a connection to addr that connects when first used. Calls on it
// carry the identity in their context, and the errors they return are faults
// again: errors.Is(err, fault.NotFound) holds, returning err passes it on
// unchanged, and status.Code(err) does not work.
func Dial(addr string, o DialOptions) (*grpc.ClientConn, error) {
	if !o.Public {
		if err := RequireInternalToken(addr, o.InternalToken); err != nil {
			return nil, fmt.Errorf("dial %s: %w", addr, err)
		}
	}
	transport := insecure.NewCredentials()
	if o.TLS != nil {
		transport = credentials.NewTLS(o.TLS)
	}
	c := caller{token: o.InternalToken, public: o.Public, timeout: cmp.Or(o.Timeout, 10*time.Second)}
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(transport),
		grpc.WithChainUnaryInterceptor(c.unary),
		grpc.WithChainStreamInterceptor(c.stream),
		grpc.WithDefaultServiceConfig(retries),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second, PermitWithoutStream: true}),
		grpc.WithDefaultCallOptions(
			grpc.MaxCallRecvMsgSize(cmp.Or(o.MaxMessage, MaxMessage)),
			grpc.MaxCallSendMsgSize(cmp.Or(o.MaxMessage, MaxMessage))),
	}
	if o.Telemetry != nil { // one that records nothing still costs a tenth of a short call
		options = append(options, grpc.WithStatsHandler(o.Telemetry.GRPCClient()))
	}
	conn, err := grpc.NewClient(addr, append(options, o.Extra...)...)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", addr, err)
	}
	return conn, nil
}

// caller is the client's side of the interceptors.
type caller struct {
	token   secret.Secret
	public  bool
	timeout time.Duration
}

func (c caller) prepare(ctx context.Context) (context.Context, error) {
	if c.public {
		return ctx, nil
	}
	return outgoing(ctx, c.token)
}

func (c caller) unary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, next grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	ctx, err := c.prepare(ctx)
	if err != nil {
		return err
	}
	if _, limited := ctx.Deadline(); !limited {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.timeout)
		defer cancel()
	}
	return FromStatus(next(ctx, method, req, reply, cc, opts...))
}

func (c caller) stream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, next grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	ctx, err := c.prepare(ctx)
	if err != nil {
		return nil, err
	}
	cs, err := next(ctx, desc, cc, method, opts...)
	if err != nil {
		return nil, FromStatus(err)
	}
	return clientStream{cs}, nil
}

// clientStream restores faults in what a stream returns. io.EOF stays itself.
type clientStream struct{ grpc.ClientStream }

func (s clientStream) RecvMsg(m any) error { return FromStatus(s.ClientStream.RecvMsg(m)) }
func (s clientStream) SendMsg(m any) error { return FromStatus(s.ClientStream.SendMsg(m)) }
