package journal

import (
	"time"

	"github.com/google/uuid"
)

// Counters are what some facts of one agent add up to in one minute.
type Counters struct {
	Tenant uuid.UUID
	Agent  string
	Minute time.Time
	Last   time.Time // when the last of them happened

	Events, Errors, Decisions, Denials int64
	CostNano, Input, Output            int64
}

// The measured time of a fact is when it happened, unless that is so far from
// when it is stored that it can only be wrong, or the clock of a caller: such
// times would spread telemetry over days that have no partition.
const (
	tooOld   = 7 * 24 * time.Hour
	tooEarly = 5 * time.Minute
)

// MeasuredAt is the time under which telemetry files a fact stored at now.
func MeasuredAt(f Fact, now time.Time) time.Time {
	if f.OccurredAt.Before(now.Add(-tooOld)) || f.OccurredAt.After(now.Add(tooEarly)) {
		return now
	}
	return f.OccurredAt
}

// Count adds up facts by tenant, agent and minute.
func Count(facts []Fact, now func(uuid.UUID) time.Time) []Counters {
	type key struct {
		tenant uuid.UUID
		agent  string
		minute int64
	}
	index := make(map[key]int)
	var out []Counters
	for _, f := range facts {
		at := MeasuredAt(f, now(f.Tenant))
		minute := at.UTC().Truncate(time.Minute)
		k := key{f.Tenant, f.AgentID, minute.Unix()}
		i, ok := index[k]
		if !ok {
			i, index[k] = len(out), len(out)
			out = append(out, Counters{Tenant: f.Tenant, Agent: f.AgentID, Minute: minute, Last: at})
		}
		out[i].add(f, at)
	}
	return out
}

func (c *Counters) add(f Fact, at time.Time) {
	if at.After(c.Last) {
		c.Last = at
	}
	c.Events++
	if f.Failed {
		c.Errors++
	}
	if f.Decided() {
		c.Decisions++
	}
	if f.Denied() {
		c.Denials++
	}
	if cost := f.Charged(); cost != nil {
		c.CostNano += cost.Nano
		c.Input += cost.Input
		c.Output += cost.Output
	}
}
