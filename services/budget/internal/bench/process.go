package bench

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"

	"github.com/fulcrum-io/fulcrum/pkg/bench/wire"
	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	"github.com/fulcrum-io/fulcrum/pkg/rpc"
	"github.com/fulcrum-io/fulcrum/pkg/service"
	budgetv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/budget/v1"
	"github.com/fulcrum-io/fulcrum/services/budget/app"
)

// asService makes this program the budget service: it is measured as what it
// is, a process behind gRPC.
const asService = "FULCRUM_BENCH_AS_SERVICE"

func serve(ctx context.Context, getenv func(string) string, out io.Writer) error {
	return app.Run(ctx, service.Env{Getenv: getenv, Log: slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelError}))})
}

// process is the service, and connections to it.
type process struct {
	cmd    *exec.Cmd
	conn   *grpc.ClientConn
	client budgetv1.LedgerServiceClient // over conn
	calls  *wire.Client
}

// process starts the service and returns once it answers.
func (s *server) process(ctx context.Context, progress io.Writer) (*process, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	addr := ln.Addr().String()
	if err := ln.Close(); err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = append(os.Environ(), asService+"=1", "POSTGRES_CONN_STR="+s.app, "NATS_URL=nats://127.0.0.1:1", "BUDGET_ADDR="+addr, "BUDGET_OPS_ADDR=127.0.0.1:0")
	cmd.Stderr = progress
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd: cmd}
	if err := p.connect(ctx, addr); err != nil {
		p.stop()
		return nil, err
	}
	return p, nil
}

func (p *process) connect(ctx context.Context, addr string) (err error) {
	if p.conn, err = rpc.Dial(addr, rpc.DialOptions{}); err != nil {
		return err
	}
	p.client = budgetv1.NewLedgerServiceClient(p.conn)
	waiting, cancel := context.WithTimeout(identity.With(ctx, identity.System(uuid.Must(uuid.NewV7()))), 30*time.Second)
	defer cancel()
	_, err = p.client.GetReservation(waiting, &budgetv1.GetReservationRequest{ReservationId: uuid.NewString()}, grpc.WaitForReady(true))
	if !fault.Is(err, fault.NotFound) {
		return errors.Join(errors.New("the service does not answer"), err)
	}
	p.calls, err = wire.Dial(ctx, addr)
	return err
}

func (p *process) stop() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
	if p.conn != nil {
		_ = p.conn.Close()
	}
	if p.calls != nil {
		_ = p.calls.Close()
	}
}
