// Package envelope is the life of one governed execution: where it stands,
// where it may go from there, and what its place in a tree asks of it.
package envelope

import (
	"slices"
	"strings"

	envelopev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/envelope/v1"
)

// Status is where an envelope stands, in the words of the published contract.
type Status string

// The statuses. Completed and all after it are final.
const (
	Pending         Status = "PENDING"
	Authorized      Status = "AUTHORIZED"
	Running         Status = "RUNNING"
	Paused          Status = "PAUSED"
	Completed       Status = "COMPLETED"
	Failed          Status = "FAILED"
	Terminated      Status = "TERMINATED"
	Timeout         Status = "TIMEOUT"
	PolicyViolation Status = "POLICY_VIOLATION"
	BudgetExceeded  Status = "BUDGET_EXCEEDED"
)

// moves is fulcrum.envelope_may_move in Go: the database enforces it, this
// explains it. A test keeps the two equal.
var moves = map[Status][]Status{
	Pending:    {Authorized, PolicyViolation, BudgetExceeded, Terminated, Timeout},
	Authorized: {Running, Terminated, Timeout, PolicyViolation, BudgetExceeded},
	Running:    {Paused, Completed, Failed, Terminated, Timeout, PolicyViolation, BudgetExceeded},
	Paused:     {Running, Failed, Terminated, Timeout},
}

// All lists every status, in the order of the contract.
func All() []Status {
	return []Status{Pending, Authorized, Running, Paused, Completed, Failed, Terminated, BudgetExceeded, PolicyViolation, Timeout}
}

// MayMove reports whether an envelope may go from s to next. Staying is not a move.
func (s Status) MayMove(next Status) bool { return slices.Contains(moves[s], next) }

// Final reports whether nothing follows s.
func (s Status) Final() bool { return len(moves[s]) == 0 }

// Acts reports whether actions may be authorized in an envelope that stands at s.
func (s Status) Acts() bool { return s == Authorized || s == Running }

// Forced reports whether s ends an envelope against its will, and with it
// everything below it.
func (s Status) Forced() bool {
	return s == Terminated || s == Timeout || s == PolicyViolation || s == BudgetExceeded
}

// Settable reports whether a caller may ask for s. The other statuses follow
// from decisions, and nobody can give them to himself.
func (s Status) Settable() bool {
	return s == Running || s == Paused || s == Completed || s == Failed || s == Terminated
}

const prefix = "ENVELOPE_STATUS_"

// Proto is s on the wire.
func (s Status) Proto() envelopev1.EnvelopeStatus {
	return envelopev1.EnvelopeStatus(envelopev1.EnvelopeStatus_value[prefix+string(s)])
}

// FromProto is the reverse of Proto: "" for an unspecified or unknown status.
func FromProto(p envelopev1.EnvelopeStatus) Status {
	name, ok := envelopev1.EnvelopeStatus_name[int32(p)]
	if !ok || p == envelopev1.EnvelopeStatus_ENVELOPE_STATUS_UNSPECIFIED {
		return ""
	}
	return Status(strings.TrimPrefix(name, prefix))
}
