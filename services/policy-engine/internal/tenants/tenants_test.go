package tenants_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	busv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/bus/v1"
	configv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/config/v1"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	policyenginev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policyengine/v1"

	"github.com/fulcrum-io/fulcrum/services/policy-engine/internal/policy"
	"github.com/fulcrum-io/fulcrum/services/policy-engine/internal/tenants"
)

// store is a Source in memory that can be away.
type store struct {
	mu       sync.Mutex // guards bundles
	bundles  map[uuid.UUID]tenants.Bundle
	away     atomic.Bool
	loads    atomic.Int64
	versions atomic.Int64
	slow     chan struct{} // if set, Load waits for it
}

func newStore() *store { return &store{bundles: map[uuid.UUID]tenants.Bundle{}} }

var errAway = errors.New("connection refused")

func (s *store) Load(_ context.Context, tenant uuid.UUID) (tenants.Bundle, error) {
	s.loads.Add(1)
	if s.slow != nil {
		<-s.slow
	}
	if s.away.Load() {
		return tenants.Bundle{}, errAway
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bundles[tenant], nil
}

func (s *store) Version(_ context.Context, tenant uuid.UUID) (int64, error) {
	s.versions.Add(1)
	if s.away.Load() {
		return 0, errAway
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bundles[tenant].Version, nil
}

func (s *store) publish(tenant uuid.UUID, b tenants.Bundle) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bundles[tenant] = b
}

// shelf is a Shelf in memory.
type shelf struct {
	mu   sync.Mutex // guards kept
	kept map[uuid.UUID]tenants.Bundle
	put  chan struct{} // receives after each Put
}

func newShelf() *shelf {
	return &shelf{kept: map[uuid.UUID]tenants.Bundle{}, put: make(chan struct{}, 100)}
}

func (s *shelf) Put(_ context.Context, tenant uuid.UUID, b tenants.Bundle) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kept[tenant] = b
	s.put <- struct{}{}
	return nil
}

func (s *shelf) Take(_ context.Context, tenant uuid.UUID) (tenants.Bundle, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.kept[tenant], nil
}

func (s *shelf) Kept(_ context.Context, limit int) (out []uuid.UUID, _ error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id := range s.kept {
		if len(out) < limit {
			out = append(out, id)
		}
	}
	return out, nil
}

// What was in use before a start is compiled before anybody asks.
func TestTenantsOnTheShelfAreWarmAfterAStart(t *testing.T) {
	t.Parallel()
	s, sh := newStore(), newShelf()
	for range 60 { // the table holds 100, and half of it is for those
		tenant := uuid.New()
		s.publish(tenant, bundle(t, tenant, 2))
		sh.kept[tenant] = bundle(t, tenant, 1)
	}
	tab := table(s, sh)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- tab.Run(ctx) }()
	for deadline := time.Now().Add(90 * time.Second); s.loads.Load() < 50; {
		if time.Now().After(deadline) {
			t.Fatalf("%d tenants are warm", tab.Len())
		}
		runtime.Gosched()
	}
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if n, loads := tab.Len(), s.loads.Load(); n != 50 || loads != 50 { // and no more
		t.Errorf("%d tenants, %d loads", n, loads)
	}
}

func table(source tenants.Source, s tenants.Shelf) *tenants.Table {
	return tenants.New(source, s, policy.NewCompiler(nil), 100, slog.New(slog.DiscardHandler))
}

// bundle is version v of a tenant: odd versions deny, even ones warn.
func bundle(t testing.TB, tenant uuid.UUID, v int64) tenants.Bundle {
	t.Helper()
	action := policyv1.ActionType_ACTION_TYPE_WARN
	if v%2 == 1 {
		action = policyv1.ActionType_ACTION_TYPE_DENY
	}
	return published(t, tenant, v, &policyv1.Policy{
		PolicyId: "p", Version: v, Rules: []*policyv1.PolicyRule{{
			RuleId: fmt.Sprint("rule of ", v), Enabled: true, Actions: []*policyv1.PolicyAction{{ActionType: action}},
			Conditions: []*policyv1.PolicyCondition{{Field: "agent.id", Value: &policyv1.PolicyCondition_StringValue{StringValue: "a"}}},
		}},
	})
}

func published(t testing.TB, tenant uuid.UUID, v int64, policies ...*policyv1.Policy) tenants.Bundle {
	t.Helper()
	content, err := proto.Marshal(&configv1.PolicyBundle{TenantId: tenant.String(), Version: v, Policies: policies})
	if err != nil {
		t.Fatal(err)
	}
	return tenants.Bundle{Version: v, Content: content}
}

