// Package spend says what was spent and what a piece of work will probably cost.
package spend

import (
	"time"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/services/budget/internal/amount"
)

// Line is what one model was charged in one group.
type Line struct {
	Group, Model      string
	Amounts           amount.Amounts
	Charges, Failures int64
}

// Query selects charges by the hour in which they were made.
type Query struct {
	Tenant      uuid.UUID
	Workflow    string // empty: all
	From, Until time.Time
	GroupBy     string // model, workflow, team, agent, key, day, week, month, or empty for one group
	Zone        *time.Location
}
