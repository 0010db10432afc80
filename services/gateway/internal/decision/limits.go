package decision

import (
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/pkg/identity"
	"github.com/fulcrum-io/fulcrum/pkg/quota"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"

	"github.com/fulcrum-io/fulcrum/services/gateway/internal/envelope"
)

// Take is an entry's part of one counter. It is taken in the transaction that
// records the entry, or the entry is not recorded.
type Take struct {
	Counter  uuid.UUID
	Label    string    // the counter in words
	Envelope uuid.UUID // of a counter that goes with an envelope: by envelope it, by session its root
	Amount   int64
	Seconds  int64  // for how long it counts; zero: to the end of Piece, or else forever
	Piece    string // of the calendar
	Forced   bool   // taken even where there is no room

	Limit quota.Limit
}

// Unit is what an entry of the counter is called.
func (t *Take) Unit() string {
	switch t.Limit.Kind {
	case quota.Parallel:
		return "slot"
	case quota.Remember:
		return "mark"
	}
	return string(t.Limit.Of)
}

// Fits reports whether there is room where so much is taken.
func (t *Take) Fits(taken int64) bool {
	switch t.Limit.Kind {
	case quota.Remember, quota.Count:
		return true
	case quota.After:
		return t.Forced || taken == 0
	}
	return t.Forced || t.Amount <= t.Limit.Max-taken
}

// Adds reports whether it is to be counted where so much is counted for good.
// What only looks adds nothing, and one mark without an end is enough.
func (t *Take) Adds(taken int64) bool {
	return t.Limit.Kind != quota.After && !(t.Limit.Kind == quota.Remember && t.Seconds == 0 && t.Piece == "" && taken > 0)
}

// Ending is what becomes of what an earlier decision took.
type Ending struct {
	Decision uuid.UUID
	Undone   bool                  // the action did not happen: what it took is given back
	Charged  *governancev1.Amounts // what it really used, if it did
}

// FullError says that an entry was not recorded because limits leave no room
// for it.
type FullError struct{ Full []Full }

// Full is a take that did not fit.
type Full struct {
	Take  int // of the entry
	Taken int64
	In    time.Duration // until room comes by itself; zero: nobody knows
}

func (e *FullError) Error() string { return fmt.Sprintf("%d limits leave no room", len(e.Full)) }

// counted is whom a limit can count apart.
type counted struct {
	who      identity.Principal
	actor    actor
	env      *envelope.Envelope // nil: none
	workflow string
	tool     string
}

// is names who is counted in one dimension; "" if nobody is known.
func (c *counted) is(by string) string {
	switch by {
	case "tenant":
		return "all"
	case "session":
		if c.env != nil {
			return c.env.Root.String()
		}
	case "envelope":
		if c.env != nil {
			return c.env.ID.String()
		}
	case "agent":
		if c.actor.agentID == "" {
			return "key:" + c.who.KeyID
		}
		return c.actor.agentID
	case "key":
		return c.who.KeyID
	case "team":
		return c.actor.team
	case "user":
		return c.actor.userID
	case "workflow":
		return c.workflow
	case "tool":
		return c.tool
	}
	return ""
}

// takes reads what matched rules want counted. The problem it returns is for
// the caller: a limit that cannot be kept is no limit, and must deny.
func (c *counted) takes(obligations []*governancev1.Obligation) (takes []Take, problem *governancev1.Reason) {
	for _, o := range obligations {
		if o.GetType() != quota.Obligation {
			continue
		}
		l, err := quota.Parse(o.GetParameters())
		if err != nil {
			return nil, limitReason(quota.Limit{Policy: o.GetParameters()["policy_id"], Rule: o.GetParameters()["rule_id"]},
				"LIMIT_INVALID", "a limit cannot be read: "+err.Error(), deny)
		}
		t, missing := c.take(l)
		if missing != "" {
			return nil, limitReason(l, "LIMIT_SUBJECT_UNKNOWN", "a limit counts by "+missing+", and this action has none", deny)
		}
		takes = append(takes, t)
	}
	return takes, nil
}

func (c *counted) take(l quota.Limit) (t Take, missing string) {
	t = Take{Amount: 1, Seconds: int64(l.Per / time.Second), Piece: l.Calendar, Limit: l}
	parts := []string{"limit", c.who.Tenant.String()}
	name := "rule " + l.Rule + " of policy " + l.Policy
	switch {
	case l.Kind == quota.Remember || l.Kind == quota.After:
		parts, name = append(parts, "mark", l.Name), "mark "+l.Name
	case l.Name != "":
		parts, name = append(parts, "counter", l.Name), "counter "+l.Name
	default:
		parts = append(parts, "rule", l.Policy, l.Rule)
	}
	switch l.Kind {
	case quota.Window, quota.Count:
		parts = append(parts, "window", string(l.Of), fmt.Sprint(l.Per), l.Calendar, l.Zone)
		name += ", " + string(l.Of) + " per " + window(l)
	case quota.Parallel:
		parts, name = append(parts, "parallel"), name+", in parallel"
	}
	for _, by := range l.By {
		value := c.is(by)
		if value == "" {
			return Take{}, by
		}
		parts, name = append(parts, by, value), name+", "+by+" "+value
		if by == "envelope" {
			t.Envelope = c.env.ID
		} else if by == "session" && t.Envelope == uuid.Nil {
			t.Envelope = c.env.Root
		}
	}
	t.Counter, t.Label = idFrom(digest(parts...)), clip(name, 512)
	return t, ""
}

// window names the window of a limit.
func window(l quota.Limit) string {
	if l.Calendar != "" {
		return "calendar " + l.Calendar
	}
	return short(l.Per)
}

// short writes a duration without the zeros at its end.
func short(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// limited reports whether a decision took something.
func limited(obligations []*governancev1.Obligation) bool {
	for _, o := range obligations {
		if o.GetType() == quota.Obligation {
			return true
		}
	}
	return false
}

// ending is what an entry about d does to what d took; nil if d took nothing.
func ending(d Record, undone bool, charged *governancev1.Amounts) *Ending {
	if !limited(d.Response.GetObligations()) {
		return nil
	}
	return &Ending{Decision: d.ID, Undone: undone, Charged: charged}
}

func limitReason(l quota.Limit, name, text string, d governancev1.Decision) *governancev1.Reason {
	severity := "HIGH"
	if d == warn {
		severity = "MEDIUM"
	}
	return &governancev1.Reason{PolicyId: l.Policy, RuleId: l.Rule, RuleName: name, Message: text, Severity: severity, Decision: d}
}
