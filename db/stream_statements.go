package db

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// queue encodes a statement into what is sent next.
func (s *Stream) queue(q *pgx.QueuedQuery) error {
	if err := s.usable(); err != nil {
		return err
	}
	of, err := s.prepare(q.SQL)
	if err != nil {
		return s.fail(err)
	}
	if err := s.build.Build(s.conn.TypeMap(), of, q.Arguments); err != nil {
		return s.fail(fmt.Errorf("encode the parameters of a statement: %w", err))
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
