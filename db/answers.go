package db

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgtype"
)

// Answers are what the statements of a Direct answered, in order. They end with read.
type Answers struct {
	types  *pgtype.Map // the connection's
	all    []answer
	next   int  // to be read from the connection, or by the caller
	broken bool // the connection ended
}

type answer struct {
	fields []pgconn.FieldDescription
	tag    pgconn.CommandTag
	row    [][]byte
}

// read takes answers until the transaction has ended. Its error is the first.
func (a *Answers) read(from *pgproto3.Frontend) (failed error) {
	for {
		m, err := from.Receive()
		if err != nil {
			a.broken = true
			if failed != nil { // says why
				return failed
			}
			return err
		}
		switch m := m.(type) {
		case *pgproto3.DataRow:
			if r := &a.all[a.next]; r.row == nil {
				r.row = make([][]byte, len(m.Values))
				for i, v := range m.Values {
					r.row[i] = bytes.Clone(v) // nil stays nil
				}
			}
		case *pgproto3.CommandComplete:
			a.all[a.next].tag = pgconn.NewCommandTag(string(m.CommandTag))
			a.next++
		case *pgproto3.ErrorResponse:
			if failed == nil {
				failed = pgconn.ErrorResponseToPgError(m)
			}
		case *pgproto3.ReadyForQuery:
			return failed
		}
	}
}

// Exec returns the tag of the next statement.
func (a *Answers) Exec() (pgconn.CommandTag, error) {
	r, err := a.answer()
	if err != nil {
		return pgconn.CommandTag{}, err
	}
	return r.tag, nil
}

// Query is not to be had: of each statement one row is kept.
func (a *Answers) Query() (pgx.Rows, error) {
	err := errors.New("db: a direct statement answers one row")
	return failed{err}, err
}

// QueryRow returns the first row of the next statement.
func (a *Answers) QueryRow() pgx.Row {
	r, err := a.answer()
	if err != nil {
		return failed{err}
	}
	return answerRow{a.types, r}
}

func (a *Answers) answer() (*answer, error) {
	if a.next >= len(a.all) {
		return nil, errors.New("db: no more answers")
	}
	a.next++
	return &a.all[a.next-1], nil
}

type answerRow struct {
	types *pgtype.Map
	*answer
}

func (r answerRow) Scan(dest ...any) error {
	if r.row == nil {
		return pgx.ErrNoRows
	}
	if len(dest) != len(r.row) {
		return fmt.Errorf("db: %d columns for %d destinations", len(r.row), len(dest))
	}
	for i, d := range dest {
		if err := r.types.Scan(r.fields[i].DataTypeOID, pgtype.BinaryFormatCode, r.row[i], d); err != nil {
			return err
		}
	}
	return nil
}
