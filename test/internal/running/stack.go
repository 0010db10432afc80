package running

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"
)

const (
	startLimit = 90 * time.Second // the first start makes a database
	stopLimit  = 40 * time.Second
)

// Stack is one `fulcrum up`. It keeps its folder and its ports over stops,
// kills and starts, so that clients find it again. Its methods are for one
// goroutine at a time.
type Stack struct {
	Dir      string
	GRPCAddr string
	HTTPURL  string
	AdminKey string // set by the first start

	lab   *Lab
	env   []string
	ports struct{ grpc, http, postgres, redis int }
	log   string

	process *process   // nil while it is down
	revived []*process // servers that were killed and started again, beside it
}

// New returns a running stack of the test's own, which is stopped when the test
// ends. env are KEY=value settings for the services. Of a test that failed, the
// data stay and the end of the log is printed.
func (l *Lab) New(t testing.TB, env ...string) *Stack {
	t.Helper()
	s, err := l.Up(t.Context(), env...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(t.Failed()); err != nil {
			t.Errorf("close stack: %v", err)
		}
	})
	return s
}

// Up returns a running stack. The caller must Close it.
func (l *Lab) Up(ctx context.Context, env ...string) (*Stack, error) {
	dir, err := os.MkdirTemp(l.dir, "stack-")
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(dir, 0o711); err != nil {
		return nil, err
	}
	ports, err := freePorts(4)
	if err != nil {
		return nil, err
	}
	s := &Stack{
		Dir: dir, GRPCAddr: address(ports[0]), HTTPURL: "http://" + address(ports[1]),
		lab: l, env: env, log: filepath.Join(dir, "fulcrum.log"),
	}
	s.ports.grpc, s.ports.http, s.ports.postgres, s.ports.redis = ports[0], ports[1], ports[2], ports[3]
	if err := s.Start(ctx); err != nil {
		return nil, errors.Join(err, s.Close(true))
	}
	return s, nil
}

// Start returns when the stack answers that it is healthy.
func (s *Stack) Start(ctx context.Context) error {
	if s.process != nil {
		return errors.New("the stack runs already")
	}
	cmd := exec.Command(s.lab.Binary, "up", "--dir", s.Dir,
		"--grpc-port", strconv.Itoa(s.ports.grpc), "--http-port", strconv.Itoa(s.ports.http),
		"--postgres-port", strconv.Itoa(s.ports.postgres), "--redis-port", strconv.Itoa(s.ports.redis))
	// Nothing of the surroundings: a server named there is not ours to break.
	cmd.Env = append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "TMPDIR=" + os.Getenv("TMPDIR"),
		"LOG_LEVEL=info", "LOG_FORMAT=text",
		"GATEWAY_KEY_RATE=0", "GATEWAY_TENANT_RATE=0",
	}, s.env...)
	p, err := launch(cmd, s.log)
	if err != nil {
		return err
	}
	s.process = p
	if err := s.awaitHealth(ctx); err != nil {
		s.process = nil
		p.killTree()
		return fmt.Errorf("%w; its log ends:\n%s", err, tail(s.log, 30))
	}
	return s.readAdminKey()
}

func (s *Stack) awaitHealth(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := s.Healthy(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-s.process.ended:
			return fmt.Errorf("fulcrum up ended: %w", s.process.err)
		case <-ctx.Done():
			return fmt.Errorf("fulcrum up is not healthy: %w", err)
		case <-tick.C:
		}
	}
}

// Healthy asks GET /health.
func (s *Stack) Healthy(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.HTTPURL+"/health", nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	return nil
}

func (s *Stack) readAdminKey() error {
	text, err := os.ReadFile(filepath.Join(s.Dir, "keys.json"))
	if err != nil {
		return err
	}
	var keys struct {
		AdminKey string `json:"admin_key"`
	}
	if err := json.Unmarshal(text, &keys); err != nil {
		return err
	}
	s.AdminKey = keys.AdminKey
	return nil
}

// Stop asks the stack to end and returns when it has: an error if it did not
// end well, or left a process behind.
func (s *Stack) Stop() error {
	p := s.process
	if p == nil {
		return nil
	}
	s.process = nil
	defer s.bury()
	crew := p.tree()
	if err := syscall.Kill(p.pid, syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-p.ended:
	case <-time.After(stopLimit):
		p.killTree()
		return fmt.Errorf("fulcrum up does not stop within %s; its log ends:\n%s", stopLimit, tail(s.log, 30))
	}
	if p.err != nil {
		return fmt.Errorf("fulcrum up: %w; its log ends:\n%s", p.err, tail(s.log, 30))
	}
	if left := slices.DeleteFunc(crew, gone); len(left) > 0 {
		return fmt.Errorf("fulcrum up left the processes %v behind", left)
	}
	return nil
}

// Kill ends every process of the stack at once, as a power cut would.
func (s *Stack) Kill() {
	if s.process != nil {
		s.process.killTree()
		s.process = nil
	}
	s.bury()
}

// KillMain ends the stack's own process only, as the kernel's out-of-memory
// killer would, and returns when the stores, which have lost it, are gone too.
func (s *Stack) KillMain(ctx context.Context) error {
	p := s.process
	if p == nil {
		return nil
	}
	s.process = nil
	defer s.bury()
	crew := p.tree()
	_ = syscall.Kill(p.pid, syscall.SIGKILL) // fails only if it has just ended
	<-p.ended
	return awaitGone(ctx, crew)
}

// Close stops the stack. keep leaves its data and prints the end of its log.
func (s *Stack) Close(keep bool) error {
	err := s.Stop()
	if raced := races(s.log); raced != "" {
		err = errors.Join(err, fmt.Errorf("data race in fulcrum:\n%s", raced))
	}
	if err != nil || keep {
		fmt.Fprintf(os.Stderr, "the data of the stack are kept in %s; its log ends:\n%s\n", s.Dir, tail(s.log, 40))
		return err
	}
	return os.RemoveAll(s.Dir)
}
