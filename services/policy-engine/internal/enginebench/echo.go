package enginebench

import (
	"context"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	policyenginev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policyengine/v1"
)

// echo is gRPC and nothing else: a plain server that gives one answer, and a
// plain connection to it.
type echo struct {
	policyenginev1.UnimplementedEvaluationServiceServer
	answer *policyenginev1.EvaluateResponse
	client policyenginev1.EvaluationServiceClient
	close  func()
}

func newEcho(answer *policyenginev1.EvaluateResponse) (*echo, error) {
	e := &echo{answer: answer}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	srv := grpc.NewServer() //nolint:forbidigo // the floor is a server without our interceptors
	policyenginev1.RegisterEvaluationServiceServer(srv, e)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		_ = srv.Serve(ln) // a call then fails, and says so
	}()
	conn, err := grpc.NewClient(ln.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		srv.Stop()
		return nil, err
	}
	e.client = policyenginev1.NewEvaluationServiceClient(conn)
	e.close = func() {
		_ = conn.Close()
		srv.Stop()
		<-stopped
	}
	return e, nil
}

// Evaluate implements EvaluationService.
func (e *echo) Evaluate(context.Context, *policyenginev1.EvaluateRequest) (*policyenginev1.EvaluateResponse, error) {
	return e.answer, nil
}

func (e *echo) call(ctx context.Context, facts *policyenginev1.Facts) error {
	_, err := e.client.Evaluate(ctx, &policyenginev1.EvaluateRequest{Facts: facts})
	return err
}
