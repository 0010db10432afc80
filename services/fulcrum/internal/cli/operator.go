package cli

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	"github.com/fulcrum-io/fulcrum/pkg/config"
	"github.com/fulcrum-io/fulcrum/pkg/secret"
	"github.com/fulcrum-io/fulcrum/services/fulcrum/internal/terminal"
)

// operator is what all commands for operators share: where the server is, as
// whom to ask, and how to show what it answers.
type operator struct {
	getenv func(string) string

	server, caFile, keyFile string
	plaintext, yes          bool
	timeout                 time.Duration
	output                  word
}

const defaultServer = "127.0.0.1:50051"

func newOperator(getenv func(string) string) *operator {
	return &operator{getenv: getenv, output: word{value: "table", allowed: []string{"table", "json"}}}
}

// remote makes a group of commands that ask a server.
func (o *operator) remote(cmd *cobra.Command) *cobra.Command {
	f := cmd.PersistentFlags()
	f.StringVar(&o.server, "server", "", "host:port of the gateway's gRPC door (FULCRUM_SERVER; default "+defaultServer+")")
	f.StringVar(&o.keyFile, "key-file", "", "file with the API key (or FULCRUM_API_KEY_FILE, FULCRUM_API_KEY)")
	f.StringVar(&o.caFile, "ca-file", "", "PEM file of the authorities to trust instead of the system's (FULCRUM_CA_FILE)")
	f.BoolVar(&o.plaintext, "plaintext", false, "do not use TLS, for private networks; loopback never does")
	f.DurationVar(&o.timeout, "timeout", 30*time.Second, "how long one request may take")
	f.VarP(&o.output, "output", "o", "table or json")
	if err := cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(o.output.allowed, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // the flag was defined just now
	}
	return cmd
}

// ask makes a command's RunE of a function that asks a server.
func (o *operator) ask(do func(ctx context.Context, cmd *cobra.Command, c *client, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		c, err := o.dial(cmd)
		if err != nil {
			return err
		}
		defer c.conn.Close()
		return do(cmd.Context(), cmd, c, args)
	}
}

// address is where the server is: flag, then environment, then default.
func (o *operator) address() (string, error) {
	addr := cmp.Or(o.server, o.getenv("FULCRUM_SERVER"), defaultServer)
	if strings.Contains(addr, "://") || !strings.Contains(addr, ":") {
		return "", usagef("the server is %q, but must be host:port of the gRPC door, such as %s", terminal.Clean(addr), defaultServer)
	}
	return addr, nil
}

// credential is the key to ask with. It comes from a file or the environment,
// never from the command line, where every process could read it.
func (o *operator) credential() (secret.Secret, error) {
	var key secret.Secret
	if o.keyFile != "" {
		b, err := os.ReadFile(o.keyFile)
		if err != nil {
			return key, fmt.Errorf("--key-file: %w", err)
		}
		key = secret.New(strings.TrimSpace(string(b)))
	} else {
		r := config.From(o.getenv)
		key = r.Secret("FULCRUM_API_KEY", "")
		if err := r.Err(); err != nil {
			return key, usageError{err}
		}
	}
	if key.IsZero() {
		return key, usagef("there is no API key: set FULCRUM_API_KEY or FULCRUM_API_KEY_FILE, or use --key-file FILE (fulcrum up keeps one in .data/demo.key)")
	}
	return key, nil
}

// transport is the TLS to use, nil for none.
func (o *operator) transport(addr string) (*tls.Config, error) {
	if o.plaintext || secret.Loopback(addr) {
		return nil, nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if file := cmp.Or(o.caFile, o.getenv("FULCRUM_CA_FILE")); file != "" {
		pem, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("--ca-file: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("--ca-file: %s has no PEM certificate", file)
		}
	}
	return c, nil
}

// json reports whether a program reads the output.
func (o *operator) json() bool { return o.output.value == "json" }

// answer shows m: as JSON to programs, else as human does it.
func (o *operator) answer(cmd *cobra.Command, m proto.Message, human func(out io.Writer, color bool) error) error {
	if o.json() {
		return terminal.JSON(cmd.OutOrStdout(), m)
	}
	return human(cmd.OutOrStdout(), o.color(cmd.OutOrStdout()))
}

// list shows m as JSON, or t; without rows it says so to people.
func (o *operator) list(cmd *cobra.Command, m proto.Message, t *terminal.Table, none string) error {
	if t.Len() == 0 {
		o.say(cmd, "%s", none)
	}
	return o.answer(cmd, m, t.Write)
}

// say tells the person something that is not data.
func (o *operator) say(cmd *cobra.Command, format string, a ...any) {
	fmt.Fprintln(cmd.ErrOrStderr(), terminal.Clean(fmt.Sprintf(format, a...)))
}

// next is the last line after a change: what most people do then.
func (o *operator) next(cmd *cobra.Command, format string, a ...any) {
	o.say(cmd, "next: "+format, a...)
}

// color reports whether w is a screen whose owner has nothing against colours.
func (o *operator) color(w io.Writer) bool {
	return screen(w) && o.getenv("NO_COLOR") == "" && o.getenv("TERM") != "dumb"
}

// screen reports whether w is a terminal.
func screen(w any) bool {
	if l, ok := w.(*locked); ok {
		w = l.w
	}
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return false
	}
	null, err := os.Stat(os.DevNull)
	return err != nil || !os.SameFile(info, null)
}

// locked is a writer for several goroutines: what is said while something is
// waited for comes from another one.
type locked struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}
