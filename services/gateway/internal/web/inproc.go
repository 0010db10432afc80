package web

import (
	"context"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// inproc is a gRPC connection that ends in this process: REST calls go through
// it to the very structs that serve gRPC, with one interceptor around all of
// them. It carries no metadata; the caller's identity is in the context.
type inproc struct {
	around   grpc.UnaryServerInterceptor
	services []string
	methods  map[string]method
}

type method struct {
	desc grpc.MethodDesc
	impl any
}

func newInproc(around grpc.UnaryServerInterceptor) *inproc {
	return &inproc{around: around, methods: make(map[string]method)}
}

// RegisterService implements grpc.ServiceRegistrar.
func (c *inproc) RegisterService(desc *grpc.ServiceDesc, impl any) {
	c.services = append(c.services, desc.ServiceName)
	for _, m := range desc.Methods {
		c.methods["/"+desc.ServiceName+"/"+m.MethodName] = method{m, impl}
	}
}

// Invoke implements grpc.ClientConnInterface.
func (c *inproc) Invoke(ctx context.Context, name string, args, reply any, _ ...grpc.CallOption) error {
	m, ok := c.methods[name]
	if !ok {
		return status.Error(codes.Unimplemented, "not implemented")
	}
	// The decoder hands over what was parsed already. The message is the door's
	// own, made for this call, so nobody minds that it is shared.
	decode := func(into any) error { return move(into, args) }
	resp, err := m.desc.Handler(m.impl, ctx, decode, c.around)
	if err != nil {
		return err
	}
	return move(reply, resp)
}

// NewStream implements grpc.ClientConnInterface: REST has no streams.
func (c *inproc) NewStream(context.Context, *grpc.StreamDesc, string, ...grpc.CallOption) (grpc.ClientStream, error) {
	return nil, status.Error(codes.Unimplemented, "not implemented")
}

func move(into, from any) error {
	dst, ok := into.(proto.Message)
	src, ok2 := from.(proto.Message)
	if !ok || !ok2 {
		return fmt.Errorf("hand over %T as %T", from, into)
	}
	proto.Merge(dst, src)
	return nil
}
