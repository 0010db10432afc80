package db

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Streamed is OncePlanned for a transaction of which the first statements are at
// work while the rest is still being made. What fn has sent is committed by Commit,
// and only by it: without it, or if anything failed before, the connection is
// closed, and nothing was done.
//
// The price: statements tell how many rows they changed, and return none. And
// between Send and Commit the server waits inside a statement's transaction, where
// none of its own limits of time applies before version 17: who uses this runs
// fulcrum.end_stalled from time to time.
func (d *DB) Streamed(ctx context.Context, tenants []uuid.UUID, fn func(ctx context.Context, s *Stream) error) error {
	to, err := many(tenants)
	if err != nil {
		return err
	}
	to.set = setOnce
	conn, err := d.checkout(ctx)
	if err != nil {
		return err
	}
	defer conn.Release() // destroys one that was closed

	s := open(ctx, conn.Conn())
	ended := errPanicked
	defer func() { s.end(ended) }()
	err = s.queue(&pgx.QueuedQuery{SQL: to.set, Arguments: []any{to.value}})
	if err == nil {
		err = fn(s.ctx, s)
	}
	ended = err
	return classify(ctx, "statement", err)
}

// errPanicked is what the tracer is told of a function that did not return.
var errPanicked = errors.New("the function of a stream panicked")

// Stream is one transaction of Streamed, for one goroutine at a time. It is dead
// once the function returns. After an error it takes nothing more.
type Stream struct {
	*kept
	ctx      context.Context // the tracer's
	conn     *pgx.Conn
	pipeline *pgconn.Pipeline
	failed   error               // what made it take nothing more
	batch    pgx.Batch           // all that was queued, for the tracer
	tags     []pgconn.CommandTag // answers so far
}

func open(ctx context.Context, conn *pgx.Conn) *Stream {
	s := &Stream{kept: keptBy(conn), ctx: ctx, conn: conn}
	if s.tracer != nil {
		s.ctx = s.tracer.TraceBatchStart(ctx, conn, pgx.TraceBatchStartData{Batch: &s.batch})
	}
	s.pipeline = conn.PgConn().StartPipeline(s.ctx)
	return s
}

// Queue adds statements to what Send or Commit sends next.
func (s *Stream) Queue(b *pgx.Batch) error {
	for _, q := range b.QueuedQueries {
		if err := s.queue(q); err != nil {
			return err
		}
	}
	return nil
}

// Send sends what is queued. The server works on it meanwhile.
func (s *Stream) Send() error {
	if err := s.usable(); err != nil {
		return err
	}
	return s.fail(s.pipeline.Flush())
}

// Commit sends what is queued and the end of the transaction, does something of its
// own while the server works, and returns the answer to each statement, in order.
// An error means that nothing was done, or, if Unavailable, that nobody knows.
func (s *Stream) Commit(meanwhile func()) ([]pgconn.CommandTag, error) {
	if err := s.usable(); err != nil {
		return nil, err
	}
	if err := s.ctx.Err(); err != nil {
		return nil, s.fail(fmt.Errorf("commit: %w", err))
	}
	if err := s.pipeline.Sync(); err != nil {
		return nil, s.fail(unknown(err))
	}
	meanwhile()
	err := s.read()
	if end := s.close(); err == nil { // the commit's own failure
		err = end
	}
	if err != nil {
		return nil, s.fail(unknown(err))
	}
	return s.tags[1:], nil // without the settings
}

// unknown is an error after the end of the transaction may have been sent: unless
// the server says what is wrong, it may also have done everything.
func unknown(err error) error {
	if _, said := errors.AsType[*pgconn.PgError](err); said {
		return err
	}
	return &Error{Op: "commit", Cause: err}
}

// usable says why the stream takes nothing more, if so.
func (s *Stream) usable() error {
	if s.failed == nil && s.pipeline == nil {
		return errDone
	}
	return s.failed
}

func (s *Stream) fail(err error) error {
	if s.failed == nil {
		s.failed = err
	}
	return err
}

// close ends the pipeline. With statements that were sent and not committed it
// closes the connection, and the server undoes them.
func (s *Stream) close() error {
	if s.pipeline == nil {
		return nil
	}
	p := s.pipeline
	s.pipeline = nil
	return p.Close()
}

// end ends what is still open, tells the tracer, and gives up a connection whose
// statements may be of no more use: lost to somebody between it and the server, or
// of types and tables that are others now.
func (s *Stream) end(err error) {
	_ = s.close()
	if stale(code(err)) {
		_ = s.conn.Close(context.WithoutCancel(s.ctx))
	}
	if s.tracer != nil {
		s.tracer.TraceBatchEnd(s.ctx, s.conn, pgx.TraceBatchEndData{Err: err})
	}
}

// stale reports whether an error may be of a statement that was prepared before
// something changed, and not of its parameters.
func stale(code string) bool {
	switch code {
	case "26000", "42P05", // no such statement, or one already
		"0A000", "XX000": // another result, something looked up is gone
		return true
	}
	return len(code) == 5 && code[:2] == "42" && code != "42501" // not the right to a row
}
