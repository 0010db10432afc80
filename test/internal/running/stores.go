package running

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// KillPostgres ends every process of the database at once; the services run on.
func (s *Stack) KillPostgres(ctx context.Context) error {
	text, err := os.ReadFile(filepath.Join(s.data(), "postmaster.pid"))
	if err != nil {
		return err
	}
	first, _, _ := strings.Cut(string(text), "\n")
	postmaster, err := strconv.Atoi(first)
	if err != nil {
		return fmt.Errorf("postmaster.pid: %w", err)
	}
	return killAll(ctx, postmaster)
}

// RevivePostgres starts the killed database as it was, and returns when it
// serves.
func (s *Stack) RevivePostgres(ctx context.Context) error {
	words, err := os.ReadFile(filepath.Join(s.data(), "postmaster.opts"))
	if err != nil {
		return err
	}
	cmd := exec.Command("/bin/sh", "-c", "exec "+string(words)) // quoted by PostgreSQL
	cmd.Dir, cmd.Env = "/", []string{"PATH=/usr/bin:/bin", "LC_ALL=C", "TZ=UTC"}
	if cmd.SysProcAttr, err = ownerOf(s.data()); err != nil {
		return err
	}
	if err := s.revive(cmd, "postgresql.revived.log"); err != nil {
		return err
	}
	return Await(ctx, time.Minute, func(ctx context.Context) error {
		conn, err := pgx.Connect(ctx, s.databaseURL())
		if err != nil {
			return err
		}
		return conn.Close(ctx)
	})
}

// SlowDisk makes every commit of the database take that much longer to become
// durable, as on a slow disk. It lasts over restarts. What is answered too early
// shows then.
func (s *Stack) SlowDisk(ctx context.Context, by time.Duration) error {
	conn, err := pgx.Connect(ctx, s.databaseURL())
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	for _, command := range []string{
		fmt.Sprintf("alter system set commit_delay = %d", by.Microseconds()),
		"alter system set commit_siblings = 0",
		"select pg_reload_conf()",
	} {
		if _, err := conn.Exec(ctx, command); err != nil {
			return fmt.Errorf("%s: %w", command, err)
		}
	}
	return nil
}

// KillRedis ends Redis at once; the services run on.
func (s *Stack) KillRedis(ctx context.Context) error {
	if s.process == nil {
		return errors.New("the stack is down")
	}
	crew := s.process.tree()
	for _, p := range s.revived {
		crew = append(crew, p.tree()...)
	}
	for _, pid := range crew {
		if name := nameOf(pid); !gone(pid) && (strings.HasPrefix(name, "redis-server") || strings.HasPrefix(name, "valkey-server")) {
			return killAll(ctx, pid)
		}
	}
	return errors.New("no living process of the stack is a redis-server")
}

// ReviveRedis starts a Redis in the killed one's place, as empty as that would
// be after a crash.
func (s *Stack) ReviveRedis(ctx context.Context) error {
	password, err := os.ReadFile(filepath.Join(s.Dir, "redis.password"))
	if err != nil {
		return err
	}
	program, err := exec.LookPath("redis-server")
	if err != nil {
		if program, err = exec.LookPath("valkey-server"); err != nil {
			return err
		}
	}
	cmd := exec.Command(program, "-")
	cmd.Dir, cmd.Env = s.Dir, []string{"PATH=/usr/bin:/bin", "LC_ALL=C", "TZ=UTC"}
	cmd.Stdin = strings.NewReader(fmt.Sprintf("bind 127.0.0.1\nport %d\nrequirepass %s\nsave \"\"\nappendonly no\n",
		s.ports.redis, strings.TrimSpace(string(password))))
	return s.revive(cmd, "redis.revived.log")
}

// LoseJetStream deletes what JetStream keeps. The stack must be down.
func (s *Stack) LoseJetStream() error {
	if s.process != nil {
		return errors.New("the stack still runs")
	}
	store := filepath.Join(s.Dir, "nats", "jetstream")
	if _, err := os.Stat(store); err != nil {
		return err // to delete nothing would test nothing
	}
	return os.RemoveAll(store)
}

func (s *Stack) data() string { return filepath.Join(s.Dir, "postgres", "data") }

func (s *Stack) revive(cmd *exec.Cmd, log string) error {
	p, err := launch(cmd, filepath.Join(s.Dir, log))
	if err != nil {
		return err
	}
	s.revived = append(s.revived, p)
	return nil
}

// bury ends the servers that were revived: the stack does not know them.
func (s *Stack) bury() {
	for _, p := range s.revived {
		p.killTree()
	}
	s.revived = nil
}

// killAll kills a process and its descendants, and returns when they are gone.
func killAll(ctx context.Context, pid int) error {
	crew := descendants(pid)
	for _, member := range crew {
		_ = syscall.Kill(member, syscall.SIGKILL) // fails only if it has just ended
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	return awaitGone(ctx, slices.Clone(crew))
}

// ownerOf is how to run a program as the owner of a folder.
func ownerOf(folder string) (*syscall.SysProcAttr, error) {
	info, err := os.Stat(folder)
	if err != nil {
		return nil, err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || os.Geteuid() != 0 {
		return new(syscall.SysProcAttr), nil
	}
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: owner.Uid, Gid: owner.Gid}}, nil
}

func nameOf(pid int) string {
	if text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "comm")); err == nil {
		return strings.TrimSpace(string(text))
	}
	out, _ := exec.Command("ps", "-o", "comm=", "-p", strconv.Itoa(pid)).Output()
	return filepath.Base(strings.TrimSpace(string(out)))
}
