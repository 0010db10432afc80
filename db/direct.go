package db

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgtype"
)

// Direct does queries as one transaction over the rows of several tenants, in one
// round trip, like a SendBatch through OneTenants. It is for large statements that
// are sent all the time: arguments are written once, straight into what is sent,
// which the driver copies several times. What a statement answers is its
// tag and its first row; read gets the answers once all is committed, and only
// then. ctx bounds it by its deadline only.
func (d *DB) Direct(ctx context.Context, tenants []uuid.UUID, queries []*pgx.QueuedQuery, read func(*Answers) error) error {
	s, err := many(tenants)
	if err != nil {
		return err
	}
	conn, err := d.checkout(ctx)
	if err != nil {
		return err
	}
	defer conn.Release() // which destroys one that was closed
	a, err := direct(ctx, conn.Conn(), append([]*pgx.QueuedQuery{{SQL: s.set, Arguments: []any{s.value}}}, queries...))
	if err != nil {
		return classify(ctx, "statement", err)
	}
	a.next = 1 // the first is of the tenants' statement
	defer func() { a.all = nil }()
	return read(a)
}

// sender is what a connection keeps for Direct.
type sender struct {
	statements map[string]*pgconn.StatementDescription // prepared on it, by their text
	names      int                                     // given so far
	buf        []byte
}

// mostKept bounds the memory that a connection keeps for what it sends.
const mostKept = 1 << 20

func senderOf(conn *pgx.Conn) *sender {
	const key = "fulcrum direct"
	s, _ := conn.PgConn().CustomData()[key].(*sender)
	if s == nil {
		s = &sender{statements: make(map[string]*pgconn.StatementDescription)}
		conn.PgConn().CustomData()[key] = s
	}
	return s
}

func direct(ctx context.Context, conn *pgx.Conn, queries []*pgx.QueuedQuery) (*Answers, error) {
	s := senderOf(conn)
	if err := s.prepare(ctx, conn, queries); err != nil {
		return nil, err
	}
	a := &Answers{types: conn.TypeMap(), all: make([]answer, len(queries))}
	out := s.buf[:0]
	for i, q := range queries {
		known := s.statements[q.SQL]
		a.all[i].fields = known.Fields
		var err error
		if out, err = bind(out, conn.TypeMap(), known, q.Arguments); err != nil {
			return nil, err
		}
		out, _ = (&pgproto3.Execute{}).Encode(out) // fails for what is too long only
	}
	out, _ = (&pgproto3.Sync{}).Encode(out)
	if s.buf = out; cap(out) > mostKept {
		s.buf = nil
	}

	link := conn.PgConn().Conn()
	deadline, _ := ctx.Deadline()
	_ = link.SetDeadline(deadline)
	_, err := link.Write(out)
	if err == nil {
		err = a.read(conn.PgConn().Frontend())
	}
	var refused *pgconn.PgError
	if err != nil && (!errors.As(err, &refused) || a.broken) {
		over, cancel := context.WithCancel(ctx)
		cancel() // no goodbye
		_ = conn.Close(over)
		return nil, err
	}
	_ = link.SetDeadline(time.Time{})
	return a, err
}

// prepare makes the connection know all statements, in one round trip if there are
// new ones.
func (s *sender) prepare(ctx context.Context, conn *pgx.Conn, queries []*pgx.QueuedQuery) error {
	var unknown []*pgconn.StatementDescription
	for _, q := range queries {
		if s.statements[q.SQL] == nil && !slices.ContainsFunc(unknown, func(u *pgconn.StatementDescription) bool { return u.SQL == q.SQL }) {
			s.names++
			unknown = append(unknown, &pgconn.StatementDescription{Name: fmt.Sprintf("direct_%d", s.names), SQL: q.SQL})
		}
	}
	if len(unknown) == 0 {
		return nil
	}
	p := conn.PgConn().StartPipeline(ctx)
	for _, u := range unknown {
		p.SendPrepare(u.Name, u.SQL, nil)
	}
	err := p.Sync()
	for i := 0; i < len(unknown) && err == nil; i++ {
		var got any
		if got, err = p.GetResults(); err == nil {
			described := got.(*pgconn.StatementDescription)
			unknown[i].ParamOIDs, unknown[i].Fields = described.ParamOIDs, described.Fields
		}
	}
	if end := p.Close(); err == nil {
		err = end
	}
	if err != nil {
		return err // they are asked for again under other names
	}
	for _, u := range unknown {
		s.statements[u.SQL] = u
	}
	return nil
}

// bind appends the message that gives a prepared statement its arguments, and asks
// for binary results. Text is sent as it is, and everything else as the binary form
// of its type.
func bind(buf []byte, types *pgtype.Map, s *pgconn.StatementDescription, args []any) ([]byte, error) {
	if len(args) != len(s.ParamOIDs) {
		return buf, fmt.Errorf("db: %d arguments for %d parameters", len(args), len(s.ParamOIDs))
	}
	start := len(buf)
	buf = append(buf, 'B', 0, 0, 0, 0, 0) // the length, when it is known; the portal without a name
	buf = append(append(buf, s.Name...), 0)
	buf = binary.BigEndian.AppendUint16(buf, uint16(len(args)))
	for _, arg := range args {
		format := uint16(pgtype.BinaryFormatCode)
		if _, ok := arg.(string); ok {
			format = uint16(pgtype.TextFormatCode)
		}
		buf = binary.BigEndian.AppendUint16(buf, format)
	}
	buf = binary.BigEndian.AppendUint16(buf, uint16(len(args)))
	for i, arg := range args {
		at := len(buf)
		buf = append(buf, 0xff, 0xff, 0xff, 0xff) // NULL
		if text, ok := arg.(string); ok {
			buf = append(buf, text...)
		} else {
			with, err := types.Encode(s.ParamOIDs[i], pgtype.BinaryFormatCode, arg, buf)
			if err != nil {
				return buf, fmt.Errorf("db: argument %d: %w", i+1, err)
			}
			if with == nil {
				continue
			}
			buf = with
		}
		binary.BigEndian.PutUint32(buf[at:], uint32(len(buf)-at-4))
	}
	buf = append(buf, 0, 1, 0, byte(pgtype.BinaryFormatCode)) // of all columns
	binary.BigEndian.PutUint32(buf[start+1:], uint32(len(buf)-start-1))
	return buf, nil
}
