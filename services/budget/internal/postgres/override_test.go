package postgres_test

import (
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fulcrum-io/fulcrum/db/dbtest"
	costv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/cost/v1"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/lane"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/ledger"
)

// An override ends by the database's clock, in memory and in the rows, with no
// job and no new configuration: not one hold beyond the own limit is dated after
// its end.
func TestAnOverrideEndsByItself(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	tenant := dbtest.Tenant(t, d)
	b := dollars("all", 0.000_000_010)
	ends := time.Now().Add(2 * time.Second).Truncate(time.Microsecond)
	b.Overrides = []*costv1.BudgetOverride{{
		OverrideId: "o", Limits: &costv1.BudgetLimits{MaxCostUsd: 0.000_000_100},
		StartsAt: timestamppb.New(time.Now().Add(-time.Hour)), EndsAt: timestamppb.New(ends),
	}}
	publish(t, d, tenant, b)
	in := start(t, d, lane.Options{})
	var refused ledger.Answer
	granted := 0
	for {
		r := hold(tenant, 50)
		if refused = must(t, in, r); !refused.Granted {
			break
		}
		granted++
		must(t, in, &ledger.Release{Ref: r.Ref, Key: "r"})
	}
	if granted == 0 || refused.RefusedBy.Limit != 10 || !refused.RefusedBy.Overridden.IsZero() {
		t.Errorf("%d granted; refused with %+v", granted, refused.RefusedBy)
	}
	if n := dbtest.Count(t, d, `select count(*) from fulcrum.reservations where created_at >= '`+ends.UTC().Format(time.RFC3339Nano)+`'`); n != 0 {
		t.Errorf("%d holds are dated after its end", n)
	}
	balanced(t, d)
}
