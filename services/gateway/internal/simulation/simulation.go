package simulation

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	policyenginev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policyengine/v1"
	lifecyclev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policylifecycle/v1"
)

// Window is what recorded decisions are looked for in.
type Window struct {
	From, To time.Time
	// Shadow names a policy: only decisions that it judged from the shadow.
	Shadow string
}

// Cursor is a place between recorded decisions; the zero Cursor is before the
// newest.
type Cursor struct {
	At time.Time
	ID uuid.UUID
}

// Source reads recorded decisions of one tenant.
type Source interface {
	// Recorded returns up to limit decisions after a place, newest first.
	Recorded(ctx context.Context, tenant uuid.UUID, w Window, after Cursor, limit int) ([]Recorded, error)
}

// Session judges facts with and without some changes of the policies in force.
type Session interface {
	// SetVersion is of the policies that are changed.
	SetVersion() int64
	// Judge answers for each of the facts, in their order.
	Judge(facts []*policyenginev1.Facts) ([]*policyenginev1.SimulatedDecision, error)
}

// Engine opens sessions. It refuses one more than it takes.
type Engine interface {
	// Simulate lasts until ctx ends.
	Simulate(ctx context.Context, changes *policyenginev1.SimulateChanges) (Session, error)
}

// Bounds of one simulation.
const (
	DefaultDecisions = 10_000
	DefaultDays      = 7
	pageSize         = 50
	maxBatchBytes    = 1 << 20
	tellEvery        = 250 * time.Millisecond
	maxTime          = 5 * time.Minute
)

// Order is what is to be simulated.
type Order struct {
	Changes *policyenginev1.SimulateChanges
	Window  Window
	Max     int // decisions; zero is DefaultDecisions
	Samples int
}

// Run judges recorded decisions again, tells how many it has come through, and
// returns what differs. It reads a page at a time and holds no more.
func Run(ctx context.Context, tenant uuid.UUID, from Source, engine Engine, o Order, tell func(judged int64) error) (*lifecyclev1.DifferenceReport, error) {
	ctx, cancel := context.WithTimeout(ctx, maxTime)
	defer cancel()
	session, err := engine.Simulate(ctx, o.Changes)
	if err != nil {
		return nil, err
	}
	b := NewBuilder(o.Samples)
	left := cmp.Or(o.Max, DefaultDecisions)
	told := time.Now()
	truncated := false
	var at Cursor
	for left > 0 {
		page, err := from.Recorded(ctx, tenant, o.Window, at, min(pageSize, left))
		if err == nil {
			err = judge(session, page, b)
		}
		if err != nil {
			if errors.Is(ctx.Err(), context.DeadlineExceeded) && b.report.GetJudged() > 0 {
				truncated = true
				break
			}
			return nil, err
		}
		if len(page) < min(pageSize, left) {
			return b.Report(false, session.SetVersion()), nil
		}
		left -= len(page)
		last := page[len(page)-1]
		at = Cursor{last.At, last.ID}
		if time.Since(told) > tellEvery {
			told = time.Now()
			if err := tell(b.report.GetJudged()); err != nil {
				return nil, err
			}
		}
	}
	if !truncated {
		more, err := from.Recorded(ctx, tenant, o.Window, at, 1)
		truncated = err != nil || len(more) > 0
	}
	return b.Report(truncated, session.SetVersion()), nil
}

// judge sends a page in messages that are not too large.
func judge(session Session, page []Recorded, b *Builder) error {
	for len(page) > 0 {
		n, bytes := 0, 0
		var facts []*policyenginev1.Facts
		for n < len(page) && (n == 0 || bytes < maxBatchBytes) {
			facts = append(facts, page[n].Facts)
			bytes += proto.Size(page[n].Facts)
			n++
		}
		answers, err := session.Judge(facts)
		if err != nil {
			return err
		}
		for i, a := range answers {
			b.Add(page[i], Judgement{Before: a.GetBefore(), After: a.GetAfter(), Reasons: a.GetReasons(), Failed: a.GetNewFailure(), Micros: a.GetDurationUs()})
			if page[i].Judged != a.GetBefore() {
				b.Drifted()
			}
		}
		page = page[n:]
	}
	return nil
}

// Shadowed reports where a policy in shadow differed from the answers; version 0
// is any.
func Shadowed(ctx context.Context, tenant uuid.UUID, from Source, w Window, version int64, samples int) (*lifecyclev1.DifferenceReport, error) {
	b := NewBuilder(samples)
	var at Cursor
	for left := DefaultDecisions; left > 0; left -= pageSize {
		page, err := from.Recorded(ctx, tenant, w, at, pageSize)
		if err != nil {
			return nil, err
		}
		for _, r := range page {
			for _, s := range r.Shadows {
				if s.GetPolicyId() == w.Shadow && (version == 0 || s.GetVersion() == version) {
					b.Add(r, Judgement{Before: s.GetLive(), After: s.GetDecision(), Reasons: s.GetReasons(), Failed: s.GetError() != "", Micros: s.GetDurationUs()})
				}
			}
		}
		if len(page) < pageSize {
			return b.Report(false, 0), nil
		}
		last := page[len(page)-1]
		at = Cursor{last.At, last.ID}
	}
	return b.Report(true, 0), nil
}
