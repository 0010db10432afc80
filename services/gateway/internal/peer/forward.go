package peer

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/fulcrum-io/fulcrum/pkg/rpc"
)

// Forward returns a connection whose answers are passed on to callers: what the
// peer does not serve is not served here, rather than broken.
func Forward(conn grpc.ClientConnInterface) grpc.ClientConnInterface { return forward{conn} }

type forward struct{ to grpc.ClientConnInterface }

func (f forward) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	return unserved(f.to.Invoke(ctx, method, args, reply, opts...))
}

func (f forward) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	stream, err := f.to.NewStream(ctx, desc, method, opts...)
	if err != nil {
		return nil, unserved(err)
	}
	return forwardStream{stream}, nil
}

type forwardStream struct{ grpc.ClientStream }

func (s forwardStream) RecvMsg(m any) error { return unserved(s.ClientStream.RecvMsg(m)) }

func unserved(err error) error {
	if rpc.PeerCode(err) == codes.Unimplemented {
		return status.Error(codes.Unimplemented, "not implemented")
	}
	return err
}
