package devstack

import (
	"context"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"sync"

	"github.com/nats-io/nats-server/v2/server"
)

// NATSOptions choose how one NATS server runs. The zero value is a new temporary
// folder and a free port.
type NATSOptions struct {
	Dir  string // data folder, kept; "" = temporary
	Port int    // loopback port; 0 = a free one
}

// NATS is a private NATS server with JetStream, inside this process.
type NATS struct {
	home     *home
	alone    bool // the home is this server's only
	store    string
	password string

	mu     sync.Mutex // held for all of start and stop; guards what follows
	port   int
	server *server.Server // nil while stopped, as is log
	log    *natsLog
}

// StartNATS returns when the server accepts clients. Its error holds the end of
// the server's log. The caller must Stop it.
func StartNATS(o NATSOptions) (*NATS, error) {
	// Nothing in here waits for long, so there is nothing to call off.
	h, err := openHome(context.Background(), o.Dir)
	if err != nil {
		return nil, err
	}
	n, err := newNATS(o, h)
	if err != nil {
		return nil, errors.Join(err, h.close())
	}
	n.alone = true
	return n, nil
}

// URL is ClientURL with the user and password that the server asks for. It stays
// the same over restarts.
func (n *NATS) URL() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	u := url.URL{Scheme: "nats", User: url.UserPassword(natsUser, n.password), Host: address(n.port)}
	return u.String()
}

// ClientURL is the server's address without credentials, fit for a log.
func (n *NATS) ClientURL() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return "nats://" + address(n.port)
}

// Stop shuts the server down. Streams and consumers stay for Restart; a temporary
// folder is removed with its stack, or when this process ends.
func (n *NATS) Stop() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.halt()
	if n.alone && !n.home.temporary {
		return n.home.close()
	}
	return nil
}

// Restart starts again on the same port and store, stopping first if need be.
func (n *NATS) Restart() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.halt()
	if err := n.home.open(context.Background()); err != nil {
		return err
	}
	return n.start()
}

// DeleteStore stops the server and deletes all that JetStream ever stored: every
// stream, consumer and message. Restart then begins with nothing.
func (n *NATS) DeleteStore() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.halt()
	return os.RemoveAll(n.store)
}

func newNATS(o NATSOptions, h *home) (*NATS, error) {
	password, err := h.password("nats")
	if err != nil {
		return nil, err
	}
	n := &NATS{home: h, password: password, port: o.Port, store: filepath.Join(h.dir, "nats")}
	if err := n.start(); err != nil {
		return nil, err
	}
	return n, nil
}
