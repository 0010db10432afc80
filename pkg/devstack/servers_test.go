package devstack

import (
	"context"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/redis/go-redis/v9"
)

func TestRedisIsBackAndEmptyAfterKill(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	r, err := StartRedis(ctx, RedisOptions{})
	must(t, err)
	t.Cleanup(func() { check(t, r.Stop()) })
	options, err := redis.ParseURL(r.URL())
	must(t, err)
	client := redis.NewClient(options)
	defer client.Close()
	must(t, client.Set(ctx, "key", "value", 0).Err())

	pid := r.daemon.proc.pid
	must(t, r.Kill())
	if alive(pid) {
		t.Error("Redis survives Kill")
	}
	must(t, r.Restart(ctx))
	if n, err := client.DBSize(ctx).Result(); err != nil || n != 0 {
		t.Errorf("%d keys, error %v", n, err)
	}
}

func TestRedisAsksForItsPassword(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	r, err := StartRedis(ctx, RedisOptions{})
	must(t, err)
	t.Cleanup(func() { check(t, r.Stop()) })
	client := redis.NewClient(&redis.Options{Addr: address(r.daemon.port)})
	defer client.Close()
	if err := client.Ping(ctx).Err(); err == nil {
		t.Error("let in without a password")
	}
}

func TestStreamSurvivesARestartButNotDeleteStore(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	n, err := StartNATS(NATSOptions{})
	must(t, err)
	t.Cleanup(func() { check(t, n.Stop()) })
	if _, err := nats.Connect(n.ClientURL()); err == nil {
		t.Error("let in without a password")
	}

	js := connect(t, n)
	_, err = js.CreateStream(ctx, jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}})
	must(t, err)
	_, err = js.Publish(ctx, "s.1", []byte("hello"))
	must(t, err)
	must(t, n.Stop())
	must(t, n.Restart())
	if got := messages(ctx, t, connect(t, n)); got != 1 {
		t.Errorf("%d messages after a restart, want 1", got)
	}

	must(t, n.DeleteStore())
	must(t, n.Restart())
	if _, err := connect(t, n).Stream(ctx, "S"); err == nil {
		t.Error("the stream survives DeleteStore")
	}
}

func connect(t *testing.T, n *NATS) jetstream.JetStream {
	t.Helper()
	conn, err := nats.Connect(n.URL())
	must(t, err)
	t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	must(t, err)
	return js
}

func messages(ctx context.Context, t *testing.T, js jetstream.JetStream) uint64 {
	t.Helper()
	s, err := js.Stream(ctx, "S")
	must(t, err)
	info, err := s.Info(ctx)
	must(t, err)
	return info.State.Msgs
}
