package stack

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
)

// ports binds loopback ports before the services start, so that no port can be
// lost between choosing it and listening on it.
type ports struct {
	err error

	mu    sync.Mutex
	bound map[string]net.Listener // by address, until a service takes it
}

// bind returns the address of a listener on port, 0 meaning a free one.
// The first failure is kept in err.
func (p *ports) bind(port int) string {
	ln, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		p.err = errors.Join(p.err, fmt.Errorf("port %d is taken; choose another with --grpc-port or --http-port: %w", port, err))
		return ""
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.bound[ln.Addr().String()] = ln
	return ln.Addr().String()
}

// take hands a bound listener to the service that was told its address.
func (p *ports) take(ctx context.Context, addr string) (net.Listener, error) {
	p.mu.Lock()
	ln, ok := p.bound[addr]
	delete(p.bound, addr)
	p.mu.Unlock()
	if ok {
		return ln, nil
	}
	return new(net.ListenConfig).Listen(ctx, "tcp", addr)
}

// close closes what no service took.
func (p *ports) close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	for _, ln := range p.bound {
		errs = append(errs, ln.Close())
	}
	clear(p.bound)
	return errors.Join(errs...)
}
