// Package journal keeps the events of every tenant: each exactly once, in one
// order per tenant, numbered without gaps within its execution.
package journal

import (
	"strings"
	"time"

	"github.com/google/uuid"
)

// Fact is one event on its way into the journal.
type Fact struct {
	Tenant     uuid.UUID
	ID         uuid.UUID
	Type       string
	System     bool // Fulcrum states it; otherwise a caller does
	Writer     string
	OccurredAt time.Time

	ExecutionID, EnvelopeID, WorkflowID string
	Actor, Action, Resource, Decision   string
	PolicyVersion                       int64
	AgentID, Team, APIKeyID, UserID     string
	TraceID, SpanID                     string

	Payload string // a JSON object
	Labels  string // a JSON object of strings
	Size    int    // bytes, as it travelled

	Final  bool // its execution is over with it
	Failed bool // something went wrong for the agent

	Stage Stage // of the envelope that it is about

	Cost    *Cost    // nil: nothing was charged
	Latency *Latency // nil: nothing was decided
}

// Stage is what a fact says of an envelope's life. One that is refused when it is
// opened has both.
type Stage struct {
	Opened bool
	Ended  Ending
}

// Ending is how an envelope ended; empty if it goes on.
type Ending string

// The endings.
const (
	Completed  Ending = "completed"
	Failed     Ending = "failed"
	Terminated Ending = "terminated" // by hand, by a limit, by a policy or by time
)

// Cost is what a settlement charged.
type Cost struct {
	Model                            string
	Nano                             int64 // nano-USD
	Input, Output, Cached, Reasoning int64 // tokens
	LLMCalls, ToolCalls, Seconds     int64
	PriceVersion, Reservation        string
}

// Latency is where a decision's time went.
type Latency struct{ Total, Evaluate, Reserve time.Duration }

// Loose is the execution key of events that belong to no execution.
const Loose = "-"

// Key names the execution whose numbering the fact takes part in.
func (f Fact) Key() string {
	switch {
	case f.ExecutionID != "":
		return f.ExecutionID
	case f.EnvelopeID != "":
		return f.EnvelopeID
	}
	return Loose
}

// Decided reports whether the fact is an answer of ours to an agent. What
// callers publish never counts as one.
func (f Fact) Decided() bool { return f.System && f.Type == "decision_made" }

// Denied reports whether that answer was no.
func (f Fact) Denied() bool { return f.Decided() && f.Decision == "DENY" }

// Charged returns what the fact charged; nil unless we say so ourselves.
func (f Fact) Charged() *Cost {
	if !f.System {
		return nil
	}
	return f.Cost
}

// Timed returns how long our answer took; nil if the fact is none.
func (f Fact) Timed() *Latency {
	if !f.System {
		return nil
	}
	return f.Latency
}

// Text is s as the journal keeps it. It has no place for the character zero;
// losing the event over one would be worse than the mark that stands for it.
func Text(s string) string { return strings.ReplaceAll(s, "\x00", "\uFFFD") }
