package immune

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/pkg/bus"
	busv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/bus/v1"
)

// Consumer is the detectors' name in the inbox and on the bus. They are a
// consumer of their own: nothing that fails here keeps an event from being stored.
const Consumer = "immune"

// Counter counts sightings.
type Counter interface {
	// Count adds what the events show to the tenant's windows, opens the incidents
	// that are due, and proposes their drafts, in one transaction. An event that
	// was counted before changes nothing; an incident is opened once for each
	// pattern and window, whoever counts.
	Count(ctx context.Context, tenant uuid.UUID, events []*busv1.Event) error
}

// Watch is how the bus shall deliver to the detectors.
func Watch(c Counter, bury func(context.Context, bus.Dead) error) bus.Consumer {
	return bus.Consumer{Durable: Consumer, Bury: bury, Handle: func(ctx context.Context, batch []bus.Message) error {
		watched := make(map[uuid.UUID][]*busv1.Event)
		var tenants []uuid.UUID
		for _, m := range batch {
			if len(See(m.Event)) == 0 {
				continue
			}
			tenant, err := uuid.Parse(m.Event.GetTenantId())
			if err != nil {
				return fmt.Errorf("read event %s: %w", m.Event.GetEventId(), err)
			}
			if watched[tenant] == nil {
				tenants = append(tenants, tenant)
			}
			watched[tenant] = append(watched[tenant], m.Event)
		}
		slices.SortFunc(tenants, func(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) })
		for _, tenant := range tenants {
			if err := c.Count(ctx, tenant, watched[tenant]); err != nil {
				return fmt.Errorf("count for tenant %s: %w", tenant, err)
			}
		}
		return nil
	}}
}
