package db_test

import (
	"context"
	"io"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
)

// middle is a TCP proxy to Postgres that can go away, and that counts how often
// the client spoke after the server had.
type middle struct {
	url    string
	addr   string
	target string
	turns  atomic.Int64

	mu    sync.Mutex // guards what follows
	ln    net.Listener
	conns []net.Conn
}

func proxy(t *testing.T, dsn string) *middle {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	m := &middle{target: u.Host, addr: "127.0.0.1:0"}
	m.start(t)
	u.Host = m.addr
	m.url = u.String()
	t.Cleanup(m.stop)
	return m
}

func (m *middle) start(t *testing.T) {
	t.Helper()
	ln, err := net.Listen("tcp", m.addr)
	if err != nil {
		t.Fatal(err)
	}
	m.mu.Lock()
	m.ln, m.addr = ln, ln.Addr().String()
	m.mu.Unlock()
	go func() {
		for {
			client, err := ln.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", m.target)
			if err != nil {
				client.Close()
				continue
			}
			m.mu.Lock()
			m.conns = append(m.conns, client, server)
			m.mu.Unlock()
			m.join(client, server)
		}
	}()
}

// stop cuts every connection and takes no more.
func (m *middle) stop() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ln.Close()
	for _, c := range m.conns {
		c.Close()
	}
	m.conns = nil
}

func (m *middle) join(client, server net.Conn) {
	var answered atomic.Bool
	answered.Store(true)
	ctx, cancel := context.WithCancel(context.Background())
	context.AfterFunc(ctx, func() { client.Close(); server.Close() })
	go func() {
		defer cancel()
		_, _ = io.Copy(tap{server, func() {
			if answered.Swap(false) {
				m.turns.Add(1)
			}
		}}, client)
	}()
	go func() {
		defer cancel()
		_, _ = io.Copy(tap{client, func() { answered.Store(true) }}, server)
	}()
}

type tap struct {
	io.Writer
	seen func()
}

func (t tap) Write(p []byte) (int, error) {
	t.seen()
	return t.Writer.Write(p)
}
