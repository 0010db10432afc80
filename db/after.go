package db

import (
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// after is the results of a batch from behind statements of our own, which are
// read first, when somebody wants a result. The error of one of them is the error
// of all that follows.
type after struct {
	pgx.BatchResults
	unread int // statements of our own
	err    error
}

func (a *after) pass() error {
	for ; a.unread > 0 && a.err == nil; a.unread-- {
		_, a.err = a.BatchResults.Exec()
	}
	return a.err
}

func (a *after) Exec() (pgconn.CommandTag, error) {
	if err := a.pass(); err != nil {
		return pgconn.CommandTag{}, err
	}
	return a.BatchResults.Exec()
}

func (a *after) Query() (pgx.Rows, error) {
	if err := a.pass(); err != nil {
		return failed{err}, err
	}
	return a.BatchResults.Query()
}

func (a *after) QueryRow() pgx.Row {
	if err := a.pass(); err != nil {
		return failed{err}
	}
	return a.BatchResults.QueryRow()
}

// Close reads the rest and returns the first error of all.
func (a *after) Close() error {
	err := a.pass()
	if end := a.BatchResults.Close(); err == nil {
		err = end
	}
	return err
}
