// Package executions says how many executions there were, and how they ended.
package executions

import (
	"context"
	"time"

	"github.com/google/uuid"
)

// Quarter is how finely executions are counted by time.
const Quarter = 15 * time.Minute

// Query selects executions by when they were opened, and when they ended.
type Query struct {
	Workflow    string // empty: all
	From, Until time.Time
	GroupBy     string // workflow, team, agent, key, day, week, month, or empty for one group
	Zone        *time.Location
}

// Count is how many of one group were opened and ended.
type Count struct {
	Group                                 string
	Opened, Completed, Failed, Terminated int64
}

// Plus adds up two counts under c's group.
func (c Count) Plus(o Count) Count {
	c.Opened, c.Completed = c.Opened+o.Opened, c.Completed+o.Completed
	c.Failed, c.Terminated = c.Failed+o.Failed, c.Terminated+o.Terminated
	return c
}

// Source keeps the counts.
type Source interface {
	// Executions returns the groups in which anything happened, by name.
	Executions(ctx context.Context, tenant uuid.UUID, q Query) ([]Count, error)
}
