package wire_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/fulcrum-io/fulcrum/pkg/bench/wire"
)

const echo = "/test.Echo/Echo"

// echoes is a server that answers with what it was asked, as do says.
func echoes(t *testing.T, do func(ctx context.Context, in *wrapperspb.BytesValue) (*wrapperspb.BytesValue, error)) (*grpc.Server, *wire.Client) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer(grpc.MaxConcurrentStreams(20))
	s.RegisterService(&grpc.ServiceDesc{
		ServiceName: "test.Echo", HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "Echo", Handler: func(_ any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			in := new(wrapperspb.BytesValue)
			if err := decode(in); err != nil {
				return nil, err
			}
			return do(ctx, in)
		}}},
	}, struct{}{})
	go func() { _ = s.Serve(ln) }()
	t.Cleanup(s.Stop)
	c, err := wire.Dial(t.Context(), ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return s, c
}

func same(_ context.Context, in *wrapperspb.BytesValue) (*wrapperspb.BytesValue, error) {
	return in, nil
}

// call waits for the answer, which must come once.
func call(t *testing.T, c *wire.Client, m *wire.Method, payload []byte) ([]byte, error) {
	t.Helper()
	request, err := proto.Marshal(wrapperspb.Bytes(payload))
	if err != nil {
		t.Fatal(err)
	}
	type answer struct {
		reply []byte
		err   error
	}
	answers := make(chan answer, 2)
	c.Call(m, request, func(reply []byte, err error) { answers <- answer{reply, err} })
	select {
	case a := <-answers:
		var out wrapperspb.BytesValue
		if a.err == nil {
			a.err = proto.Unmarshal(a.reply, &out)
		}
		return out.GetValue(), a.err
	case <-time.After(30 * time.Second):
		t.Fatal("no answer")
	}
	return nil, nil
}

func TestEachCallGetsItsOwnAnswerThoughTheServerTakesFewAtATime(t *testing.T) {
	t.Parallel()
	_, c := echoes(t, same)
	m := c.NewMethod(echo)
	var all sync.WaitGroup
	for n := range 2000 {
		all.Go(func() {
			want := bytes.Repeat(fmt.Append(nil, n, " "), 1+n%2500) // up to what fits, and more in all than a connection's window
			if got, err := call(t, c, m, want); err != nil || !bytes.Equal(got, want) {
				t.Errorf("call %d: %d bytes of %d, %v", n, len(got), len(want), err)
			}
		})
	}
	all.Wait()
}

func TestMetadataComesThrough(t *testing.T) {
	t.Parallel()
	_, c := echoes(t, func(ctx context.Context, _ *wrapperspb.BytesValue) (*wrapperspb.BytesValue, error) {
		md, _ := metadata.FromIncomingContext(ctx)
		_, limited := ctx.Deadline()
		return wrapperspb.Bytes(fmt.Append(nil, md.Get("who-bin"), md.Get("what"), limited)), nil
	})
	got, err := call(t, c, c.NewMethod(echo, "who-bin", "AAE", "what", "this"), nil)
	if want := "[\x00\x01] [this] true"; err != nil || string(got) != want {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
}

func TestAReplyLargerThanAFrameIsWhole(t *testing.T) {
	t.Parallel()
	large := bytes.Repeat([]byte("0123456789"), 300_000)
	_, c := echoes(t, func(context.Context, *wrapperspb.BytesValue) (*wrapperspb.BytesValue, error) {
		return wrapperspb.Bytes(large), nil
	})
	got, err := call(t, c, c.NewMethod(echo), nil)
	if err != nil || !bytes.Equal(got, large) {
		t.Errorf("%d bytes of %d, %v", len(got), len(large), err)
	}
}

func TestFailuresAreTold(t *testing.T) {
	t.Parallel()
	_, c := echoes(t, func(context.Context, *wrapperspb.BytesValue) (*wrapperspb.BytesValue, error) {
		return nil, status.Error(codes.ResourceExhausted, "too many")
	})
	for _, tt := range []struct {
		name, method string
		payload      int
		want         string
	}{
		{"a status", echo, 1, "status 8: too many"},
		{"an unknown method", "/test.Echo/Other", 1, "status 12"},
		{"a request that does not fit", echo, 16 << 10, "does not fit"},
	} {
		if _, err := call(t, c, c.NewMethod(tt.method), make([]byte, tt.payload)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}

func TestCallsEndWithTheirConnection(t *testing.T) {
	t.Parallel()
	for _, end := range []struct {
		name string
		by   func(s *grpc.Server, c *wire.Client)
	}{
		{"the server stops", func(s *grpc.Server, _ *wire.Client) { s.Stop() }},
		{"the client closes", func(_ *grpc.Server, c *wire.Client) { _ = c.Close() }},
	} {
		t.Run(end.name, func(t *testing.T) {
			t.Parallel()
			const calls = 50 // of which 20 are with the server
			begun := make(chan struct{}, calls)
			s, c := echoes(t, func(ctx context.Context, _ *wrapperspb.BytesValue) (*wrapperspb.BytesValue, error) {
				begun <- struct{}{}
				<-ctx.Done()
				return nil, ctx.Err()
			})
			m := c.NewMethod(echo)
			failed := make(chan error, 2*calls)
			for range calls {
				c.Call(m, nil, func(_ []byte, err error) { failed <- err })
			}
			for range 20 {
				<-begun
			}
			end.by(s, c)
			for range calls {
				if err := <-failed; !errors.Is(err, wire.ErrEnded) {
					t.Errorf("a call: %v", err)
				}
			}
			if _, err := call(t, c, m, nil); !errors.Is(err, wire.ErrEnded) {
				t.Errorf("a call after the end: %v", err)
			}
		})
	}
}
