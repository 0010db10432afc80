// Package bus moves events over NATS JetStream. It is transport: what must not
// be lost is in the outbox until every consumer has confirmed it.
package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/fulcrum-io/fulcrum/pkg/config"
)

// Bus is a connection to JetStream. Safe for concurrent use.
type Bus struct {
	conn *nats.Conn
	js   jetstream.JetStream
	log  *slog.Logger
}

// Connect returns a Bus that is connected, or keeps trying to be: a service
// starts, and works from what it has, while NATS is away. Close it.
func Connect(s config.NATSSettings, name string, log *slog.Logger) (*Bus, error) {
	opts := []nats.Option{
		nats.Name(name),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(250 * time.Millisecond),
		nats.ReconnectJitter(250*time.Millisecond, time.Second),
		nats.RetryOnFailedConnect(true),
		nats.Timeout(2 * time.Second),
		nats.PingInterval(10 * time.Second),
		nats.DisconnectErrHandler(func(c *nats.Conn, err error) {
			if c.IsClosed() || err == nil && c.IsDraining() {
				return // on purpose
			}
			log.LogAttrs(context.Background(), slog.LevelWarn, "nats is away", slog.Any("err", err))
		}),
		nats.ReconnectHandler(func(*nats.Conn) {
			log.LogAttrs(context.Background(), slog.LevelInfo, "nats is back")
		}),
	}
	if s.User != "" {
		opts = append(opts, nats.UserInfo(s.User, s.Password.Reveal()))
	}
	conn, err := nats.Connect(s.URL, opts...)
	if err != nil {
		return nil, fmt.Errorf("connect to nats: %w", err)
	}
	js, err := jetstream.New(conn, jetstream.WithPublishAsyncMaxPending(4096))
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("open jetstream: %w", err)
	}
	return &Bus{conn: conn, js: js, log: log}, nil
}

// Close closes the connection. Messages that were not acked come again.
func (b *Bus) Close() { b.conn.Close() }

// Ping says whether NATS answers.
func (b *Bus) Ping(ctx context.Context) error {
	if !b.conn.IsConnected() {
		return errors.New("not connected")
	}
	return b.conn.FlushWithContext(ctx)
}
