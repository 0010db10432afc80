package e2e

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/fulcrum-io/fulcrum/test/internal/door"
)

// Without a credential there is nothing to be had at any door, but the news
// that we are there and what we speak.
func TestAnonymousIsRefusedEverywhere(t *testing.T) {
	t.Parallel()
	conn := stack.Client(t, "").Conn
	methods := served(t, conn)
	if len(methods) < 40 {
		t.Fatalf("reflection shows only %d methods", len(methods))
	}
	for _, m := range methods {
		if m.IsStreamingClient() || m.IsStreamingServer() {
			if err := openStream(t.Context(), conn, m, new(emptypb.Empty)); status.Code(err) != codes.Unauthenticated {
				t.Errorf("%s over gRPC: %v", m.FullName(), err)
			}
			continue
		}
		req, err := door.New(m.Input())
		if err != nil {
			t.Fatal(err)
		}
		address(req.ProtoReflect(), 0)
		for _, d := range doors() {
			if !d.Serves(m) {
				continue
			}
			a, err := d.Call(t.Context(), "", door.Path(m), req)
			if err != nil {
				t.Error(err)
			} else if a.Code != codes.Unauthenticated || a.Reason != "CREDENTIAL_MISSING" {
				t.Errorf("%s over %s: %s", m.FullName(), d.Name, a)
			}
		}
	}
}

// public is what anybody may call: whether we are there, and what we speak.
func public(service string) bool {
	return service == "grpc.health.v1.Health" || strings.HasPrefix(service, "grpc.reflection.") || service == envoys
}

// envoys is the door for proxies: whoever may connect may ask, the credential is
// inside the question, and every refusal is an answer. The gateway's own tests
// ask it as a proxy does.
const envoys = "envoy.service.auth.v3.Authorization"

// openStream sends one request and returns how the stream ends: nil if the
// server sent something.
func openStream(ctx context.Context, conn *grpc.ClientConn, m protoreflect.MethodDescriptor, req proto.Message) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: m.IsStreamingClient()}, door.Path(m))
	if err != nil {
		return err
	}
	if err := s.SendMsg(req); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if err := s.CloseSend(); err != nil {
		return err
	}
	return s.RecvMsg(new(emptypb.Empty))
}

// served lists the methods that server reflection shows, but the public ones.
func served(t *testing.T, conn *grpc.ClientConn) []protoreflect.MethodDescriptor {
	t.Helper()
	stream, err := grpc_reflection_v1.NewServerReflectionClient(conn).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&grpc_reflection_v1.ServerReflectionRequest{
		MessageRequest: &grpc_reflection_v1.ServerReflectionRequest_ListServices{}}); err != nil {
		t.Fatal(err)
	}
	resp, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	var methods []protoreflect.MethodDescriptor
	for _, s := range resp.GetListServicesResponse().GetService() {
		if public(s.GetName()) {
			continue
		}
		d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(s.GetName()))
		if err != nil {
			t.Fatalf("%s is served and no published contract: %v", s.GetName(), err)
		}
		list := d.(protoreflect.ServiceDescriptor).Methods()
		for i := range list.Len() {
			methods = append(methods, list.Get(i))
		}
	}
	return methods
}
