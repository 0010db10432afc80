// Package wire is the client of a load: it calls unary methods of a gRPC server for
// as little of a processor's time as can be. A load that shares the processors with
// what it measures otherwise measures itself: a client of grpc-go takes 40 µs a call.
// No goroutine waits for an answer, and nothing is tried again.
package wire

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// Client is one connection. Its methods may be called by many goroutines.
type Client struct {
	conn   net.Conn
	framer *http2.Framer // of the goroutine that reads
	ended  chan struct{} // closed when it has ended

	mu       sync.Mutex // guards the rest
	out      *bytes.Buffer
	spare    *bytes.Buffer // that out is exchanged with while it is written
	frames   *http2.Framer // writes into out
	block    bytes.Buffer
	fields   *hpack.Encoder // writes into block
	writing  bool
	window   int64  // bytes of requests the server takes now
	consumed uint32 // bytes of replies it has not been told of
	most     int    // calls under way; 0 until the server has said
	next     uint32 // number of a stream
	calls    map[uint32]*call
	waiting  []*call // for one of the two
	failed   error
}

// Method is what is called, and as whom. Build it once: it is read-only.
type Method struct{ fields []hpack.HeaderField }

type call struct {
	method  *Method
	request []byte
	reply   []byte
	done    func(reply []byte, err error)
}

const (
	firstWindow = 64<<10 - 1 // RFC 9113, 6.9.2
	ourWindow   = 1 << 30
	largest     = 16 << 10 // a message sent: what any server takes in one frame, and what is left of its window in any case
	prefix      = 5        // of a message: not compressed, and its length
)

// Dial connects to a server without TLS.
func Dial(ctx context.Context, addr string) (*Client, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	c := &Client{
		conn: conn, ended: make(chan struct{}), out: new(bytes.Buffer), spare: new(bytes.Buffer),
		window: firstWindow, next: 1, calls: make(map[uint32]*call),
	}
	c.fields = hpack.NewEncoder(&c.block)
	c.frames = http2.NewFramer(writer{c}, nil)
	c.out.WriteString(http2.ClientPreface)
	err = errors.Join(c.frames.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: ourWindow}), c.frames.WriteWindowUpdate(0, ourWindow-firstWindow))
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	c.framer = newReader(conn)
	go c.read()
	c.mu.Lock()
	c.flush()
	return c, nil
}

// writer is what out is just now.
type writer struct{ c *Client }

func (w writer) Write(p []byte) (int, error) { return w.c.out.Write(p) }

// NewMethod is a method by its full name, "/package.Service/Method", with metadata:
// pairs of a key and a value as it travels (base64 for a key that ends in "-bin").
func (c *Client) NewMethod(name string, metadata ...string) *Method {
	m := &Method{[]hpack.HeaderField{
		{Name: ":method", Value: "POST"},
		{Name: ":scheme", Value: "http"},
		{Name: ":path", Value: name},
		{Name: ":authority", Value: c.conn.RemoteAddr().String()},
		{Name: "content-type", Value: "application/grpc"},
		{Name: "user-agent", Value: "fulcrum-bench"},
		{Name: "te", Value: "trailers"},
		{Name: "grpc-timeout", Value: "10S"},
	}}
	for i := 0; i+1 < len(metadata); i += 2 {
		m.fields = append(m.fields, hpack.HeaderField{Name: metadata[i], Value: metadata[i+1]})
	}
	return m
}

// Call sends an encoded request and does not wait. done is called once, with the
// encoded reply or with why there is none, mostly by the goroutine that reads: it must
// not wait. reply is its own.
func (c *Client) Call(m *Method, request []byte, done func(reply []byte, err error)) {
	k := &call{method: m, request: request, done: done}
	c.mu.Lock()
	switch {
	case c.failed != nil:
		err := c.failed
		c.mu.Unlock()
		done(nil, err)
		return
	case prefix+len(request) > largest:
		c.mu.Unlock()
		done(nil, fmt.Errorf("wire: a request of %d bytes does not fit", len(request)))
		return
	case len(c.waiting) > 0 || !c.room(k):
		c.waiting = append(c.waiting, k)
	default:
		c.send(k)
	}
	c.flush()
}

// room reports whether the server takes a call now.
func (c *Client) room(k *call) bool {
	return len(c.calls) < c.most && int64(prefix+len(k.request)) <= c.window
}

// send collects the frames of a call.
func (c *Client) send(k *call) {
	stream := c.next
	c.next += 2
	c.calls[stream] = k
	c.block.Reset()
	for _, field := range k.method.fields {
		_ = c.fields.WriteField(field) // into memory
	}
	message := make([]byte, prefix, prefix+len(k.request))
	binary.BigEndian.PutUint32(message[1:], uint32(len(k.request)))
	message = append(message, k.request...)
	c.window -= int64(len(message))
	c.fail(errors.Join(
		c.frames.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: c.block.Bytes(), EndHeaders: true}),
		c.frames.WriteData(stream, true, message)))
}

// flush writes what is collected, and unlocks. Whoever comes while somebody writes
// leaves it to him.
func (c *Client) flush() {
	defer c.mu.Unlock()
	if c.writing {
		return
	}
	c.writing = true
	for c.out.Len() > 0 && c.failed == nil {
		c.out, c.spare = c.spare, c.out
		from := c.spare
		c.mu.Unlock()
		_, err := c.conn.Write(from.Bytes())
		c.mu.Lock()
		from.Reset()
		c.fail(err)
	}
	c.writing = false
}

// ErrEnded is the error of every call once the connection has ended.
var ErrEnded = errors.New("wire: the connection has ended")

// fail keeps the first reason why nothing works any more. The goroutine that reads
// tells those who wait.
func (c *Client) fail(err error) {
	if err == nil || c.failed != nil {
		return
	}
	c.failed = fmt.Errorf("%w: %w", ErrEnded, err)
	_ = c.conn.Close()
}

// Close ends the connection, and every call under way with an error.
func (c *Client) Close() error {
	c.mu.Lock()
	c.fail(net.ErrClosed)
	c.mu.Unlock()
	<-c.ended
	return nil
}
