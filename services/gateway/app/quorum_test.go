package app_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/dbtest"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	policyenginev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policyengine/v1"
)

// An agent that waits hears of every vote, from any instance, and after a
// reconnect what it has missed.
func TestAWaitingAgentHearsOfEveryVote(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.gateway()
	ready(t, g)
	w.engine.decides(asks, func(r *policyenginev1.EvaluateResponse) { r.ApprovalQuorum = 3 })
	agent := w.key(w.tenant, "*")
	id := askFor(t, g, agent, toolCall(""))
	wait := func(cursor string) grpc.ServerStreamingClient[governancev1.WaitForApprovalResponse] {
		t.Helper()
		stream, err := governanceOf(g).WaitForApproval(as(t, agent), &governancev1.WaitForApprovalRequest{ApprovalId: id, Cursor: cursor})
		if err != nil {
			t.Fatal(err)
		}
		return stream
	}
	hears := func(stream grpc.ServerStreamingClient[governancev1.WaitForApprovalResponse], state governancev1.ApprovalState, votes int32) string {
		t.Helper()
		got, err := stream.Recv()
		if err != nil || got.GetState() != state || got.GetVotes() != votes || got.GetQuorum() != 3 {
			t.Fatalf("%v, %v; want %s with %d votes", got, err, state, votes)
		}
		return got.GetCursor()
	}
	votes := func(who string) {
		t.Helper()
		if _, err := review(t, g, w.keyAs(identity.Principal{Tenant: w.tenant, UserID: who, Scopes: []string{"*"}}), id, "APPROVED"); err != nil {
			t.Fatal(err)
		}
	}
	const pending, approved = governancev1.ApprovalState_APPROVAL_STATE_PENDING, governancev1.ApprovalState_APPROVAL_STATE_APPROVED
	stream := wait("")
	hears(stream, pending, 0)
	votes("ada")
	cursor := hears(stream, pending, 1)
	votes("bob")
	stream = wait(cursor)
	hears(stream, pending, 2)
	votes("cleo")
	hears(stream, approved, 3)
}

// A quorum counts people, not keys: whoever shows another key of the same
// person, or of the same agent, has voted already.
func TestAQuorumCountsPeopleNotKeys(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.gateway()
	ready(t, g)
	w.engine.decides(asks, func(r *policyenginev1.EvaluateResponse) { r.ApprovalQuorum = 3 })
	key := func(p identity.Principal) string {
		p.Tenant, p.Scopes = w.tenant, []string{"*"}
		return w.keyAs(p)
	}
	id := askFor(t, g, key(identity.Principal{AgentID: "asker"}), toolCall(""))
	for _, vote := range []struct {
		shown, status string
	}{
		{key(identity.Principal{UserID: "ada"}), "PENDING"},
		{key(identity.Principal{UserID: "ada"}), "PENDING"},
		{key(identity.Principal{UserID: "ada", AgentID: "assistant"}), "PENDING"},
		{key(identity.Principal{AgentID: "checker"}), "PENDING"},
		{key(identity.Principal{AgentID: "checker"}), "PENDING"},
		{key(identity.Principal{UserID: "bob"}), "APPROVED"},
	} {
		if a, err := review(t, g, vote.shown, id, "APPROVED"); err != nil || a.GetStatus() != vote.status {
			t.Fatalf("%v, %v, want %s", a, err, vote.status)
		}
	}
}

// Many people answer at once, through two gateways: each vote counts, the
// approval is granted once, and who comes after that is told.
func TestAQuorumIsExactUnderARace(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	gateways := []*gateway{w.gateway(), w.gateway()}
	for _, g := range gateways {
		ready(t, g)
	}
	const people, quorum = 12, 5
	w.engine.decides(asks, func(r *policyenginev1.EvaluateResponse) { r.ApprovalQuorum = quorum })
	id := askFor(t, gateways[0], w.key(w.tenant, "*"), toolCall(""))
	errs := make(chan error, people)
	for i := range people {
		key := w.key(w.tenant, "*")
		go func() {
			_, err := review(t, gateways[i%2], key, id, "APPROVED")
			errs <- err
		}()
	}
	late := 0
	for range people {
		if err := <-errs; err != nil {
			late++
		}
	}
	if late != people-quorum {
		t.Errorf("%d of %d came too late for a quorum of %d", late, people, quorum)
	}
	for what, want := range map[string]int64{
		`outbox where type = 'approval_vote_cast'`: quorum - 1, `outbox where type = 'approval_approved'`: 1,
		`outbox where type = 'approval_refused'`: people - quorum, `approval_votes`: quorum,
	} {
		if n := dbtest.Count(t, w.db, `select count(*) from fulcrum.`+what); n != want {
			t.Errorf("%d %s, want %d", n, what, want)
		}
	}
}

// A rule that does not say how long waits a quarter of an hour, and one that
// asks for forever a week.
func TestHowLongAnApprovalWaits(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.gateway()
	ready(t, g)
	agent := w.key(w.tenant, "*")
	for seconds, want := range map[int64]time.Duration{0: 15 * time.Minute, 90: 90 * time.Second, 1 << 30: 7 * 24 * time.Hour} {
		w.engine.decides(asks, func(r *policyenginev1.EvaluateResponse) { r.ApprovalTtlSeconds = seconds })
		id := askFor(t, g, agent, toolCall(""))
		stored := dbtest.Count(t, w.db, `select extract(epoch from expires_at - created_at)::bigint from fulcrum.approvals where id = $1`, id)
		if time.Duration(stored)*time.Second != want {
			t.Errorf("a rule with %d seconds waits %d, want %v", seconds, stored, want)
		}
	}
}

// Whatever the code does, the database moves an approval one way only, and
// only a use leaves it used.
func TestAnApprovalNeverMovesBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.gateway("GATEWAY_SWEEP_EVERY", "1h")
	ready(t, g)
	w.engine.decides(asks)
	agent := w.key(w.tenant, "*")
	states := []string{"PENDING", "APPROVED", "REJECTED", "EXPIRED", "CANCELLED", "CONSUMED"}
	may := map[string][]string{
		"PENDING": {"APPROVED", "REJECTED", "EXPIRED", "CANCELLED"}, "APPROVED": {"EXPIRED", "CANCELLED", "CONSUMED"},
	}
	way := map[string][]string{
		"PENDING": {}, "APPROVED": {"APPROVED"}, "REJECTED": {"REJECTED"}, "EXPIRED": {"EXPIRED"}, "CANCELLED": {"CANCELLED"},
		"CONSUMED": {"APPROVED", "CONSUMED"},
	}
	undo := errors.New("undo")
	move := func(ctx context.Context, tx db.Tx, id, to string) error {
		_, err := tx.Exec(ctx, `update fulcrum.approvals set state = $3, consumed_by = case when $3 = 'CONSUMED' then $2::uuid end
			where tenant_id = $1 and id = $2::uuid`, w.tenant, id, to)
		return err
	}
	for _, from := range states {
		id := askFor(t, g, agent, toolCall(""))
		for _, to := range states {
			if to == from {
				continue
			}
			moved := false
			err := w.db.DB.WithTenant(t.Context(), w.tenant, func(ctx context.Context, tx db.Tx) error {
				for _, step := range append(way[from], to) {
					if err := move(ctx, tx, id, step); err != nil {
						return err
					}
				}
				moved = true
				return undo
			})
			if want := slices.Contains(may[from], to); moved != want || !want && !db.Is(err, "23514") {
				t.Errorf("from %s to %s: moved %v, want %v: %v", from, to, moved, want, err)
			}
		}
	}
}
