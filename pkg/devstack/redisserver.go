package devstack

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// redisServer is Redis as a program.
type redisServer struct {
	program, folder, password string
}

// prepare stops a Redis whose owner is gone, so that it does not stay for ever.
func (s *redisServer) prepare(context.Context) error {
	_, err := crew{program: filepath.Base(s.program), folder: s.folder}.kill(0)
	return err
}

// command hands the settings over on standard input: everybody on the machine
// can read a command line, and so a password in it.
func (s *redisServer) command(port int) *exec.Cmd {
	cmd := exec.Command(s.program, "-")
	cmd.Dir = s.folder
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C", "TZ=UTC"}
	cmd.Stdin = strings.NewReader(fmt.Sprintf(`bind 127.0.0.1
port %d
requirepass %s
save ""
appendonly no
daemonize no
`, port, s.password))
	return cmd
}

// ready asks for a PONG. A stranger's server does not know our password.
func (s *redisServer) ready(ctx context.Context, port int) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp4", address(port))
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	if _, err := fmt.Fprintf(conn, "AUTH %s\r\nPING\r\n", s.password); err != nil {
		return err
	}
	answers := bufio.NewReader(conn)
	for _, want := range []string{"+OK\r\n", "+PONG\r\n"} {
		got, err := answers.ReadString('\n')
		if err != nil {
			return err
		}
		if got != want {
			return fmt.Errorf("redis answers %q", got)
		}
	}
	return nil
}

func (s *redisServer) halt(p *process) error {
	if p.stop(syscall.SIGTERM, 5*time.Second) {
		return nil
	}
	return s.kill(p)
}

func (s *redisServer) kill(p *process) error {
	if !p.stop(syscall.SIGKILL, killLimit) {
		return fmt.Errorf("process %d survives SIGKILL", p.pid)
	}
	return nil
}
