package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/dbtest"
	"github.com/fulcrum-io/fulcrum/pkg/groupcommit"
	"github.com/fulcrum-io/fulcrum/pkg/quota"
	busv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/bus/v1"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	policyenginev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policyengine/v1"

	"github.com/fulcrum-io/fulcrum/services/gateway/internal/decision"
	"github.com/fulcrum-io/fulcrum/services/gateway/internal/postgres"
)

func entry(tenant uuid.UUID) *decision.Entry {
	id := uuid.Must(uuid.NewV7())
	return &decision.Entry{
		Tenant: tenant,
		Claim:  &decision.Claim{Scope: "Authorize", Key: id.String(), Response: []byte("answer")},
		Decision: &decision.Record{
			ID: id, DecidedAt: time.Now(), Method: decision.MethodAuthorize, KeyID: "k", Reservation: uuid.New(),
			Facts: &policyenginev1.Facts{}, Result: &policyenginev1.EvaluateResponse{}, Response: &governancev1.AuthorizeResponse{Decision: 1},
		},
		Events: []*busv1.Event{{TenantId: tenant.String(), Type: "decision_made", Writer: "gateway"}},
	}
}

// What recording and loading one decision cost, beside the round trip they
// cannot do without.
func BenchmarkOneDecision(b *testing.B) {
	d := dbtest.New(b)
	tenant := dbtest.Tenant(b, d)
	store := postgres.New(d.DB, func() {})
	recorder := postgres.NewRecorder(store, groupcommit.Options{})
	ctx, stop := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	go func() { ended <- recorder.Run(ctx) }()
	defer func() { stop(); <-ended }()

	b.Run("round trip", func(b *testing.B) {
		for b.Loop() {
			if err := d.DB.Ping(ctx); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("commit", func(b *testing.B) {
		for b.Loop() {
			if err := d.DB.WithTenant(ctx, tenant, func(context.Context, db.Tx) error { return nil }); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("durable commit", func(b *testing.B) {
		for b.Loop() {
			err := d.DB.One(ctx, tenant, func(ctx context.Context, tx db.Tx) error {
				_, err := tx.Exec(ctx, `insert into fulcrum.inbox (tenant_id, consumer, event_id) values ($1, 'bench', $2)`, tenant, uuid.New())
				return err
			})
			if err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("load", func(b *testing.B) {
		for b.Loop() {
			if _, err := store.Load(ctx, tenant, decision.Query{Scope: "Authorize", Key: uuid.NewString(), Envelope: uuid.New()}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("record", func(b *testing.B) {
		for b.Loop() {
			if _, err := recorder.Record(ctx, entry(tenant)); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// What a limit costs beside a decision without one, and what a value for a history
// does: alone, and with many callers on counters of their own or on one that they
// share.
func BenchmarkLimitedDecision(b *testing.B) {
	d := dbtest.New(b)
	tenant := dbtest.Tenant(b, d)
	store := postgres.New(d.DB, func() {})
	recorder := postgres.NewRecorder(store, groupcommit.Options{Lanes: 2})
	ctx, stop := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	go func() { ended <- recorder.Run(ctx) }()
	defer func() { stop(); <-ended }()

	// Enough of everything for the planner to know what the tables are like.
	shared := uuid.New()
	for i := range 400 {
		id := shared
		if i%2 == 0 {
			id = uuid.New()
		}
		if _, err := recorder.Record(ctx, takes(tenant, map[uuid.UUID]quota.Limit{id: window(1 << 40)})); err != nil {
			b.Fatal(err)
		}
	}
	dbtest.Admin(b, d, `analyze fulcrum.limit_entries, fulcrum.limit_counters`)
	for _, tt := range []struct {
		name string
		make func() *decision.Entry
	}{
		{"none", func() *decision.Entry { return entry(tenant) }},
		{"a window of its own", func() *decision.Entry { return takes(tenant, map[uuid.UUID]quota.Limit{uuid.New(): window(10)}) }},
		{"a window for all", func() *decision.Entry { return takes(tenant, map[uuid.UUID]quota.Limit{shared: window(1 << 40)}) }},
		{"a window for all, which is full", func() *decision.Entry { return takes(tenant, map[uuid.UUID]quota.Limit{shared: window(1)}) }},
		{"a history of its own", func() *decision.Entry { return learns(tenant, map[uuid.UUID]float64{uuid.New(): 1}) }},
		{"a history for all", func() *decision.Entry { return learns(tenant, map[uuid.UUID]float64{shared: 1}) }},
	} {
		for _, callers := range []int{1, 64} {
			b.Run(fmt.Sprintf("%s/%d callers", tt.name, callers), func(b *testing.B) {
				b.SetParallelism(max(callers/runtime.GOMAXPROCS(0), 1))
				record := func() {
					full := new(decision.FullError)
					if _, err := recorder.Record(ctx, tt.make()); err != nil && !errors.As(err, &full) {
						b.Error(err)
					}
				}
				if callers == 1 {
					for b.Loop() {
						record()
					}
					return
				}
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						record()
					}
				})
			})
		}
	}
}
