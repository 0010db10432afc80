// Package books is the ledger as those see it who audit and run it.
package books

import (
	"encoding/base64"
	"encoding/json"
	"time"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/amount"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/ledger"
)

// Line is an entry as it is exported.
type Line struct {
	ledger.Entry
	Kind        string
	At          time.Time
	Reservation uuid.UUID // uuid.Nil without one
	OfHold      bool      // its transaction is the hold itself: those come after all others
}

// Cursor is how far an export came: the span it is of, and the last line.
type Cursor struct {
	From    time.Time `json:"f"`
	To      time.Time `json:"t"`
	Account string    `json:"a,omitempty"` // only this one

	Budget      string    `json:"b"`
	Window      time.Time `json:"w"`
	At          time.Time `json:"o"`
	Transaction uuid.UUID `json:"x"`
	Line        int16     `json:"l"`
	Holds       bool      `json:"-"` // all others were listed
}

// carried is a Cursor as callers carry it. One among holds is a field, so that a
// release that knows of none refuses it.
type carried struct {
	Cursor
	Holds *Cursor `json:"h,omitempty"`
}

// Begin is the cursor before the first line of [from, to).
func Begin(from, to time.Time, account string) Cursor {
	return Cursor{From: from, To: to, Account: account, Window: from.AddDate(-5000, 0, 0).UTC(), At: from, Line: -1}
}

// After is the cursor after a line.
func (c Cursor) After(l Line) Cursor {
	c.Budget, c.Window, c.At, c.Transaction, c.Line, c.Holds = l.Window.Budget, l.Window.StartTime(), l.At, l.Transaction, l.Entry.Line, l.OfHold
	return c
}

// BeforeHolds is the cursor after all lines but those of holds.
func (c Cursor) BeforeHolds() Cursor {
	c.Holds, c.At, c.Transaction, c.Line = true, c.From, uuid.Nil, -1
	return c
}

// Text is the cursor as callers carry it. It gives them no right: what it
// points at is looked up within their own tenant.
func (c Cursor) Text() string {
	var out any = c
	if c.Holds {
		c.Budget = "" // holds are listed by time
		out = map[string]Cursor{"h": c}
	}
	raw, err := json.Marshal(out)
	if err != nil {
		panic(err) // of times and texts
	}
	return base64.RawURLEncoding.EncodeToString(raw)
}

// ParseCursor reads a Text, or returns a fault.
func ParseCursor(text string) (c Cursor, err error) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(text)
	var in carried
	if err == nil {
		err = json.Unmarshal(raw, &in)
	}
	if c = in.Cursor; in.Holds != nil {
		c = *in.Holds
		c.Holds = true
	}
	if err != nil || c.From.IsZero() || !c.From.Before(c.To) {
		return c, fault.Field("cursor", "is not one that this server gave").WithReason("CURSOR_INVALID")
	}
	return c, nil
}

// OpenHold is a hold that has not ended.
type OpenHold struct {
	ID                     uuid.UUID
	CreatedAt, ExpiresAt   time.Time
	Amounts                amount.Amounts
	Agent, Envelope, Model string
	Accounts               []string
}

// HoldQuery selects open holds: those that run out first, first.
type HoldQuery struct {
	Tenant    uuid.UUID
	Account   string        // only holds in this one
	OlderThan time.Duration // since they were granted
	PastSweep bool          // also those that the sweep went past
	After     HoldCursor
	Most      int
}

// HoldCursor is where a page of holds ended.
type HoldCursor struct {
	Expiry time.Time `json:"e"`
	ID     uuid.UUID `json:"i"`
}
