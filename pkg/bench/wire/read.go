package wire

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

func newReader(from io.Reader) *http2.Framer {
	const buffer, tableSize = 64 << 10, 4096 // RFC 9113, 6.5.2
	framer := http2.NewFramer(nil, bufio.NewReaderSize(from, buffer))
	framer.ReadMetaHeaders = hpack.NewDecoder(tableSize, nil)
	framer.SetReuseFrames()
	return framer
}

// read takes what comes until the connection ends, and then ends every call.
func (c *Client) read() {
	defer close(c.ended)
	for {
		frame, err := c.framer.ReadFrame()
		if err == nil {
			err = c.take(frame)
		}
		if err == nil {
			continue
		}
		c.mu.Lock()
		c.fail(err)
		err = c.failed
		left := c.waiting
		for _, k := range c.calls {
			left = append(left, k)
		}
		c.calls, c.waiting = nil, nil
		c.mu.Unlock()
		for _, k := range left {
			k.done(nil, err)
		}
		return
	}
}

// take does what a frame says. An error ends the connection.
func (c *Client) take(frame http2.Frame) error {
	switch f := frame.(type) {
	case *http2.DataFrame:
		c.data(f)
	case *http2.MetaHeadersFrame:
		if f.StreamEnded() {
			c.finish(f.StreamID, status(f))
		}
	case *http2.RSTStreamFrame:
		c.finish(f.StreamID, fmt.Errorf("wire: the server ended the call: %v", f.ErrCode))
	case *http2.GoAwayFrame:
		return fmt.Errorf("the server went away: %v %s", f.ErrCode, f.DebugData())
	case *http2.WindowUpdateFrame:
		if f.StreamID == 0 {
			c.mu.Lock()
			c.window += int64(f.Increment)
			c.more()
		}
	case *http2.PingFrame:
		if !f.IsAck() {
			c.mu.Lock()
			c.fail(c.frames.WritePing(true, f.Data))
			c.flush()
		}
	case *http2.SettingsFrame:
		return c.settings(f)
	}
	return nil
}

// more sends what waits as far as it may now, and unlocks.
func (c *Client) more() {
	for len(c.waiting) > 0 && c.room(c.waiting[0]) {
		c.send(c.waiting[0])
		c.waiting = c.waiting[1:]
	}
	c.flush()
}

func (c *Client) settings(f *http2.SettingsFrame) error {
	if f.IsAck() {
		return nil
	}
	c.mu.Lock()
	if c.most == 0 {
		c.most = math.MaxInt32 // unless it says otherwise
	}
	err := f.ForeachSetting(func(s http2.Setting) error {
		switch s.ID {
		case http2.SettingMaxConcurrentStreams:
			c.most = int(s.Val)
		case http2.SettingHeaderTableSize:
			c.fields.SetMaxDynamicTableSizeLimit(s.Val)
		case http2.SettingInitialWindowSize:
			if s.Val < firstWindow {
				return errors.New("the server takes only small requests")
			}
		}
		return nil
	})
	c.fail(errors.Join(err, c.frames.WriteSettingsAck()))
	c.more()
	return nil
}

// data adds to a reply.
func (c *Client) data(f *http2.DataFrame) {
	c.mu.Lock()
	if k := c.calls[f.StreamID]; k != nil {
		k.reply = append(k.reply, f.Data()...)
	}
	c.consumed += f.Length
	if c.consumed > ourWindow/2 {
		c.fail(c.frames.WriteWindowUpdate(0, c.consumed))
		c.consumed = 0
	}
	c.flush()
	if f.StreamEnded() {
		c.finish(f.StreamID, errors.New("wire: a reply without a status"))
	}
}

// finish answers a call.
func (c *Client) finish(stream uint32, err error) {
	c.mu.Lock()
	k := c.calls[stream]
	delete(c.calls, stream)
	c.more()
	switch {
	case k == nil:
	case err != nil:
		k.done(nil, err)
	case len(k.reply) < prefix || k.reply[0] != 0 || uint64(binary.BigEndian.Uint32(k.reply[1:])) != uint64(len(k.reply)-prefix):
		k.done(nil, errors.New("wire: a reply that is not one message, and no reason"))
	default:
		k.done(k.reply[prefix:], nil)
	}
}

// status is what the end of a call says.
func status(f *http2.MetaHeadersFrame) error {
	code, message := "none", ""
	for _, field := range f.Fields {
		switch field.Name {
		case "grpc-status":
			code = field.Value
		case "grpc-message":
			message = field.Value
		}
	}
	if code == "0" {
		return nil
	}
	return fmt.Errorf("wire: status %s: %s", code, message)
}
