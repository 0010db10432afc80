package db

import (
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

// kept is what a connection keeps from one stream to the next.
type kept struct {
	prepared map[string]prepared // by text
	tracer   pgx.BatchTracer     // or nil

	// The parameters of one statement, and the messages to be sent. The driver makes
	// both anew each time, which was two fifths of all that a batch allocated.
	bytes   []byte
	values  [][]byte
	formats []int16
	sending room
}

type prepared struct {
	*pgconn.StatementDescription
	results []int16 // formats of its columns
}

func keptBy(conn *pgx.Conn) *kept {
	const ours = "fulcrum.stream"
	of := conn.PgConn().CustomData()
	if k, ok := of[ours].(*kept); ok {
		return k
	}
	k := &kept{prepared: make(map[string]prepared)}
	k.tracer, _ = conn.Config().Tracer.(pgx.BatchTracer) // copies the configuration
	of[ours] = k
	return k
}

// leastKept and mostKept are how many bytes for parameters are kept.
const leastKept, mostKept = 4 << 10, 256 << 10

// encode fills values and formats, which are good until the next call.
func (k *kept) encode(m *pgtype.Map, of prepared, args []any) error {
	if len(args) != len(of.ParamOIDs) {
		return fmt.Errorf("%d parameters for a statement of %d", len(args), len(of.ParamOIDs))
	}
	if k.bytes == nil || cap(k.bytes) > mostKept {
		k.bytes = make([]byte, 0, leastKept) // not nil: that is what null is encoded as
	}
	k.bytes, k.values, k.formats = k.bytes[:0], k.values[:0], k.formats[:0]
	for i, arg := range args {
		format := m.FormatCodeForOID(of.ParamOIDs[i])
		switch arg.(type) {
		case string, *string: // also of a uuid, a time, a number
			format = pgtype.TextFormatCode
		}
		from := len(k.bytes)
		bytes, err := m.Encode(of.ParamOIDs[i], format, arg, k.bytes)
		if err != nil {
			return fmt.Errorf("parameter %d: %w", i+1, err)
		}
		k.formats = append(k.formats, format)
		if bytes == nil { // null
			k.values = append(k.values, nil)
			continue
		}
		k.bytes = bytes
		k.values = append(k.values, bytes[from:len(bytes):len(bytes)])
	}
	return nil
}

// room is a message without bytes: it gives what the driver collects messages in
// the room that the next needs. The driver drops its own whenever that was large.
type room struct {
	bytes []byte
	need  int
}

// Encode implements pgproto3.FrontendMessage.
func (r *room) Encode(collected []byte) ([]byte, error) {
	size := len(collected) + r.need
	if cap(collected) >= size {
		return collected, nil
	}
	if cap(r.bytes) < size || cap(r.bytes) > mostKept {
		r.bytes = make([]byte, 0, max(size+size/2, leastKept))
	}
	r.bytes = append(r.bytes[:0], collected...)
	return r.bytes, nil
}

// Decode implements pgproto3.FrontendMessage.
func (*room) Decode([]byte) error { return errNotReceived }

var errNotReceived = errors.New("not a message that is received")

// Frontend implements pgproto3.FrontendMessage.
func (*room) Frontend() {}

// makeRoom is for the messages of a statement with the parameters that are encoded.
func (k *kept) makeRoom(conn *pgconn.PgConn, of prepared) {
	const each, others = 4 + 2, 128 // a length and a format; all that is of one size
	k.sending.need = others + len(of.Name) + len(k.bytes) + each*len(k.values) + 2*len(of.results)
	conn.Frontend().Send(&k.sending)
}
