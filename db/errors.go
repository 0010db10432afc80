package db

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"
)

// Error is a failure of the database rather than of the statement: it could not
// be reached, had no connection free, or gave up. Its text names the operation
// and never the statement's values.
type Error struct {
	Op    string // what was being done, e.g. "acquire connection"
	Cause error
}

func (e *Error) Error() string { return fmt.Sprintf("database unavailable: %s: %v", e.Op, e.Cause) }

func (e *Error) Unwrap() error { return e.Cause }

// Unavailable marks the error, without an import of this package, as one that
// a caller may retry later: rpc answers UNAVAILABLE.
func (e *Error) Unavailable() bool { return true }

// Refusal is a call or a start that will fail the same way when repeated.
type Refusal struct {
	Reason string
	Hint   string
}

func (e *Refusal) Error() string {
	if e.Hint == "" {
		return e.Reason
	}
	return e.Reason + " (" + e.Hint + ")"
}

// Unavailable reports whether err means that the database is away or
// overloaded, so that the same call may succeed later.
func Unavailable(err error) bool {
	var u interface{ Unavailable() bool }
	return errors.As(err, &u) && u.Unavailable()
}

// Constraint returns the name of the constraint that err violates, or "".
// Stores tell by it what the caller did wrong; the error's text is not for callers.
func Constraint(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) && len(pg.Code) == 5 && pg.Code[:2] == "23" {
		return pg.ConstraintName
	}
	return ""
}

// Is reports whether err carries the given SQLSTATE.
func Is(err error, sqlstate string) bool { return code(err) == sqlstate }

func code(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code
	}
	return ""
}

// classify turns what the driver says into what the caller can do about it.
// ctx is the caller's: if it ended, that is the reason, whatever broke next.
func classify(ctx context.Context, op string, err error) error {
	if err == nil {
		return nil
	}
	var already *Error
	if errors.As(err, &already) {
		return err
	}
	if cause := ctx.Err(); cause != nil {
		if errors.Is(err, cause) {
			return err
		}
		if lost(err) {
			return fmt.Errorf("%s: %w", op, cause)
		}
	}
	if lost(err) {
		return &Error{Op: op, Cause: err}
	}
	return err
}

// lost reports whether err came from the connection or the server's state and
// not from the statement.
func lost(err error) bool {
	if c := code(err); c != "" {
		switch c[:2] {
		case "08", "53", "58": // connection, resources, I/O
			return true
		}
		switch c {
		case "40001", "40P01", // serialization failure, deadlock
			"25006",                            // read only: a primary that was demoted under our connection
			"55P03", "57014", "25P03", "25P04", // lock, statement, idle and transaction timeouts
			"57P01", "57P02", "57P03", "57P05": // shutting down, crashed, starting, idle session
			return true
		}
		return false
	}
	var connect *pgconn.ConnectError
	return errors.As(err, &connect) || pgconn.SafeToRetry(err) || pgconn.Timeout(err) || isNetwork(err)
}