func broken(t testing.TB, tenant uuid.UUID, v int64) tenants.Bundle {
	t.Helper()
	return published(t, tenant, v, &policyv1.Policy{PolicyId: "bad", Rego: "package fulcrum.policy\ndeny contains http.send({})"},
		&policyv1.Policy{PolicyId: "good", Rules: []*policyv1.PolicyRule{{RuleId: "r", Enabled: true, Actions: []*policyv1.PolicyAction{{ActionType: policyv1.ActionType_ACTION_TYPE_WARN}}}}})
}

func changed(tenant uuid.UUID, v int64) *busv1.Event {
	return &busv1.Event{TenantId: tenant.String(), Type: "policies", ConfigVersion: v}
}

func judge(t testing.TB, set *policy.Set) *policyenginev1.EvaluateResponse {
	t.Helper()
	r, err := set.Evaluate(t.Context(), policy.Request{Facts: &policyenginev1.Facts{AgentId: "a"}})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func mustSet(t testing.TB, table *tenants.Table, tenant uuid.UUID, atLeast int64) (*policy.Set, bool) {
	t.Helper()
	set, degraded, err := table.Set(t.Context(), tenant, atLeast)
	if err != nil {
		t.Fatal(err)
	}
	return set, degraded
}

func TestATenantWithoutPoliciesIsEmptyAtVersionZero(t *testing.T) {
	t.Parallel()
	set, degraded := mustSet(t, table(newStore(), nil), uuid.New(), 0)
	if r := judge(t, set); set.Version() != 0 || degraded || r.GetDecision() != governancev1.Decision_DECISION_ALLOW || !r.GetDefaulted() {
		t.Errorf("version %d, degraded %v, answer %v", set.Version(), degraded, r)
	}
}

func TestManyFirstCallersLoadOnce(t *testing.T) {
	t.Parallel()
	s, tenant := newStore(), uuid.New()
	s.publish(tenant, bundle(t, tenant, 1))
	s.slow = make(chan struct{})
	tab := table(s, nil)
	var g errgroup.Group
	for range 100 {
		g.Go(func() error {
			set, _, err := tab.Set(t.Context(), tenant, 0)
			if err == nil && set.Version() != 1 {
				err = fmt.Errorf("version %d", set.Version())
			}
			return err
		})
	}
	close(s.slow)
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	// A caller that came after the first load ended found it done.
	if n := s.loads.Load(); n != 1 {
		t.Errorf("%d loads", n)
	}
}

// However changes and evaluations interleave, an evaluation is by one version:
// its decision, its rule and its version agree.
func TestEachEvaluationIsByOneVersion(t *testing.T) {
	t.Parallel()
	s, tenant := newStore(), uuid.New()
	s.publish(tenant, bundle(t, tenant, 1))
	tab := table(s, nil)
	mustSet(t, tab, tenant, 0)
	done := make(chan struct{})
	g, failed := errgroup.WithContext(t.Context())
	var answers atomic.Int64
	versions := sync.Map{}
	for range 4 {
		g.Go(func() error {
			last := int64(0)
			for {
				select {
				case <-done:
					return nil
				default:
				}
				set, _, err := tab.Set(t.Context(), tenant, 0)
				if err != nil {
					return err
				}
				r := judge(t, set)
				v := r.GetPolicySetVersion()
				want := governancev1.Decision_DECISION_WARN
				if v%2 == 1 {
					want = governancev1.Decision_DECISION_DENY
				}
				rule := r.GetResults()[0].GetMatchedRules()[0].GetRuleId()
				if r.GetDecision() != want || rule != fmt.Sprint("rule of ", v) || r.GetResults()[0].GetVersion() != v || v < last {
					return fmt.Errorf("version %d after %d: %v by %q", v, last, r.GetDecision(), rule)
				}
				last = v
				versions.Store(v, true)
				answers.Add(1)
			}
		})
	}
	for v := int64(2); v <= 101; v++ {
		s.publish(tenant, bundle(t, tenant, v))
		if err := tab.Changed(t.Context(), changed(tenant, v)); err != nil {
			t.Fatal(err)
		}
		for before := answers.Load(); answers.Load() == before && failed.Err() == nil; { // each version is judged by while it is there
			runtime.Gosched()
		}
	}
	close(done)
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	if set, _ := mustSet(t, tab, tenant, 0); set.Version() != 101 {
		t.Errorf("ended at version %d", set.Version())
	}
	seen := 0
	versions.Range(func(any, any) bool { seen++; return true })
	t.Logf("%d evaluations by %d versions", answers.Load(), seen)
	if seen < 2 {
		t.Error("the evaluations never saw a change")
	}
}

func TestABundleThatDoesNotCompileNeverReplacesTheLastGood(t *testing.T) {
	t.Parallel()
	s, tenant := newStore(), uuid.New()
	s.publish(tenant, bundle(t, tenant, 1))
	tab := table(s, nil)
	mustSet(t, tab, tenant, 0)

	s.publish(tenant, broken(t, tenant, 2))
	if err := tab.Changed(t.Context(), changed(tenant, 2)); err != nil {
		t.Fatal(err)
	}
	set, degraded := mustSet(t, tab, tenant, 0)
	if set.Version() != 1 || !degraded {
		t.Errorf("version %d, degraded %v", set.Version(), degraded)
	}
	if _, _, err := tab.Set(t.Context(), tenant, 2); !fault.Is(err, fault.Down) {
		t.Errorf("at least version 2: %v", err)
	}

	s.publish(tenant, bundle(t, tenant, 3))
	if err := tab.Changed(t.Context(), changed(tenant, 3)); err != nil {
		t.Fatal(err)
	}
	if set, degraded = mustSet(t, tab, tenant, 3); set.Version() != 3 || degraded {
		t.Errorf("after the repair: version %d, degraded %v", set.Version(), degraded)
	}
}

func TestWithNothingBetterABrokenBundleFailsClosedAndTheRestJudges(t *testing.T) {
	t.Parallel()
	s, tenant := newStore(), uuid.New()
	s.publish(tenant, broken(t, tenant, 1))
	set, degraded := mustSet(t, table(s, nil), tenant, 0)
	r := judge(t, set)
	if !degraded || r.GetDecision() != governancev1.Decision_DECISION_DENY || len(r.GetResults()) != 2 {
		t.Fatalf("degraded %v, answer %v", degraded, r)
	}
	for _, p := range r.GetResults() {
		failed := p.GetOutcome() == policyenginev1.PolicyOutcome_POLICY_OUTCOME_FAILED
		if failed != (p.GetPolicyId() == "bad") {
			t.Errorf("policy %v", p)
		}
	}
}

func TestAnotherTenantsBundleIsRefused(t *testing.T) {
	t.Parallel()
	s, tenant, other := newStore(), uuid.New(), uuid.New()
	s.publish(tenant, bundle(t, other, 1))
	if _, _, err := table(s, nil).Set(t.Context(), tenant, 0); !fault.Is(err, fault.Down) {
		t.Errorf("Set: %v", err)
	}
	wrong := bundle(t, tenant, 1)
	wrong.Version = 2
	s.publish(tenant, wrong)
	if _, _, err := table(s, nil).Set(t.Context(), tenant, 0); !fault.Is(err, fault.Down) {
		t.Errorf("Set with another version inside: %v", err)
	}
}

func TestWithTheSourceAwayTheShelfHelps(t *testing.T) {
	t.Parallel()
	s, sh, tenant := newStore(), newShelf(), uuid.New()
	s.publish(tenant, bundle(t, tenant, 7))
	first := table(s, sh)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	go func() { _ = first.Run(ctx) }()
	mustSet(t, first, tenant, 0)
	<-sh.put

	s.away.Store(true)
	second := table(s, sh) // another instance, started while the source is away
	set, degraded := mustSet(t, second, tenant, 0)
	if set.Version() != 7 || !degraded {
		t.Errorf("version %d, degraded %v", set.Version(), degraded)
	}
	if _, _, err := second.Set(t.Context(), uuid.New(), 0); !fault.Is(err, fault.Down) {
		t.Errorf("a tenant that nobody has: %v", err)
	}
}

func TestTheShelfDoesNotTakeATenantBack(t *testing.T) {
	t.Parallel()
	s, sh, tenant := newStore(), newShelf(), uuid.New()
	s.away.Store(true)
	tab := table(s, sh)
	if _, _, err := tab.Set(t.Context(), tenant, 0); !fault.Is(err, fault.Down) {
		t.Errorf("nothing anywhere: %v", err)
	}
	// The bus tells of version 4; the shelf has 3 only.
	if err := tab.Changed(t.Context(), changed(tenant, 4)); err != nil {
		t.Fatal(err)
	}
	sh.mu.Lock()
	sh.kept[tenant] = bundle(t, tenant, 3)
	sh.mu.Unlock()
	if set, _, err := tab.Set(t.Context(), tenant, 0); !fault.Is(err, fault.Down) {
		t.Errorf("an older version than is known to exist: %v, %v", set, err)
	}
}

func TestASourceThatComesBackEndsDegraded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, tenant := newStore(), uuid.New()
		s.publish(tenant, bundle(t, tenant, 1))
		tab := table(s, nil)
		mustSet(t, tab, tenant, 0)

		s.away.Store(true)
		time.Sleep(time.Minute)
		if set, degraded := mustSet(t, tab, tenant, 0); set.Version() != 1 || degraded {
			// The first answer may not know yet; it asks before the next one.
			t.Logf("version %d, degraded %v", set.Version(), degraded)
		}
		synctest.Wait()
		if _, degraded := mustSet(t, tab, tenant, 0); !degraded {
			t.Error("not degraded while the source is away")
		}

		s.away.Store(false)
		s.publish(tenant, bundle(t, tenant, 2))
		time.Sleep(3 * time.Second)
		mustSet(t, tab, tenant, 0) // asks in the background
		synctest.Wait()
		if set, degraded := mustSet(t, tab, tenant, 0); set.Version() != 2 || degraded {
			t.Errorf("version %d, degraded %v", set.Version(), degraded)
		}
	})
}

