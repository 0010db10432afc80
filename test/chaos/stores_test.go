package chaos

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	controlplanev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/controlplane/v1"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	tenantv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/tenant/v1"

	"github.com/fulcrum-io/fulcrum/test/internal/running"
)

// recovery is how long Fulcrum may take to be itself again once what it missed
// is back.
const recovery = 15 * time.Second

// The database crashes under load and comes back. Meanwhile nobody is told yes;
// afterwards everything goes on without anybody's help, and all that was ever
// answered is on record.
func TestAYesIsNeverGivenWhilePostgresIsDown(t *testing.T) {
	t.Parallel()
	s := lab.New(t)
	c := newCrowd(t, s)
	db := s.Database(t)
	for range rounds(1, 10) {
		c.tighten(t)
		stop := c.run(t.Context())
		c.awaitAnswers(t, 200)
		if err := s.KillPostgres(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.awaitOutage(t, 2*callers)
		refusedWithoutPostgres(t, s, c)
		if err := s.RevivePostgres(t.Context()); err != nil {
			t.Fatal(err)
		}
		back := time.Now()
		c.awaitAnswers(t, 200)
		if took := time.Since(back); took > running.Bound(recovery) {
			t.Errorf("calls are answered again only after %s", took)
		}
		running.Eventually(t, running.Bound(recovery), s.Healthy)
		stop()
		c.finish(t)
		c.outagesOnly(t)
		c.account(t, db)
		c.repeat(t)
		if t.Failed() {
			t.FailNow()
		}
	}
}

func refusedWithoutPostgres(t *testing.T, s *running.Stack, c *crowd) {
	t.Helper()
	resp, err := call(t.Context(), c.client.Governance.Authorize, running.Inline("work", running.Tool("search")))
	if status.Code(err) != codes.Unavailable {
		t.Errorf("without PostgreSQL the answer is %v %v", resp, err)
	}
	running.Eventually(t, 30*time.Second, func(ctx context.Context) error { // it looks once a second
		if s.Healthy(ctx) == nil {
			return errors.New("GET /health finds nothing wrong without PostgreSQL")
		}
		return nil
	})
}

// Redis holds nothing that is not somewhere else: without it decisions go on,
// denials stay denials, and a revoked key is refused as soon as ever.
func TestDecisionsGoOnWithoutRedis(t *testing.T) {
	t.Parallel()
	s := lab.New(t)
	c := newCrowd(t, s)
	db := s.Database(t)
	for range rounds(1, 10) {
		c.tighten(t)
		doomed, id := c.tenant.IssueKey(t, &controlplanev1.IssueApiKeyRequest{Name: "doomed", Scopes: []string{"*"}})
		first, firstID := c.tenant.IssueKey(t, &controlplanev1.IssueApiKeyRequest{Name: "first", Scopes: []string{"*"}})
		stop := c.run(t.Context())
		c.awaitAnswers(t, 100)
		ever := revoked(t, c.tenant.Owner, first, firstID)
		if err := s.KillRedis(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.awaitAnswers(t, 500)
		wrong := c.add(&action{ask: running.Inline("work", running.Tool(forbidden))})
		if err := c.act(t.Context(), wrong); err != nil || wrong.answer.GetDecision() != governancev1.Decision_DECISION_DENY {
			t.Errorf("without Redis, what is forbidden is answered with %v %v", wrong.answer, err)
		}
		if took := revoked(t, c.tenant.Owner, doomed, id); took > max(running.Bound(time.Second), 3*ever) {
			t.Errorf("a revoked key was still good after %s without Redis, and %s with it", took, ever)
		}
		if err := s.ReviveRedis(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.awaitAnswers(t, 200)
		stop()
		c.finish(t)
		c.outagesOnly(t)
		c.account(t, db)
		if t.Failed() {
			t.FailNow()
		}
	}
	if n := c.failed[codes.Unavailable]; n > 0 {
		t.Errorf("without Redis, %d calls failed, such as: %v", n, c.such[codes.Unavailable])
	}
}

// revoked revokes a key that is in use, and returns how long after that it was
// last shown with success: how long a call then took does not count.
func revoked(t *testing.T, owner, doomed *running.Client, id string) (last time.Duration) {
	t.Helper()
	list := func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		_, err := doomed.Policies.ListPolicies(ctx, &policyv1.ListPoliciesRequest{PageSize: 1})
		return err
	}
	if err := list(t.Context()); err != nil {
		t.Errorf("a good key: %v", err)
	}
	if _, err := owner.Keys.RevokeApiKey(t.Context(), &tenantv1.RevokeApiKeyRequest{KeyId: id}); err != nil {
		t.Fatal(err)
	}
	at := time.Now()
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	for ; ; <-tick.C {
		shown := time.Since(at)
		switch err := list(t.Context()); {
		case status.Code(err) == codes.Unauthenticated:
			return last
		case err != nil && status.Code(err) != codes.DeadlineExceeded:
			t.Fatalf("a revoked key: %v", err)
		case shown > 20*time.Second: // an answer is believed for 30
			t.Fatalf("%s after it was revoked a key is still good", shown)
		case err == nil:
			last = shown
		}
	}
}

// JetStream's store is lost together with all that was on its way. It is only
// the way: every decision still becomes an event and a leaf of the audit log.
func TestALostJetStreamStoreIsADelay(t *testing.T) {
	t.Parallel()
	s := lab.New(t, "EVENT_PROCESSOR_RECONCILE_EVERY=1s", "EVENT_PROCESSOR_GAP_AFTER=3s")
	c := newCrowd(t, s)
	db := s.Database(t)
	log := headOf(t, c.tenant.Owner)
	for round := range rounds(2, 10) {
		stop := c.run(t.Context())
		c.awaitAnswers(t, 300+rand.IntN(300))
		if round%2 == 0 {
			s.Kill()
			stop()
		} else {
			stop()
			if err := s.Stop(); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.LoseJetStream(); err != nil {
			t.Fatal(err)
		}
		if err := s.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.finish(t)
		c.outagesOnly(t)
		c.account(t, db)
		log = log.extends(t, c.tenant.Owner)
		if t.Failed() {
			t.FailNow()
		}
	}
}
