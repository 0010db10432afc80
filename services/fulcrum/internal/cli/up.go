package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fulcrum-io/fulcrum/pkg/config"
	"github.com/fulcrum-io/fulcrum/pkg/secret"
	"github.com/fulcrum-io/fulcrum/pkg/service"
	"github.com/fulcrum-io/fulcrum/services/fulcrum/internal/demo"
	"github.com/fulcrum-io/fulcrum/services/fulcrum/internal/stack"
)

func upCommand() *cobra.Command {
	o := stack.Options{Getenv: os.Getenv}
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Run all of Fulcrum in one process and keep it running",
		Long: `Run all services in one process on loopback. PostgreSQL, Redis and NATS are
started in the data folder, unless POSTGRES_CONN_STR (or DATABASE_URL),
REDIS_URL and NATS_URL name servers that already run.`,
		Example: "  fulcrum up\n  fulcrum up --dir /var/lib/fulcrum --http-port 9080",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return runUp(cmd, o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.Dir, "dir", ".data", "data folder")
	f.IntVar(&o.GRPCPort, "grpc-port", 50051, "port of the native gRPC door")
	f.IntVar(&o.HTTPPort, "http-port", 8080, "port of the HTTP door")
	f.IntVar(&o.PostgresPort, "postgres-port", 0, "port of the embedded PostgreSQL (0: a free one)")
	f.IntVar(&o.RedisPort, "redis-port", 0, "port of the embedded Redis (0: a free one)")
	f.IntVar(&o.NATSPort, "nats-port", 0, "port of the embedded NATS (0: a free one)")
	return cmd
}

func runUp(cmd *cobra.Command, o stack.Options) (err error) {
	ctx, out := cmd.Context(), cmd.OutOrStdout()
	log, err := service.NewLog(config.From(quieter(os.Getenv)), cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	if o.Dir, err = filepath.Abs(o.Dir); err != nil {
		return err
	}
	steps := &progressLine{out: out}
	o.Log, o.Progress = log, steps.begin
	running, err := stack.Start(ctx, o)
	steps.end()
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	defer func() { err = errors.Join(err, running.Stop()) }()

	key, err := demoKey(cmd, running)
	if ctx.Err() != nil {
		return nil // stopped before it had all begun
	}
	if err != nil {
		return fmt.Errorf("make the demo tenant: %w", err)
	}
	welcome(out, running, key)
	if err := running.Wait(ctx); err != nil {
		return err
	}
	fmt.Fprintln(out, "\nstopping")
	return nil
}

// demoKey returns the API key of the demo tenant, made at the first start and
// kept in the data folder: a convenience of this command, not of the services.
func demoKey(cmd *cobra.Command, r *stack.Running) (secret.Secret, error) {
	path := filepath.Join(r.Dir, "demo.key")
	if b, err := os.ReadFile(path); err == nil {
		return secret.New(strings.TrimSpace(string(b))), nil
	}
	key, err := demo.Seed(cmd.Context(), demo.Target{GRPCAddr: r.GRPCAddr, HTTPURL: r.HTTPURL, AdminKey: r.AdminKey}, demo.WithBudgets)
	if err != nil {
		return secret.Secret{}, err
	}
	return key, os.WriteFile(path, []byte(key.Reveal()+"\n"), 0o600)
}

func welcome(out io.Writer, r *stack.Running, key secret.Secret) {
	fmt.Fprintf(out, `
Fulcrum is running.

  gRPC      %s
  HTTP      %s      (REST on /v1 and /api/v1, Connect, gRPC-Web, /health, /metrics)
  data      %s
  admin     FULCRUM_ADMIN_KEY is in %s
  demo key  %s

Ask for a decision (this one is denied, and says by which rule):

  curl -s %s/v1/authorize -H "Authorization: Bearer %s" \
    -d '{"inline":{"workflow_id":"tour"},"action":{"kind":"ACTION_KIND_TOOL_CALL","name":"drop_table"},"idempotency_key":"tour-1"}'

Ctrl-C stops it; the data stays.
`, r.GRPCAddr, r.HTTPURL, r.Dir, filepath.Join(r.Dir, "keys.json"), key.Reveal(), r.HTTPURL, key.Reveal())
}

// quieter makes warnings the default level: the terminal belongs to the person.
func quieter(getenv func(string) string) func(string) string {
	return func(key string) string {
		if v := getenv(key); v != "" || key != "LOG_LEVEL" {
			return v
		}
		return "warn"
	}
}