// A lost push must not leave an old policy in force: after half a minute
// without a word nobody is judged before the source was asked.
func TestALostPushIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, tenant := newStore(), uuid.New()
		s.publish(tenant, bundle(t, tenant, 1))
		tab := table(s, nil)
		mustSet(t, tab, tenant, 0)
		s.publish(tenant, bundle(t, tenant, 2))

		time.Sleep(9 * time.Second)
		mustSet(t, tab, tenant, 0)
		synctest.Wait()
		if n := s.versions.Load(); n != 0 {
			t.Errorf("asked %d times within ten seconds", n)
		}
		time.Sleep(2 * time.Second)
		mustSet(t, tab, tenant, 0)
		synctest.Wait()
		if set, _ := mustSet(t, tab, tenant, 0); set.Version() != 2 {
			t.Errorf("version %d after eleven seconds", set.Version())
		}

		s.publish(tenant, bundle(t, tenant, 3))
		time.Sleep(31 * time.Second)
		if set, _ := mustSet(t, tab, tenant, 0); set.Version() != 3 {
			t.Errorf("version %d after half a minute of silence", set.Version())
		}
	})
}

func TestAtLeastVersionWaitsAndThenGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, tenant := newStore(), uuid.New()
		s.publish(tenant, bundle(t, tenant, 1))
		tab := table(s, nil)
		mustSet(t, tab, tenant, 0)
		go func() {
			time.Sleep(300 * time.Millisecond)
			s.publish(tenant, bundle(t, tenant, 2))
		}()
		began := time.Now()
		if set, _ := mustSet(t, tab, tenant, 2); set.Version() != 2 {
			t.Errorf("version %d", set.Version())
		}
		if took := time.Since(began); took > 500*time.Millisecond {
			t.Errorf("noticed after %v", took)
		}

		began = time.Now()
		_, _, err := tab.Set(t.Context(), tenant, 9)
		if f, _ := fault.As(err); f == nil || f.Kind != fault.Down || f.Reason != "POLICY_VERSION_NOT_REACHED" {
			t.Errorf("Set: %v", err)
		}
		if took := time.Since(began); took != time.Second {
			t.Errorf("gave up after %v", took)
		}

		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		began = time.Now()
		if _, _, err = tab.Set(ctx, tenant, 9); err == nil {
			t.Error("no error")
		}
		if took := time.Since(began); took != 100*time.Millisecond {
			t.Errorf("gave up after %v with a deadline of 100ms", took)
		}
	})
}

func TestTheTableStaysBounded(t *testing.T) {
	t.Parallel()
	s := newStore()
	tab := tenants.New(s, nil, policy.NewCompiler(nil), 20, slog.New(slog.DiscardHandler))
	favourite := uuid.New()
	for range 200 {
		mustSet(t, tab, favourite, 0)
		mustSet(t, tab, uuid.New(), 0)
	}
	if n := tab.Len(); n > 20 {
		t.Errorf("%d tenants in a table for 20", n)
	}
}
