package events

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/pkg/bus"
	"github.com/fulcrum-io/fulcrum/services/audit/internal/trail"
)

// Log is what a consumer fills.
type Log interface {
	// Append may be repeated with facts it already has.
	Append(ctx context.Context, tenant uuid.UUID, facts []trail.Fact) error
	// SignNew covers the tenant's new entries with a checkpoint.
	SignNew(ctx context.Context, tenant uuid.UUID) error
}

// Handler returns the bus handler that appends each batch, tenant by tenant,
// and signs what was appended. Signing can wait: its failure is logged, and
// the periodic signer tries again.
func Handler(l Log, log *slog.Logger) func(context.Context, []bus.Message) error {
	return func(ctx context.Context, batch []bus.Message) error {
		var order []uuid.UUID
		facts := map[uuid.UUID][]trail.Fact{}
		for _, m := range batch {
			tenant, f, err := fact(m.Event)
			if err != nil {
				return fmt.Errorf("event %s: %w", m.Event.GetEventId(), err)
			}
			if facts[tenant] == nil {
				order = append(order, tenant)
			}
			facts[tenant] = append(facts[tenant], f)
		}
		for _, tenant := range order {
			if err := l.Append(ctx, tenant, facts[tenant]); err != nil {
				return fmt.Errorf("append to the log of tenant %s: %w", tenant, err)
			}
		}
		for _, tenant := range order {
			if err := l.SignNew(ctx, tenant); err != nil {
				log.LogAttrs(ctx, slog.LevelError, "checkpoint not signed", slog.String("tenant_id", tenant.String()), slog.Any("err", err))
			}
		}
		return nil
	}
}
