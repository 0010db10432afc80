package postgres

import (
	"context"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/db/eventsdb"
	"github.com/fulcrum-io/fulcrum/services/event-processor/internal/executions"
	"github.com/fulcrum-io/fulcrum/services/event-processor/internal/journal"
)

// executions counts the envelopes that were opened and that ended.
func (b *batch) executions(ctx context.Context) error {
	var p eventsdb.IngestExecutionsParams
	count := func(is bool) int64 {
		if is {
			return 1
		}
		return 0
	}
	for _, f := range b.facts {
		if f.Stage == (journal.Stage{}) {
			continue
		}
		p.TenantIds = append(p.TenantIds, f.Tenant)
		p.Quarters = append(p.Quarters, journal.MeasuredAt(f, b.storedAt[f.Tenant]).UTC().Truncate(executions.Quarter))
		p.WorkflowIds, p.Teams = append(p.WorkflowIds, f.WorkflowID), append(p.Teams, f.Team)
		p.AgentIds, p.ApiKeyIds = append(p.AgentIds, f.AgentID), append(p.ApiKeyIds, f.APIKeyID)
		p.Opened = append(p.Opened, count(f.Stage.Opened))
		p.Completed = append(p.Completed, count(f.Stage.Ended == journal.Completed))
		p.Failed = append(p.Failed, count(f.Stage.Ended == journal.Failed))
		p.Terminated = append(p.Terminated, count(f.Stage.Ended == journal.Terminated))
	}
	if len(p.TenantIds) == 0 {
		return nil
	}
	return b.q.IngestExecutions(ctx, p)
}

// Executions implements executions.Source.
func (s *Store) Executions(ctx context.Context, tenant uuid.UUID, q executions.Query) (groups []executions.Count, err error) {
	err = s.filtered(ctx, tenant, func(ctx context.Context, db *eventsdb.Queries) error {
		rows, err := db.Executions(ctx, eventsdb.ExecutionsParams{
			TenantID: tenant, GroupBy: q.GroupBy, Zone: q.Zone.String(), WorkflowID: q.Workflow, FromTime: q.From, ToTime: q.Until,
		})
		for _, r := range rows {
			groups = append(groups, executions.Count{Group: r.GroupKey, Opened: r.Opened, Completed: r.Completed, Failed: r.Failed, Terminated: r.Terminated})
		}
		return err
	})
	return groups, err
}
