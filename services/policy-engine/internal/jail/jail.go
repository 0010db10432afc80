// Package jail compiles a tenant's Rego for the first time in a child process
// with bounds on memory, CPU and time, because nothing can interrupt a compiler
// that runs in this one. What passes there is compiled here.
package jail

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"time"

	"github.com/fulcrum-io/fulcrum/services/policy-engine/internal/sandbox"
)

// Limits of one compilation. Zero values mean the defaults.
type Limits struct {
	Wall   time.Duration // 5 s
	CPU    time.Duration // 2 s, where the system can count it
	Memory int64         // 384 MiB
}

// ErrAway says that no child could be started or reached: nothing is known of
// the module.
var ErrAway = errors.New("the compiler process is not available")

// maxJobs is after how many modules a child is replaced, so that nothing in it
// grows for ever.
const maxJobs = 200

// Pool keeps a few children of this binary, started when first needed. Safe for
// concurrent use.
type Pool struct {
	limits Limits
	slots  chan struct{}
	mu     sync.Mutex // guards idle and closed
	idle   []*child
	closed bool
}

// New returns a Pool. Close ends its children.
func New(l Limits) *Pool {
	l.Wall, l.CPU, l.Memory = cmp.Or(l.Wall, 5*time.Second), cmp.Or(l.CPU, 2*time.Second), cmp.Or(l.Memory, 384<<20)
	return &Pool{limits: l, slots: make(chan struct{}, max(2, runtime.GOMAXPROCS(0)/2))}
}

// job and verdict are one line of JSON each.
type job struct {
	Package string
	Text    string
	Rules   []string // to try
	CPU     time.Duration
	Memory  int64
}

type verdict struct{ Problems []sandbox.Problem }

// Check says what sandbox.Try says of the module, or that it went beyond its
// limits. It fails with ErrAway when that could not be found out.
func (p *Pool) Check(pkg, text string, rules []string) ([]sandbox.Problem, error) {
	p.slots <- struct{}{}
	defer func() { <-p.slots }()
	j := job{Package: pkg, Text: text, Rules: rules, CPU: p.limits.CPU, Memory: p.limits.Memory}
	var cause error
	for range 2 { // a child can also be ended by others than its module
		c, err := p.take()
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrAway, err)
		}
		v, err := c.do(j, p.limits.Wall)
		if err == nil {
			p.give(c)
			return v.Problems, nil
		}
		c.end()
		if message, known := p.beyond(err); known {
			return []sandbox.Problem{{Line: 1, Column: 1, Message: message}}, nil
		}
		cause = err
	}
	return []sandbox.Problem{{Line: 1, Column: 1, Message: fmt.Sprintf("compiling this module ends the compiler: %v", cause)}}, nil
}

// beyond names the limit that ended a child.
func (p *Pool) beyond(err error) (string, bool) {
	var exit *exec.ExitError
	switch {
	case errors.Is(err, errWall):
		return fmt.Sprintf("compiling this module takes more than %v", p.limits.Wall), true
	case errors.As(err, &exit) && exit.ExitCode() == exitMemory:
		return fmt.Sprintf("compiling this module takes more than %d MiB of memory", p.limits.Memory>>20), true
	case errors.As(err, &exit) && exit.ExitCode() == exitCPU:
		return fmt.Sprintf("compiling this module takes more than %v of CPU time", p.limits.CPU), true
	}
	return "", false
}

// Close ends all children that are idle, and those at work when they are done.
func (p *Pool) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, c := range p.idle {
		c.end()
	}
	p.idle = nil
}

func (p *Pool) take() (*child, error) {
	p.mu.Lock()
	if n := len(p.idle); n > 0 {
		c := p.idle[n-1]
		p.idle = p.idle[:n-1]
		p.mu.Unlock()
		return c, nil
	}
	p.mu.Unlock()
	return start()
}

func (p *Pool) give(c *child) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || c.jobs >= maxJobs {
		c.end()
		return
	}
	p.idle = append(p.idle, c)
}

// child is one process. One caller uses it at a time.
type child struct {
	cmd     *exec.Cmd
	in      io.WriteCloser
	out     *json.Decoder
	jobs    int
	endOnce sync.Once
	exit    error // of the process, once ended
}

func start() (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, subcommand)
	cmd.Env = []string{"GOMAXPROCS=1", "GOTRACEBACK=none"} // no settings, no secrets
	cmd.Dir = "/"
	confine(cmd)
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &child{cmd: cmd, in: in, out: json.NewDecoder(out)}, nil
}

var errWall = errors.New("no answer in time")

// do has the child look at j. After an error the child must be ended.
func (c *child) do(j job, wall time.Duration) (v verdict, err error) {
	c.jobs++
	late := make(chan struct{})
	watch := time.AfterFunc(wall, func() {
		close(late)
		_ = c.cmd.Process.Kill()
	})
	if err = json.NewEncoder(c.in).Encode(j); err == nil {
		err = c.out.Decode(&v)
	}
	if !watch.Stop() {
		<-late
		return v, errWall
	}
	if err != nil {
		c.end()
		return v, errors.Join(err, c.exit)
	}
	return v, nil
}

// end ends the process and waits for it.
func (c *child) end() {
	c.endOnce.Do(func() {
		_ = c.in.Close()
		stop := time.AfterFunc(time.Second, func() { _ = c.cmd.Process.Kill() })
		defer stop.Stop()
		c.exit = c.cmd.Wait()
	})
}
