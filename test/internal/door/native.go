package door

import (
	"context"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

type caller = func(ctx context.Context, key string, m protoreflect.MethodDescriptor, req proto.Message) (Answer, error)

// nativeAt calls over HTTP/2 with the key in x-api-key, as the published
// clients do. The one connection lives as long as the tests.
func nativeAt(addr string) caller {
	dial := sync.OnceValues(func() (*grpc.ClientConn, error) {
		return grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	})
	return func(ctx context.Context, key string, m protoreflect.MethodDescriptor, req proto.Message) (Answer, error) {
		conn, err := dial()
		if err != nil {
			return Answer{}, err
		}
		if key != "" {
			ctx = metadata.AppendToOutgoingContext(ctx, "x-api-key", key)
		}
		resp, err := New(m.Output())
		if err != nil {
			return Answer{}, err
		}
		if err := conn.Invoke(ctx, Path(m), req, resp); err != nil {
			return failed(status.Convert(err).Proto()), nil
		}
		return Answer{Body: resp}, nil
	}
}
