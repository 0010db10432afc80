package policy_test

import (
	"runtime"
	"runtime/metrics"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	policyenginev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policyengine/v1"

	"github.com/fulcrum-io/fulcrum/services/policy-engine/internal/hostile"
	"github.com/fulcrum-io/fulcrum/services/policy-engine/internal/jail"
	"github.com/fulcrum-io/fulcrum/services/policy-engine/internal/policy"
	"github.com/fulcrum-io/fulcrum/services/policy-engine/internal/workload"
)

const (
	// evaluationEnds is when a request is to have ended, 50 ms after its deadline of
	// 100. The machine of a test run is busy with others, so the quickest of some
	// attempts counts; grace makes room for it and for the race detector.
	evaluationEnds = 150 * time.Millisecond
	heapGrows      = 64 << 20
	attempts       = 5
)

// Every policy of the corpus is refused when it is uploaded, with a line, or its
// evaluation ends in time, in little memory, and never in ALLOW.
func TestHostilePoliciesAreRefusedOrEndInTime(t *testing.T) {
	checks := jail.New(jail.Limits{})
	defer checks.Close()
	compiler := policy.NewCompiler(checks)
	corpus, err := hostile.Corpus()
	if err != nil || len(corpus) < 50 {
		t.Fatalf("%d hostile policies, %v", len(corpus), err)
	}
	for _, h := range corpus {
		t.Run(h.Name, func(t *testing.T) {
			began := time.Now()
			problems := compiler.Validate(&policyv1.Policy{Rego: h.Text})
			uploaded := time.Since(began)
			if uploaded > 30*time.Second {
				t.Errorf("the upload took %v", uploaded)
			}
			var refusal *policy.Problem
			for i, p := range problems {
				if p.Warning {
					continue
				}
				if p.Line == 0 {
					t.Errorf("refused without a line: %s", p)
				}
				if refusal == nil {
					refusal = &problems[i]
				}
			}
			// What its try on plain facts found is a cost, not a form: what it does
			// when it runs nevertheless counts.
			tried := refusal != nil && strings.Contains(refusal.Message, "on plain facts")
			switch {
			case refusal == nil && h.Expect == "refused":
				t.Error("not refused")
			case refusal != nil && !tried && h.Expect == "ends":
				t.Errorf("refused: %v", refusal)
			}
			if refusal != nil {
				t.Logf("refused after %v: %v", uploaded.Round(time.Millisecond), refusal)
			}
			if refusal == nil || tried {
				endsInTime(t, h)
			}
		})
	}
}

// endsInTime evaluates h as if its upload had let it pass.
func endsInTime(t *testing.T, h hostile.Policy) {
	t.Helper()
	facts, err := hostile.Facts(h.Input)
	if err != nil {
		t.Fatal(err)
	}
	ends := grace(evaluationEnds)
	best, least := time.Hour, uint64(1<<62)
	for range attempts {
		set, err := policy.NewCompiler(nil).Compile("t", regoBundle(h.Text))
		if err != nil {
			t.Fatal(err)
		}
		runtime.GC()
		peak := watchHeap()
		began := time.Now()
		r, err := set.Evaluate(t.Context(), policy.Request{Facts: facts})
		took := time.Since(began)
		grew := peak()
		if err != nil {
			t.Fatal(err)
		}
		best, least = min(best, took), min(least, grew)
		if result := r.GetResults()[0]; result.GetOutcome() == policyenginev1.PolicyOutcome_POLICY_OUTCOME_FAILED && r.GetDecision() != governancev1.Decision_DECISION_DENY {
			t.Errorf("failed and decided %s: %s", r.GetDecision(), result.GetError())
		}
		if best <= ends && least <= heapGrows {
			t.Logf("took %v, %d KiB, %s: %s", best.Round(time.Millisecond), least>>10, r.GetDecision(), r.GetResults()[0].GetError())
			return
		}
	}
	t.Errorf("at best took %v, and grew the heap by %d KiB", best, least>>10)
}

// watchHeap samples the heap until the returned function is called, which
// returns by how much it grew at most.
func watchHeap() func() uint64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	before := sample[0].Value.Uint64()
	stop, done := make(chan struct{}), make(chan uint64)
	go func() {
		highest := before
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for {
			metrics.Read(sample)
			highest = max(highest, sample[0].Value.Uint64())
			select {
			case <-stop:
				done <- highest - before
				return
			case <-tick.C:
			}
		}
	}()
	return func() uint64 { close(stop); return <-done }
}

// A version that keeps running into its deadline is not run for a while, however
// often the tenant changes its other policies meanwhile; a new version of the
// policy itself is.
func TestAQuarantineIsOfThePolicyVersion(t *testing.T) {
	t.Parallel()
	compiler := policy.NewCompiler(nil)
	endless := regoBundle("package fulcrum.policy\n\ndeny contains \"x\" if {\n\tsome a in numbers.range(1, 5000)\n\tsome b in numbers.range(1, 5000)\n\ta * b == -1\n}\n")
	ask := func(version int64) (*policy.Set, string) {
		b := proto.CloneOf(endless)
		b.Version, b.Policies[0].Version = 1, version
		set, err := compiler.Compile("t", b)
		if err != nil {
			t.Fatal(err)
		}
		r, err := set.Evaluate(t.Context(), policy.Request{Facts: workload.Call()})
		if err != nil {
			t.Fatal(err)
		}
		return set, r.GetResults()[0].GetError()
	}
	var held []*policy.Set // as the table of tenants does
	last := ""
	for range 4 {
		set, why := ask(1)
		held, last = append(held, set), why
	}
	if !strings.Contains(last, "quarantined") {
		t.Errorf("the fourth time: %q", last)
	}
	if _, why := ask(2); strings.Contains(why, "quarantined") {
		t.Errorf("a new version: %q", why)
	}
	runtime.KeepAlive(held)
}

// A tenant's own code takes at most half of the cores, so that others have theirs.
func TestATenantsRegoWaitsForItsTurn(t *testing.T) {
	t.Parallel()
	set, err := policy.NewCompiler(nil).Compile("t", regoBundle("package fulcrum.policy\n\ndeny contains \"x\" if {\n\tsome a in numbers.range(1, 5000)\n\tsome b in numbers.range(1, 5000)\n\ta * b == -1\n}\n"))
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	var busy, quarantined, late atomic.Int64
	for range 8 * runtime.GOMAXPROCS(0) {
		all.Go(func() {
			r, err := set.Evaluate(t.Context(), policy.Request{Facts: workload.Call()})
			if err != nil || r.GetDecision() != governancev1.Decision_DECISION_DENY {
				t.Errorf("Evaluate: %v, %v", r, err)
				return
			}
			switch why := r.GetResults()[0].GetError(); {
			case strings.Contains(why, "at once"):
				busy.Add(1)
			case strings.Contains(why, "quarantined"):
				quarantined.Add(1)
			default:
				late.Add(1)
			}
		})
	}
	all.Wait()
	// Two timeouts of 40 ms fill a request's time on one turn: the rest never ran.
	if busy.Load()+quarantined.Load() == 0 {
		t.Errorf("all %d ran at once", late.Load())
	}
}
