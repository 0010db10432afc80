package postgres

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/db/budgetdb"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/calendar"
)

// guard is what a batch went by: it stands only if the database's time is
// between these, and close to what was believed, and no tenant has
// configuration that is newer.
type guard struct {
	notBefore, notAfter, believed time.Time
	tenants                       []uuid.UUID
	versions                      []int64
}

// underLock is the guard of a batch that has looked for itself.
func (b *batch) underLock() guard {
	return guard{notBefore: calendar.Always, notAfter: calendar.Never, believed: b.books.Now}
}

func (b *batch) guard() guard {
	g := guard{calendar.Always, calendar.Never, b.books.Now, b.tenants, make([]int64, len(b.tenants))}
	for i, tenant := range b.tenants {
		g.versions[i] = b.books.Catalogs[tenant].Version
	}
	for _, d := range b.draws {
		if d.Placed {
			g.within(d.Span)
		}
		if d.Budget != nil && len(d.Budget.Overrides) > 0 {
			g.within(d.Budget.Steady(b.books.Now))
		}
	}
	return g
}

func (g *guard) within(s calendar.Window) {
	if s.Start.After(g.notBefore) {
		g.notBefore = s.Start
	}
	if s.End.Before(g.notAfter) {
		g.notAfter = s.End
	}
}

// ask is the guard by itself. It tells the database's time, too.
func (b *batch) ask(g guard) step {
	return func(ctx context.Context, q *budgetdb.Queries) error {
		now, err := q.LedgerGuard(ctx, budgetdb.LedgerGuardParams{
			NotBefore: g.notBefore, NotAfter: g.notAfter, Believed: g.believed, Tenants: g.tenants, Versions: g.versions,
		})
		if err == nil {
			b.clockGuess.set(now.UTC(), b.began)
		}
		return err
	}
}
