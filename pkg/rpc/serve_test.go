package rpc

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	budgetv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/budget/v1"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
)

func TestServeDrainsThenCuts(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name        string
		hold, drain time.Duration
		finishes    bool
	}{
		{"a short call finishes", 100 * time.Millisecond, time.Minute, true},
		{"a stuck call is cut", time.Minute, 100 * time.Millisecond, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			entered := make(chan struct{})
			p := answering(func(ctx context.Context) error {
				close(entered)
				select {
				case <-time.After(tt.hold):
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
			})
			srv := NewServer(ServerOptions{Log: new(record).logger()})
			budgetv1.RegisterLedgerServiceServer(srv.GRPC(), ledger{peer: p})
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			served := make(chan error, 1)
			go func() { served <- Serve(ctx, srv, ln, tt.drain) }()

			called := make(chan error, 1)
			conn := raw(t, ln.Addr().String())
			go func() { called <- get(context.Background(), conn) }()
			<-entered
			stop()
			if err := <-called; (err == nil) != tt.finishes {
				t.Errorf("call: %v, want finished %v", err, tt.finishes)
			}
			if err := <-served; err != nil {
				t.Errorf("Serve: %v", err)
			}
		})
	}
}

func TestAStreamLearnsThatItsServerIsStopping(t *testing.T) {
	t.Parallel()
	entered := make(chan struct{})
	p := &peer{wait: func(ss approvals) error {
		close(entered)
		select {
		case <-Draining(ss.Context()):
			return fault.New(fault.Down, "this instance is stopping").WithReason("STOPPING").WithRetry(time.Second)
		case <-ss.Context().Done():
			return ss.Context().Err()
		}
	}}
	addr, stop := serve(t, p, ServerOptions{})
	ss, err := governancev1.NewGovernanceServiceClient(dial(t, addr, DialOptions{})).
		WaitForApproval(t.Context(), &governancev1.WaitForApprovalRequest{ApprovalId: someID})
	if err != nil {
		t.Fatal(err)
	}
	<-entered
	begin := time.Now()
	stop()
	if _, err := ss.Recv(); !fault.HasReason(err, "STOPPING") {
		t.Errorf("the stream ended with %v", err)
	}
	if took := time.Since(begin); took > 4*time.Second {
		t.Errorf("the drain waited %v for a stream that watches", took)
	}
	if Draining(t.Context()) != nil {
		t.Error("a context that is of no server drains")
	}
}

func TestServeReturnsWhenItNeverBegan(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := Serve(ctx, NewServer(ServerOptions{Log: new(record).logger()}), ln, time.Second); err != nil {
		t.Errorf("Serve: %v", err)
	}
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = closed.Close()
	if err := Serve(t.Context(), NewServer(ServerOptions{Log: new(record).logger()}), closed, time.Second); err == nil {
		t.Error("Serve on a closed listener says nothing")
	}
	if err := ServeHTTP(t.Context(), http.NotFoundHandler(), closed, time.Second); err == nil {
		t.Error("ServeHTTP on a closed listener says nothing")
	}
}

func TestServeHTTPDrainsThenCuts(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name        string
		hold, drain time.Duration
		watches     bool
		finishes    bool
	}{
		{"a short request finishes", 100 * time.Millisecond, time.Minute, false, true},
		{"a stuck request is cut", time.Minute, 100 * time.Millisecond, false, false},
		{"a stream that watches ends itself", time.Minute, time.Minute, true, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			entered := make(chan struct{})
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			served := make(chan error, 1)
			go func() {
				served <- ServeHTTP(ctx, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					close(entered)
					draining := Draining(r.Context())
					if !tt.watches {
						draining = nil
					}
					select {
					case <-time.After(tt.hold):
					case <-draining:
					case <-r.Context().Done():
						return
					}
					fmt.Fprint(w, "done")
				}), ln, tt.drain)
			}()
			answered := make(chan string, 1)
			go func() {
				resp, err := http.Get("http://" + ln.Addr().String())
				if err != nil {
					answered <- err.Error()
					return
				}
				defer resp.Body.Close()
				body, _ := io.ReadAll(resp.Body)
				answered <- string(body)
			}()
			<-entered
			stop()
			if got := <-answered; (got == "done") != tt.finishes {
				t.Errorf("answer %q, want finished %v", got, tt.finishes)
			}
			if err := <-served; err != nil {
				t.Errorf("ServeHTTP: %v", err)
			}
		})
	}
}
