// Package webhook tells tenants' own servers what happened: signed, at least
// once, in the form of Standard Webhooks.
package webhook

import (
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
)

// Endpoint is where a tenant is told.
type Endpoint struct {
	ID          uuid.UUID
	URL         string
	Description string
	Types       []string // what it is told; empty: everything
	Health
	LastAttempt time.Time // zero: never
	LastSuccess time.Time // zero: never
	CreatedBy   string
	CreatedAt   time.Time
	UpdatedAt   time.Time
	Pending     int64 // messages that wait
}

// Health is how an endpoint does.
type Health struct {
	Disabled     string // why nothing is sent; "": it is
	Failures     int32  // since the last success
	FailingSince time.Time
	LastError    string // of the last attempt; "": it went well
}

// Message is one message on its way to one endpoint.
type Message struct {
	Tenant, Endpoint, Event uuid.UUID
	Type                    string
	Body                    []byte
	URL                     string
	Attempt                 int32 // this one included
	CreatedAt               time.Time
}

// ID is the webhook-id: the same for every attempt, and for every endpoint that
// is told of the event.
func (m Message) ID() string { return MessageID(m.Event) }

// MessageID is the webhook-id of what tells of an event.
func MessageID(event uuid.UUID) string { return "msg_" + strings.ReplaceAll(event.String(), "-", "") }

// Result is how an attempt went.
type Result struct {
	Status     int           // 0: there was no answer
	Error      string        // "": it was delivered
	RetryAfter time.Duration // what the endpoint asked for; 0: nothing
	Took       time.Duration
}

// Delivered reports whether the endpoint has it.
func (r Result) Delivered() bool { return r.Error == "" }

// MostEndpoints is how many endpoints a tenant may have.
const MostEndpoints = 20

// ErrNotFound says that a tenant has no such endpoint.
func ErrNotFound(id uuid.UUID) error {
	return fault.New(fault.NotFound, "there is no webhook %s", id).WithReason("WEBHOOK_NOT_FOUND").WithMeta("webhook_id", id.String())
}
