package policy_test

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"time"

	configv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/config/v1"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"

	"github.com/fulcrum-io/fulcrum/services/policy-engine/internal/policy"
	"github.com/fulcrum-io/fulcrum/services/policy-engine/internal/workload"
)

func benchmarkEvaluate(b *testing.B, rules int) {
	set, err := policy.NewCompiler(nil).Compile("t", workload.Bundle("t", 1, workload.Mixed(rules)))
	if err != nil {
		b.Fatal(err)
	}
	facts := workload.Call()
	b.ReportAllocs()
	for b.Loop() {
		r, err := set.Evaluate(context.Background(), policy.Request{Facts: facts})
		if err != nil || r.GetDecision() != governancev1.Decision_DECISION_ALLOW {
			b.Fatal(r, err)
		}
	}
}

func BenchmarkEvaluate10(b *testing.B)   { benchmarkEvaluate(b, 10) }
func BenchmarkEvaluate100(b *testing.B)  { benchmarkEvaluate(b, 100) }
func BenchmarkEvaluate1000(b *testing.B) { benchmarkEvaluate(b, 1000) }

// BenchmarkTenants evaluates for many tenants in turn, each with rules of its
// own, and reports what one of them holds in memory and costs to compile.
func BenchmarkTenants(b *testing.B) {
	for _, tenants := range []int{1, 100, 1000} {
		for _, kind := range []string{"own", "template"} {
			b.Run(fmt.Sprintf("%s/%d", kind, tenants), func(b *testing.B) {
				compiler := policy.NewCompiler(nil)
				sets := make([]*policy.Set, tenants)
				before, began := heap(), time.Now()
				for i := range sets {
					rules := workload.Mixed(10)
					if kind == "own" {
						rules[0].Conditions[0].Value = text(fmt.Sprint("tool of ", i))
					}
					set, err := compiler.Compile("t", workload.Bundle("t", 1, rules))
					if err != nil {
						b.Fatal(err)
					}
					sets[i] = set
				}
				compiling, held := time.Since(began), heap()-before
				facts := workload.Call()
				b.ReportAllocs()
				i := 0
				for b.Loop() {
					if _, err := sets[i%tenants].Evaluate(b.Context(), policy.Request{Facts: facts}); err != nil {
						b.Fatal(err)
					}
					i++
				}
				b.ReportMetric(float64(held)/float64(tenants)/1024, "KiB/tenant")
				b.ReportMetric(float64(compiling.Microseconds())/float64(tenants), "compile-µs/tenant")
				runtime.KeepAlive(sets)
			})
		}
	}
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// BenchmarkRego is a tenant's own module of ten rules.
func BenchmarkRego(b *testing.B) {
	text := "package fulcrum.policy\n"
	for i := range 10 {
		text += fmt.Sprintf("deny contains \"no\" if { input.tool.name == \"x%d\"; input.action.args.amount > %d }\n", i, i)
	}
	set, err := policy.NewCompiler(nil).Compile("t", regoBundle(text))
	if err != nil {
		b.Fatal(err)
	}
	facts := workload.Call()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := set.Evaluate(b.Context(), policy.Request{Facts: facts}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkUnknownFact is a decision that needs the second query: a fact that
// rules ask for is not there.
func BenchmarkUnknownFact(b *testing.B) {
	set, err := policy.NewCompiler(nil).Compile("t", workload.Bundle("t", 1, workload.Mixed(10)))
	if err != nil {
		b.Fatal(err)
	}
	facts := workload.Call()
	delete(facts.GetAction().GetArguments().GetFields(), "amount")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := set.Evaluate(b.Context(), policy.Request{Facts: facts}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCompile is one change of a tenant's rules.
func BenchmarkCompile(b *testing.B) {
	for _, n := range []int{10, 100, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			rules := workload.Bundle("t", 1, workload.Mixed(n))
			for b.Loop() {
				if _, err := policy.NewCompiler(nil).Compile("t", rules); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkShadow is what a decision costs that a shadow of ten rules judges too.
func BenchmarkShadow(b *testing.B) {
	bundle := workload.Bundle("t", 1, workload.Mixed(10))
	bundle.Shadows = []*configv1.ShadowPolicy{{Policy: &policyv1.Policy{PolicyId: "s", Rules: workload.Mixed(10)}, SharePerMyriad: 10_000}}
	set, err := policy.NewCompiler(nil).Compile("t", bundle)
	if err != nil {
		b.Fatal(err)
	}
	f := workload.Call()
	b.ReportAllocs()
	for b.Loop() {
		got, err := set.Evaluate(b.Context(), policy.Request{Facts: f})
		if err != nil {
			b.Fatal(err)
		}
		if said := set.Shadow(b.Context(), "id", f, got); len(said) != 1 {
			b.Fatal(said)
		}
	}
}
