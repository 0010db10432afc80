package devstack

import (
	"context"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/redis/go-redis/v9"
)

func TestStackServesAndStopLeavesNothing(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	var steps []string
	s, err := Start(ctx, Options{NoFsync: true, Progress: func(step string) { steps = append(steps, step) }})
	must(t, err)
	t.Cleanup(func() { check(t, s.Stop()) })

	if want := []string{"starting PostgreSQL", "starting Redis", "starting NATS"}; !slices.Equal(steps, want) {
		t.Errorf("steps %q, want %q", steps, want)
	}
	useStack(t, s)

	pids := append(s.pids(), s.Postgres.daemon.home.guard.cmd.Process.Pid)
	if len(pids) < 4 {
		t.Fatalf("processes %v: too few to be true", pids)
	}
	must(t, s.Stop())
	for _, pid := range pids {
		if alive(pid) {
			t.Errorf("process %d outlives Stop", pid)
		}
	}
	if exists(s.Dir) {
		t.Errorf("%s outlives Stop", s.Dir)
	}
	must(t, s.Stop())
}

func TestTwoStacksRunSideBySide(t *testing.T) {
	t.Parallel()
	// The usual ports being taken must not matter either. Where they are taken
	// already, so much the better.
	for _, port := range []int{5432, 6379, 4222} {
		if ln, err := net.Listen("tcp4", address(port)); err == nil {
			t.Cleanup(func() { ln.Close() })
		}
	}
	for _, name := range []string{"one", "other"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := Start(testContext(t), Options{NoFsync: true})
			must(t, err)
			t.Cleanup(func() { check(t, s.Stop()) })
			useStack(t, s)
		})
	}
}

func TestGivenServersAreNotStarted(t *testing.T) {
	t.Parallel()
	s, err := Start(testContext(t), Options{Postgres: "postgres://a", Redis: "redis://b", NATS: "nats://c"})
	must(t, err)
	defer s.Stop()
	want := []string{"TEST_POSTGRES_URL=postgres://a", "TEST_REDIS_URL=redis://b", "TEST_NATS_URL=nats://c"}
	if !slices.Equal(s.Env(), want) {
		t.Errorf("environment %q, want %q", s.Env(), want)
	}
	if s.Postgres != nil || s.Redis != nil || s.NATS != nil {
		t.Error("a server was started beside the given one")
	}
}

func TestStartThatIsCalledOffLeavesNothing(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(testContext(t))
	// The servers it started first have to go as well.
	progress := func(step string) {
		if strings.Contains(step, "Redis") {
			cancel()
		}
	}
	dir := t.TempDir()
	if _, err := Start(ctx, Options{Dir: dir, NoFsync: true, Progress: progress}); err == nil {
		t.Fatal("started although called off")
	}
	if pids := (crew{"postgres", dir + "/postgres/data"}).processes(0); len(pids) > 0 {
		t.Errorf("processes %v are left", pids)
	}
	f, err := lockFolder(testContext(t), dir)
	must(t, err)
	f.Close()
}

// useStack writes to each server and reads it back.
func useStack(t *testing.T, s *Stack) {
	t.Helper()
	ctx := testContext(t)
	if got := query[string](t, s.PostgresURL, "select current_user::text"); got != "postgres" {
		t.Errorf("PostgreSQL user %q", got)
	}

	options, err := redis.ParseURL(s.RedisURL)
	must(t, err)
	client := redis.NewClient(options)
	defer client.Close()
	must(t, client.Set(ctx, "key", "value", 0).Err())

	conn, err := nats.Connect(s.NATSURL)
	must(t, err)
	defer conn.Close()
	js, err := jetstream.New(conn)
	must(t, err)
	_, err = js.CreateStream(ctx, jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}})
	must(t, err)
	_, err = js.Publish(ctx, "s.1", []byte("hello"))
	must(t, err)
}
