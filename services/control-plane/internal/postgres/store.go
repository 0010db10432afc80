// Package postgres keeps the control plane's tables. Every change of a
// configuration is one transaction: the rows, the next version of the bundle
// that the data plane loads, and the events that tell of it.
package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/controldb"
	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	"github.com/fulcrum-io/fulcrum/pkg/outbox"
	busv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/bus/v1"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/agent"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/budget"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/change"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/keys"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/policy"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/price"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/tenant"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/tool"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/wallet"
)

// Store is every store of the control plane, over one database.
type Store struct {
	db    *db.DB
	turns turns
	nudge func() // tells the relay that there is something to send
}

var (
	_ policy.Store = (*Store)(nil)
	_ budget.Store = (*Store)(nil)
	_ keys.Store   = (*Store)(nil)
	_ agent.Store  = (*Store)(nil)
	_ tenant.Store = (*Store)(nil)
	_ price.Store  = (*Store)(nil)
	_ wallet.Store = (*Store)(nil)
	_ tool.Store   = (*Store)(nil)
)

// New returns a Store over d, which the caller still owns. It calls nudge after
// every commit that left events to send.
func New(d *db.DB, nudge func()) *Store { return &Store{db: d, nudge: nudge} }

// told is what a change has to say: to the record, and to the data plane.
type told struct {
	facts  []change.Fact
	config []*busv1.Event // besides those of the published bundles
}

func fact(f change.Fact) told { return told{facts: []change.Fact{f}} }

// errUnchanged makes a change roll back and succeed: there was nothing to do.
var errUnchanged = errors.New("nothing changed")

// doing is the part of a change that knows what it is about. versions are those
// that the bundles will have with it.
type doing func(ctx context.Context, q *controldb.Queries, versions map[kind]int64) (told, error)

// change runs do as one transaction of a tenant that also publishes the bundles
// of the given kinds and appends the events.
//
// The bundles' versions are counted up first, which locks them: changes of one
// tenant queue there, and each sees all rows of those before it when it writes
// the content at the end.
func (s *Store) change(ctx context.Context, by identity.Principal, tenant uuid.UUID, kinds []kind, do func(context.Context, *controldb.Queries) (told, error)) (versions map[kind]int64, err error) {
	return s.changeAt(ctx, by, tenant, kinds, func(ctx context.Context, q *controldb.Queries, _ map[kind]int64) (told, error) { return do(ctx, q) })
}

// changeAt is change for what must know the versions that the bundles will have.
func (s *Store) changeAt(ctx context.Context, by identity.Principal, tenant uuid.UUID, kinds []kind, do doing) (versions map[kind]int64, err error) {
	done, err := s.turns.take(ctx, tenant)
	if err != nil {
		return nil, err
	}
	defer done()
	err = s.db.WithTenant(ctx, tenant, func(ctx context.Context, tx db.Tx) error {
		q := controldb.New(tx)
		versions, err = advance(ctx, q, tenant, kinds)
		if err != nil {
			return err
		}
		what, err := do(ctx, q, versions)
		if err != nil {
			return err
		}
		return finish(ctx, tx, q, by, tenant, versions, what)
	})
	switch {
	case errors.Is(err, errUnchanged):
		return nil, nil
	case err != nil:
		return nil, err
	}
	s.nudge()
	return versions, nil
}

// finish writes the bundles whose versions were advanced, and the events.
func finish(ctx context.Context, tx db.Tx, q *controldb.Queries, by identity.Principal, tenant uuid.UUID, versions map[kind]int64, what told) error {
	if err := publish(ctx, q, tenant, versions); err != nil {
		return err
	}
	events, err := recorded(by, tenant, versions, what)
	if err != nil {
		return err
	}
	if err := outbox.Append(ctx, tx, events...); err != nil {
		return fmt.Errorf("append events: %w", err)
	}
	return nil
}

// missing turns an empty result into the NotFound of a resource. Another
// tenant's row is as empty as one that never was.
func missing(err error, resource, id string) error {
	if !errors.Is(err, pgx.ErrNoRows) {
		return err
	}
	return fault.New(fault.NotFound, "there is no %s %s", resource, id).WithReason("NOT_FOUND").WithMeta("resource", resource)
}
