// Package fault is the error vocabulary that crosses Fulcrum's boundaries.
//
// Return a fault when the caller can act on what went wrong, and any other
// error when only an operator can. Package rpc is the one place that turns
// faults into gRPC codes and HTTP answers, and back.
package fault

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Kind says what the caller can do next. A Kind is itself an error, so
// errors.Is(err, fault.NotFound) holds through any wrapping.
type Kind string

// The kinds, each with what the caller can do.
const (
	Invalid         Kind = "invalid"             // fix the request
	Unauthenticated Kind = "unauthenticated"     // present a valid credential
	Denied          Kind = "permission denied"   // ask somebody for the right
	NotFound        Kind = "not found"           // stop asking
	Conflict        Kind = "conflict"            // read again, then retry
	Exists          Kind = "already exists"      // use the one that is there
	Precondition    Kind = "failed precondition" // change the state first
	Exhausted       Kind = "resource exhausted"  // a limit is spent; wait or raise it
	Down            Kind = "unavailable"         // retry later
	Deadline        Kind = "deadline exceeded"   // retry with more time, same idempotency key
)

// Error makes a Kind a target for errors.Is.
func (k Kind) Error() string { return string(k) }

// Violation is one thing wrong with one field of a request. Field is the path
// as the caller wrote it, like "rules[2].conditions[0].field".
type Violation struct{ Field, Description string }

// Error is a failure whose Msg, Hint, Violations and Meta are safe to show to
// the caller. It is a value: the With methods return changed copies, so a
// package may keep one as a sentinel.
type Error struct {
	Kind       Kind
	Reason     string // UPPER_SNAKE, stable, for programs; "" means Code's default
	Msg        string // one sentence for people
	Hint       string // what to do next; may be ""
	Violations []Violation
	RetryAfter time.Duration // 0: nothing to say
	Meta       map[string]string
	Cause      error // for the operator's log only; may be nil
}

// New returns a fault with a message written for the caller.
func New(k Kind, format string, a ...any) *Error {
	return &Error{Kind: k, Msg: sprintf(format, a)}
}

// Field returns an Invalid fault about one field.
func Field(field, format string, a ...any) *Error {
	return Fields(Violation{Field: field, Description: sprintf(format, a)})
}

// Fields returns an Invalid fault that names everything wrong at once.
func Fields(vs ...Violation) *Error {
	e := &Error{Kind: Invalid, Violations: vs}
	switch len(vs) {
	case 0:
		e.Msg = "the request is invalid"
	case 1:
		e.Msg = vs[0].String()
	default:
		e.Msg = fmt.Sprintf("%s (and %d more)", vs[0], len(vs)-1)
	}
	return e
}

// String is "field: description".
func (v Violation) String() string {
	if v.Field == "" {
		return v.Description
	}
	return v.Field + ": " + v.Description
}

// WithReason sets the stable code that programs read, like "BUDGET_EXCEEDED".
func (e *Error) WithReason(reason string) *Error {
	c := *e
	c.Reason = reason
	return &c
}

// WithHint says what the caller should do next.
func (e *Error) WithHint(hint string) *Error {
	c := *e
	c.Hint = hint
	return &c
}

// WithRetry says when trying again makes sense.
func (e *Error) WithRetry(after time.Duration) *Error {
	c := *e
	c.RetryAfter = after
	return &c
}

// WithCause keeps err for the operator's log. The caller never sees it.
func (e *Error) WithCause(err error) *Error {
	c := *e
	c.Cause = err
	return &c
}

// WithMeta adds one machine-readable fact for the caller.
func (e *Error) WithMeta(key, value string) *Error {
	c := *e
	c.Meta = maps.Clone(e.Meta)
	if c.Meta == nil {
		c.Meta = make(map[string]string, 1)
	}
	c.Meta[key] = value
	return &c
}

// WithViolation adds one more thing that is wrong with the request.
func (e *Error) WithViolation(field, format string, a ...any) *Error {
	c := *e
	c.Violations = append(slices.Clip(e.Violations), Violation{Field: field, Description: sprintf(format, a)})
	return &c
}

// Error is the message, and the cause after it: a text for logs, not for callers.
func (e *Error) Error() string {
	switch {
	case e == nil: // a nil *Error that became an error on its way: a mistake, but no panic
		return "nil fault"
	case e.Cause == nil:
		return e.Msg
	}
	return e.Msg + ": " + e.Cause.Error()
}

// Unwrap makes errors.Is see the Kind and the cause.
func (e *Error) Unwrap() []error {
	switch {
	case e == nil:
		return nil
	case e.Cause == nil:
		return []error{e.Kind}
	}
	return []error{e.Kind, e.Cause}
}

// Code is Reason, or when there is none the kind in UPPER_SNAKE.
func (e *Error) Code() string {
	if e.Reason != "" {
		return e.Reason
	}
	return strings.ToUpper(strings.ReplaceAll(string(e.Kind), " ", "_"))
}

// As returns the outermost fault in err's tree.
func As(err error) (*Error, bool) {
	e, ok := errors.AsType[*Error](err)
	return e, ok && e != nil
}

// Is reports whether err is, or wraps, a fault of kind k.
func Is(err error, k Kind) bool { return errors.Is(err, k) }

// HasReason reports whether the outermost fault in err carries this Reason.
func HasReason(err error, reason string) bool {
	e, ok := As(err)
	return ok && e.Code() == reason
}

// sprintf leaves a format without arguments alone, so that a message with a
// percent sign in it is not mangled.
func sprintf(format string, a []any) string {
	if len(a) == 0 {
		return format
	}
	return fmt.Sprintf(format, a...)
}
