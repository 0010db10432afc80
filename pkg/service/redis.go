package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// OpenRedis returns a client of the shared cache, traced and measured. It dials
// when first used, and gives up on a server that is away within a second: what
// is in it can be found elsewhere.
func (s *Shell) OpenRedis() (*redis.Client, error) {
	o, err := redis.ParseURL(s.Settings.Redis.URL.Reveal())
	if err != nil {
		return nil, errors.New("REDIS_URL: is not a redis address") // its text may hold a password
	}
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout = 500*time.Millisecond, time.Second, time.Second
	o.DialerRetries, o.MaxRetries = 1, 1
	speakOnce.Do(func() { redis.SetLogger(redisLog{s.Log}) })
	client := redis.NewClient(o)
	if err := s.Telemetry.Redis(client); err != nil {
		return nil, errors.Join(fmt.Errorf("measure redis: %w", err), client.Close())
	}
	return client, nil
}

// speakOnce guards the library's one logger: the first service of a process
// lends its own.
var speakOnce sync.Once

// redisLog takes what the library says by itself. Every failed call is an error
// to its caller already, so this is detail.
type redisLog struct{ log *slog.Logger }

func (l redisLog) Printf(ctx context.Context, format string, v ...any) {
	l.log.LogAttrs(ctx, slog.LevelDebug, "redis client", slog.String("says", fmt.Sprintf(format, v...)))
}
