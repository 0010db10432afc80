package door

import (
	"context"
	"strings"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/fulcrum-io/fulcrum/services/gateway/internal/credential"
)

// Authenticate is rpc.ServerOptions.Authenticate: the credential is in the
// call's metadata.
func (g *Guard) Authenticate(ctx context.Context, method string) (context.Context, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	if admitsItself(method) {
		return metadata.NewIncomingContext(ctx, outside(md)), nil
	}
	shown, err := credential.Find(md.Get("authorization"), md.Get("x-api-key"))
	ctx, err = g.Admit(ctx, method, shown, err)
	if err != nil {
		return nil, err
	}
	return metadata.NewIncomingContext(ctx, outside(md)), nil
}

// admitsItself reports whether a method asks the Guard by itself, because its
// caller's credential is inside the request: a proxy speaks for an agent.
func admitsItself(method string) bool { return method == authv3.Authorization_Check_FullMethodName }

// outside is metadata without what only our own services may say, and without
// the credential, which nobody needs any more.
func outside(md metadata.MD) metadata.MD {
	out := make(metadata.MD, len(md))
	for k, v := range md {
		if !Ours(k) && k != "authorization" && k != "x-api-key" {
			out[k] = v
		}
	}
	return out
}

// Ours reports whether a header is only for our own services to send.
func Ours(name string) bool {
	name = strings.ReplaceAll(strings.ToLower(name), "_", "-")
	for _, prefix := range []string{"fulcrum-", "x-fulcrum-", "x-tenant"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// Unary checks each request before it is validated.
func (g *Guard) Unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	if _, ok := g.routes[info.FullMethod]; !ok || admitsItself(info.FullMethod) {
		return next(ctx, req) // health and reflection
	}
	if err := Check(ctx, req); err != nil {
		return nil, err
	}
	return next(ctx, req)
}

// Stream checks each message of a stream before it is validated.
func (g *Guard) Stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	if _, ok := g.routes[info.FullMethod]; !ok {
		return next(srv, ss) // health and reflection
	}
	return next(srv, checked{ss})
}

type checked struct{ grpc.ServerStream }

func (c checked) RecvMsg(m any) error {
	if err := c.ServerStream.RecvMsg(m); err != nil {
		return err
	}
	return Check(c.Context(), m)
}
