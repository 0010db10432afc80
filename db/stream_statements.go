package db

import (
	"fmt"
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
	if err := s.encode(s.conn.TypeMap(), of, q.Arguments); err != nil {
		return s.fail(fmt.Errorf("encode the parameters of a statement: %w", err))
	}
	s.batch.QueuedQueries = append(s.batch.QueuedQueries, q)
	s.makeRoom(s.conn.PgConn(), of)
	s.pipeline.SendQueryStatement(of.StatementDescription, s.values, s.formats, of.results)
	return nil
}

// prepare describes a statement, once for the connection. What is queued before it
// is answered first.
func (s *Stream) prepare(sql string) (prepared, error) {
	if of, ok := s.prepared[sql]; ok {
		return of, nil
	}
	name := "stream_" + strconv.Itoa(len(s.prepared))
	s.pipeline.SendPrepare(name, sql, nil)
	s.pipeline.SendFlushRequest()
	if err := s.pipeline.Flush(); err != nil {
		return prepared{}, err
	}
	if err := s.read(); err != nil {
		return prepared{}, err
	}
	got, err := s.pipeline.GetResults()
	if err != nil {
		return prepared{}, fmt.Errorf("prepare a statement: %w", err)
	}
	described, ok := got.(*pgconn.StatementDescription)
	if !ok {
		return prepared{}, fmt.Errorf("prepare a statement: got %T", got)
	}
	described.Name, described.SQL = name, sql
	of := prepared{StatementDescription: described}
	for _, column := range described.Fields {
		of.results = append(of.results, s.conn.TypeMap().FormatCodeForOID(column.DataTypeOID))
	}
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
