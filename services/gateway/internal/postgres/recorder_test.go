package postgres_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/dbtest"
	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/groupcommit"

	"github.com/fulcrum-io/fulcrum/services/gateway/internal/decision"
	"github.com/fulcrum-io/fulcrum/services/gateway/internal/postgres"
)

// run returns a recorder that runs until the test ends.
func run(t *testing.T, d *dbtest.Database, o groupcommit.Options) (*postgres.Store, *postgres.Recorder) {
	t.Helper()
	store := postgres.New(d.DB, func() {})
	recorder := postgres.NewRecorder(store, o)
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- recorder.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return store, recorder
}

// Entries of many tenants share transactions; one that cannot be recorded
// fails alone; and each tenant sees its own.
func TestABadEntryFailsAlone(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	_, recorder := run(t, d, groupcommit.Options{})
	tenants := []uuid.UUID{dbtest.Tenant(t, d), dbtest.Tenant(t, d), dbtest.Tenant(t, d)}
	const each = 40
	var all sync.WaitGroup
	for _, tenant := range tenants {
		for i := range each {
			all.Go(func() {
				e := entry(tenant)
				if i == 7 {
					e.Events[0].Payload = &structpb.Struct{Fields: map[string]*structpb.Value{"x": structpb.NewStringValue(strings.Repeat("x", 2<<20))}}
				}
				_, err := recorder.Record(context.WithoutCancel(t.Context()), e)
				if (i == 7) != fault.HasReason(err, "EVENT_TOO_LARGE") || i != 7 && err != nil {
					t.Errorf("entry %d: %v", i, err)
				}
			})
		}
	}
	all.Wait()
	for _, tenant := range tenants {
		var n int
		err := d.DB.Read(t.Context(), tenant, func(ctx context.Context, tx db.Tx) error {
			return tx.QueryRow(ctx, `select count(*) from fulcrum.decisions`).Scan(&n)
		})
		if err != nil || n != each-1 {
			t.Errorf("a tenant sees %d decisions, %v", n, err)
		}
	}
}

// One key in one batch many times: one entry, and the others hear of it.
func TestTwinsInABatch(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	_, recorder := run(t, d, groupcommit.Options{})
	tenant := dbtest.Tenant(t, d)
	first := entry(tenant)
	var all sync.WaitGroup
	var mu sync.Mutex
	stored, fresh, reused := 0, 0, 0
	for i := range 60 {
		all.Go(func() {
			e := entry(tenant)
			claim := *first.Claim
			if i%6 == 5 {
				claim.Hash[0] = 1 // another body
			}
			e.Claim = &claim
			done, err := recorder.Record(context.WithoutCancel(t.Context()), e)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case errors.Is(err, decision.ErrKeyReused):
				reused++
			case err != nil:
				t.Error(err)
			case done.Stored == nil:
				fresh++
			default:
				stored++
			}
		})
	}
	all.Wait()
	if fresh != 1 || stored != 49 && stored != 9 || fresh+stored+reused != 60 {
		t.Errorf("%d recorded, %d heard of it, %d refused", fresh, stored, reused)
	}
	if n := dbtest.Count(t, d, `select count(*) from fulcrum.decisions`); n != 1 {
		t.Errorf("%d decisions", n)
	}
}

// A key is free again after its day, and what was answered then is not
// answered now.
func TestAKeyIsFreeAfterItsDay(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	store, recorder := run(t, d, groupcommit.Options{})
	tenant := dbtest.Tenant(t, d)
	first := entry(tenant)
	if _, err := recorder.Record(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	dbtest.Admin(t, d, `update fulcrum.idempotency_keys set expires_at = now() - interval '1 second'`)
	ld, err := store.Load(t.Context(), tenant, decision.Query{Scope: first.Claim.Scope, Key: first.Claim.Key})
	if err != nil || ld.Key != nil {
		t.Fatal(ld, err)
	}
	second := entry(tenant)
	second.Claim = &decision.Claim{Scope: first.Claim.Scope, Key: first.Claim.Key, Response: []byte("new")}
	second.Claim.Hash[0] = 9
	if done, err := recorder.Record(t.Context(), second); err != nil || done.Stored != nil {
		t.Fatal(done, err)
	}
	dbtest.Admin(t, d, `update fulcrum.idempotency_keys set expires_at = now() - interval '1 second'`)
	if n, err := store.DropStaleKeys(t.Context()); err != nil || n != 1 {
		t.Errorf("%d keys dropped, %v", n, err)
	}
}

// An attempt that was given up can never be recorded, and one that was
// recorded cannot be given up.
func TestGivingUpIsFinal(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	store, recorder := run(t, d, groupcommit.Options{})
	tenant := dbtest.Tenant(t, d)
	e := entry(tenant)
	for range 2 {
		if next, err := store.GiveUp(t.Context(), tenant, *e.Claim); err != nil || next != 1 {
			t.Fatal(next, err)
		}
	}
	if _, err := recorder.Record(t.Context(), e); !errors.Is(err, decision.ErrGivenUp) {
		t.Errorf("recorded after it was given up: %v", err)
	}
	again := entry(tenant)
	again.Claim = &decision.Claim{Scope: e.Claim.Scope, Key: e.Claim.Key, Response: []byte("x"), Attempt: 1}
	if _, err := recorder.Record(t.Context(), again); err != nil {
		t.Errorf("the next attempt: %v", err)
	}
	if _, err := store.GiveUp(t.Context(), tenant, *again.Claim); !errors.Is(err, decision.ErrRecorded) {
		t.Errorf("given up after it was recorded: %v", err)
	}
	if n := dbtest.Count(t, d, `select count(*) from fulcrum.decisions`); n != 1 {
		t.Errorf("%d decisions", n)
	}
}

// Nothing but an insert is granted on decisions and votes, and nothing but its
// standing can change of an envelope.
func TestTheRecordCannotBeChanged(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	tenant := dbtest.Tenant(t, d)
	for _, statement := range []string{
		`update fulcrum.decisions set decision = 'ALLOW'`, `delete from fulcrum.decisions`, `truncate fulcrum.decisions`,
		`delete from fulcrum.approvals`, `update fulcrum.approvals set digest = digest`, `update fulcrum.approval_votes set verdict = 'APPROVED'`,
		`delete from fulcrum.envelopes`, `update fulcrum.envelopes set agent_id = 'x'`, `update fulcrum.envelopes set limits = ''`,
	} {
		err := d.DB.WithTenant(t.Context(), tenant, func(ctx context.Context, tx db.Tx) error {
			_, err := tx.Exec(ctx, statement)
			return err
		})
		if !db.Is(err, "42501") {
			t.Errorf("%s: %v", statement, err)
		}
	}
}
