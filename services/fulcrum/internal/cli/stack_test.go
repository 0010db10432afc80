package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/pkg/config"
	"github.com/fulcrum-io/fulcrum/services/fulcrum/internal/stack"
)

// running is the stack that all tests of this package share, each with tenants
// of its own.
var running *stack.Running

func TestMain(m *testing.M) {
	if os.Getenv(actAsMCP) != "" {
		os.Exit(serveMCP())
	}
	os.Exit(func() int {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		var log bytes.Buffer
		r, err := stack.Start(ctx, stack.Options{
			Getenv: config.Map(nil), Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelError}))})
		if err != nil {
			fmt.Fprintf(os.Stderr, "start the stack: %v\n%s", err, log.String())
			return 1
		}
		running = r
		code := m.Run()
		if err := r.Stop(); err != nil {
			fmt.Fprintf(os.Stderr, "stop the stack: %v\n", err)
			return 1
		}
		return code
	}())
}

// shell is where a test types commands.
type shell struct {
	t   *testing.T
	env map[string]string
	in  string
}

// result is what a command did.
type result struct {
	t        *testing.T
	line     string
	code     int
	out, err string
}

func newShell(t *testing.T, key string) shell {
	return shell{t: t, env: map[string]string{"FULCRUM_SERVER": running.GRPCAddr, "FULCRUM_API_KEY": key}}
}

// admin types as the platform's administrator.
func admin(t *testing.T) shell { return newShell(t, running.AdminKey.Reveal()) }

// with is a shell with one more variable.
func (s shell) with(key, value string) shell {
	env := map[string]string{key: value}
	for k, v := range s.env {
		if k != key {
			env[k] = v
		}
	}
	s.env = env
	return s
}

// types runs a command line; words in it may not hold spaces, more do not.
func (s shell) types(line string, more ...string) result {
	s.t.Helper()
	return s.typesUntil(s.t.Context(), line, more...)
}

func (s shell) typesUntil(ctx context.Context, line string, more ...string) result {
	s.t.Helper()
	var out, err bytes.Buffer
	code := run(ctx, append(strings.Fields(line), more...), surroundings{
		getenv: config.Map(s.env), in: strings.NewReader(s.in), out: &out, err: &err})
	r := result{s.t, strings.Join(append([]string{line}, more...), " "), code, out.String(), err.String()}
	for _, secret := range []string{s.env["FULCRUM_API_KEY"], running.AdminKey.Reveal()} {
		if secret != "" && strings.Contains(r.out+r.err, secret) {
			s.t.Errorf("fulcrum %s shows the key that it was given", r.line)
		}
	}
	return r
}

// exits fails the test unless the command ended with a code.
func (r result) exits(code int) result {
	r.t.Helper()
	if r.code != code {
		r.t.Fatalf("fulcrum %s: exit %d, want %d\n%s%s", r.line, r.code, code, r.out, r.err)
	}
	return r
}

// says fails the test unless the messages hold each text.
func (r result) says(texts ...string) result {
	r.t.Helper()
	for _, text := range texts {
		if !strings.Contains(r.err, text) {
			r.t.Errorf("fulcrum %s does not say %q:\n%s", r.line, text, r.err)
		}
	}
	return r
}

// shows fails the test unless the data hold each text.
func (r result) shows(texts ...string) result {
	r.t.Helper()
	for _, text := range texts {
		if !strings.Contains(r.out, text) {
			r.t.Errorf("fulcrum %s does not show %q:\n%s", r.line, text, r.out)
		}
	}
	return r
}

// json is the one document that the data are.
func (r result) json(into any) {
	r.t.Helper()
	d := json.NewDecoder(strings.NewReader(r.out))
	if err := d.Decode(into); err != nil || d.More() {
		r.t.Fatalf("fulcrum %s: not one JSON document: %v\n%s%s", r.line, err, r.out, r.err)
	}
}

var (
	ids   = regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`)
	times = regexp.MustCompile(`\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ`)
)

// golden fails the test unless the data are this text, where UUID and TIME,
// which are as wide, stand for those that differ each time.
func (r result) golden(want string) {
	r.t.Helper()
	got := ids.ReplaceAllString(r.out, fmt.Sprintf("%-36s", "UUID"))
	got = times.ReplaceAllString(got, fmt.Sprintf("%-20s", "TIME"))
	lines := strings.Split(got, "\n")
	for i, line := range lines {
		lines[i] = strings.TrimRight(line, " ")
	}
	if got = strings.Join(lines, "\n"); got != strings.TrimPrefix(want, "\n") {
		r.t.Errorf("fulcrum %s shows\n%s\nwant\n%s", r.line, got, want)
	}
}

// tenant is a new tenant with a key that may do everything in it.
type tenant struct {
	shell
	id string
}

func newTenant(t *testing.T) tenant {
	t.Helper()
	var made struct {
		TenantID string `json:"tenant_id"`
	}
	admin(t).types("tenant create -o json " + t.Name() + "-" + uuid.NewString()[:8]).exits(exitOK).json(&made)
	return tenant{newShell(t, issue(t, made.TenantID, "--scope=*")), made.TenantID}
}

// issue makes a key in a tenant, with further flags.
func issue(t *testing.T, tenant string, flags ...string) string {
	t.Helper()
	r := admin(t).types("key create --name test --tenant "+tenant, flags...).exits(exitOK)
	return strings.TrimSpace(r.out)
}

// eventually repeats a command until ok, for what is only promised soon.
func (s shell) eventually(ok func(result) bool, line string, more ...string) result {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 2*time.Minute)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		r := s.types(line, more...)
		if ok(r) {
			return r
		}
		select {
		case <-ctx.Done():
			s.t.Fatalf("fulcrum %s: not within 20 s; at last exit %d\n%s%s", line, r.code, r.out, r.err)
		case <-tick.C:
		}
	}
}

func exited(code int) func(result) bool { return func(r result) bool { return r.code == code } }

// write puts files into a new folder.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
