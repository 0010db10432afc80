package db

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Streamed is OncePlanned for a transaction of which the first statements are at
// work while the rest is still being made. What fn has sent is committed by Commit,
// and only by it: without it, or if that fails before the end of all is sent, the
// connection is closed, and nothing was done.
//
// The price: statements tell how many rows they changed, and return none.
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
	defer func() { _ = s.close() }()
	err = s.queue(&pgx.QueuedQuery{SQL: to.set, Arguments: []any{to.value}})
	if err == nil {
		err = fn(s.ctx, s)
	}
	s.end(err)
	return classify(ctx, "statement", err)
}

// Stream is one transaction of Streamed, for one goroutine at a time. It is dead
// once the function returns. After an error it has nothing more to give.
type Stream struct {
	ctx      context.Context // the tracer's
	conn     *pgx.Conn
	pipeline *pgconn.Pipeline
	build    pgx.ExtendedQueryBuilder
	prepared map[string]*pgconn.StatementDescription // of the connection, by text
	batch    pgx.Batch                               // all that was queued, for the tracer
	tags     []pgconn.CommandTag                     // answers so far
	tracer   pgx.BatchTracer                         // or nil
}

func open(ctx context.Context, conn *pgx.Conn) *Stream {
	const ours = "fulcrum.stream"
	of := conn.PgConn().CustomData()
	if of[ours] == nil {
		of[ours] = make(map[string]*pgconn.StatementDescription)
	}
	s := &Stream{ctx: ctx, conn: conn, prepared: of[ours].(map[string]*pgconn.StatementDescription)}
	if s.tracer, _ = conn.Config().Tracer.(pgx.BatchTracer); s.tracer != nil {
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

func (s *Stream) queue(q *pgx.QueuedQuery) error {
	if s.pipeline == nil {
		return errDone
	}
	of, err := s.prepare(q.SQL)
	if err != nil {
		return err
	}
	if err := s.build.Build(s.conn.TypeMap(), of, q.Arguments); err != nil {
		return fmt.Errorf("encode the parameters of a statement: %w", err)
	}
	s.batch.QueuedQueries = append(s.batch.QueuedQueries, q)
	s.pipeline.SendQueryStatement(of, s.build.ParamValues, s.build.ParamFormats, slices.Clone(s.build.ResultFormats))
	return nil
}

// prepare describes a statement, once for the connection. What is queued before it
// is answered first.
func (s *Stream) prepare(sql string) (*pgconn.StatementDescription, error) {
	if of := s.prepared[sql]; of != nil {
		return of, nil
	}
	s.pipeline.SendPrepare("stream_"+strconv.Itoa(len(s.prepared)), sql, nil)
	s.pipeline.SendFlushRequest()
	if err := s.pipeline.Flush(); err != nil {
		return nil, err
	}
	if err := s.read(); err != nil {
		return nil, err
	}
	got, err := s.pipeline.GetResults()
	if err != nil {
		return nil, fmt.Errorf("prepare a statement: %w", err)
	}
	of, ok := got.(*pgconn.StatementDescription)
	if !ok {
		return nil, fmt.Errorf("prepare a statement: got %T", got)
	}
	of.Name, of.SQL = "stream_"+strconv.Itoa(len(s.prepared)), sql
	s.prepared[sql] = of
	return of, nil
}

// Send sends what is queued. The server works on it meanwhile.
func (s *Stream) Send() error {
	if s.pipeline == nil {
		return errDone
	}
	return s.pipeline.Flush()
}

// Commit sends what is queued and the end of the transaction, does something of its
// own while the server works, and returns the answer to each statement, in order.
// An error means that nothing was done, or, if Unavailable, that nobody knows.
func (s *Stream) Commit(meanwhile func()) ([]pgconn.CommandTag, error) {
	if s.pipeline == nil {
		return nil, errDone
	}
	if err := s.ctx.Err(); err != nil {
		return nil, fmt.Errorf("commit: %w", err)
	}
	if err := s.pipeline.Sync(); err != nil {
		return nil, err
	}
	meanwhile()
	err := s.read()
	if end := s.close(); err == nil { // the commit's own failure
		err = end
	}
	if err != nil {
		return nil, err
	}
	return s.tags[1:], nil // without the settings
}

// read takes the answers to all that is queued.
func (s *Stream) read() error {
	for len(s.tags) < len(s.batch.QueuedQueries) {
		began := time.Now()
		got, err := s.pipeline.GetResults()
		var tag pgconn.CommandTag
		if err == nil {
			rows, ok := got.(*pgconn.ResultReader)
			if !ok {
				return fmt.Errorf("read the answer to a statement: got %T", got)
			}
			tag, err = rows.Close()
		}
		if s.tracer != nil {
			sql := s.batch.QueuedQueries[len(s.tags)].SQL
			s.tracer.TraceBatchQuery(s.ctx, s.conn, pgx.TraceBatchQueryData{SQL: sql, CommandTag: tag, Err: err, ReadStartTime: began})
		}
		if err != nil {
			return err
		}
		s.tags = append(s.tags, tag)
	}
	return nil
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

// end tells the tracer, and closes a connection that has lost its statements to
// somebody between it and the server.
func (s *Stream) end(err error) {
	if code := code(err); code == "26000" || code == "42P05" {
		_ = s.close()
		_ = s.conn.Close(context.WithoutCancel(s.ctx))
	}
	if s.tracer != nil {
		s.tracer.TraceBatchEnd(s.ctx, s.conn, pgx.TraceBatchEndData{Err: err})
	}
}
