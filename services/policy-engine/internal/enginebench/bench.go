// Package enginebench measures the policy engine in one run beside what cannot
// be saved: the OPA library as a program without us would use it. The machine
// may be busy with other things, so goals are ratios, or said to be times.
package enginebench

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/fulcrum-io/fulcrum/pkg/bench"
	configv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/config/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	"github.com/fulcrum-io/fulcrum/services/policy-engine/internal/collector"
	"github.com/fulcrum-io/fulcrum/services/policy-engine/internal/policy"
	"github.com/fulcrum-io/fulcrum/services/policy-engine/internal/workload"
)

// Goals.
const (
	cpuGoal  = 0.75 // of the library's CPU time
	flatGoal = 1.25 // of the CPU time at ten rules
	heapGoal = 10.0 // KiB of a tenant on a template
	tailGoal = 1000 // µs
)

// Run measures everything and returns a line for each figure.
// With only, it measures just the parts whose names contain it.
func Run(ctx context.Context, only string, progress io.Writer) (lines []bench.Line, err error) {
	collector.Relax(os.Getenv) // as the service does
	for _, part := range []struct {
		name string
		run  func(context.Context) ([]bench.Line, error)
	}{
		{"memory of tenants on a template", memoryPerTenant},
		{"10, 100 and 1,000 rules", byRules},
		{"100 and 1,000 tenants", byTenants},
		{"rules that are indexed", byIndexedRules},
		{"5,000 decisions a second for 500 tenants", tail},
		{"a hostile tenant beside another", besideHostile},
	} {
		if !strings.Contains(part.name, only) {
			continue
		}
		fmt.Fprintf(progress, "measuring %s …\n", part.name)
		more, err := part.run(ctx)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", part.name, err)
		}
		lines = append(lines, more...)
		runtime.GC()
	}
	return lines, nil
}

func µs(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }

var options = bench.Options{Rounds: 9, Each: 150 * time.Millisecond}

// trio is the three ways to decide by the same rules.
type trio struct {
	name string
	lib  *library
	eng  *engine
}

func newTrio(ctx context.Context, name string, tenants, rules int) (t trio, err error) {
	t.name = name
	t.lib, err = newLibrary(ctx, tenants, func(i int) string {
		return workload.ByHand(rules) + fmt.Sprintf("deny contains \"own\" if input.tool == \"own%d\"\n", i)
	})
	if err != nil {
		return t, err
	}
	t.eng, err = newEngine(ctx, tenants, func(i int) []*policyv1.PolicyRule {
		own := workload.Mixed(rules)
		// One rule differs, so that tenants share nothing.
		own[0].Conditions[0].Value = &policyv1.PolicyCondition_StringValue{StringValue: fmt.Sprint("own", i)}
		return own
	})
	return t, err
}

func (t trio) cases() []bench.Case {
	return []bench.Case{
		{Name: t.name + ", library", Do: t.lib.do},
		{Name: t.name + ", engine", Do: t.eng.direct},
		{Name: t.name + ", gRPC", Do: t.eng.remote},
	}
}

func (t trio) figures(all map[string]bench.Result) []bench.Line {
	lib, eng, remote := all[t.name+", library"], all[t.name+", engine"], all[t.name+", gRPC"]
	lines := []bench.Line{
		bench.AtMost(t.name+", engine, CPU", µs(eng.CPU), µs(lib.CPU), "µs", cpuGoal),
		bench.AtMost(t.name+", through gRPC, CPU of both ends", µs(remote.CPU), µs(lib.CPU), "µs", 0),
		bench.AtMost(t.name+", engine, allocated", eng.Bytes, lib.Bytes, "B", 0),
		bench.AtMost(t.name+", engine, allocations", eng.Allocs, lib.Allocs, "", 0),
	}
	for _, q := range []struct {
		name string
		of   func(bench.Result) time.Duration
	}{
		{"p50", func(r bench.Result) time.Duration { return r.P50 }},
		{"p99", func(r bench.Result) time.Duration { return r.P99 }},
		{"p99.9", func(r bench.Result) time.Duration { return r.P999 }},
	} {
		lines = append(lines,
			bench.AtMost(t.name+", engine, "+q.name, µs(q.of(eng)), µs(q.of(lib)), "µs", 0),
			bench.AtMost(t.name+", through gRPC, "+q.name, µs(q.of(remote)), µs(q.of(lib)), "µs", 0))
	}
	return lines
}

func measure(ctx context.Context, trios []trio) (lines []bench.Line, err error) {
	var cases []bench.Case
	for _, t := range trios {
		defer t.eng.close()
		cases = append(cases, t.cases()...)
	}
	all, err := bench.Run(ctx, cases, options)
	if err != nil {
		return nil, err
	}
	for _, t := range trios {
		lines = append(lines, t.figures(all)...)
	}
	return lines, nil
}

func byRules(ctx context.Context) ([]bench.Line, error) {
	var trios []trio
	for _, n := range []int{10, 100, 1000} {
		t, err := newTrio(ctx, fmt.Sprintf("%d rules", n), 1, n)
		if err != nil {
			return nil, err
		}
		trios = append(trios, t)
	}
	return measure(ctx, trios)
}

func byTenants(ctx context.Context) ([]bench.Line, error) {
	var trios []trio
	for _, n := range []int{100, 1000} {
		t, err := newTrio(ctx, fmt.Sprintf("%d tenants of 10 rules", n), n, 10)
		if err != nil {
			return nil, err
		}
		trios = append(trios, t)
	}
	return measure(ctx, trios)
}

func byIndexedRules(ctx context.Context) ([]bench.Line, error) {
	var cases []bench.Case
	for _, n := range []int{10, 100, 1000} {
		e, err := newEngineOf(ctx, 1, func(id string, _ int) *configv1.PolicyBundle {
			return workload.Even(workload.Bundle(id, 1, workload.Indexed(n)))
		})
		if err != nil {
			return nil, err
		}
		defer e.close()
		cases = append(cases, bench.Case{Name: fmt.Sprint(n), Do: e.direct})
	}
	all, err := bench.Run(ctx, cases, options)
	if err != nil {
		return nil, err
	}
	var lines []bench.Line
	for _, n := range []string{"10", "100", "1000"} {
		lines = append(lines, bench.AtMost(n+" indexed rules, engine, CPU", µs(all[n].CPU), µs(all["10"].CPU), "µs", flatGoal))
	}
	return lines, nil
}

// memoryPerTenant is what one more tenant holds: on the same rules as others,
// and on rules that nobody shares.
func memoryPerTenant(context.Context) ([]bench.Line, error) {
	same, err := heldBy(1000, func(int) []*policyv1.PolicyRule { return workload.Mixed(10) })
	if err != nil {
		return nil, err
	}
	own, err := heldBy(200, func(i int) []*policyv1.PolicyRule {
		rules := workload.Mixed(10)
		rules[0].Conditions[0].Value = &policyv1.PolicyCondition_StringValue{StringValue: fmt.Sprint("own", i)}
		return rules
	})
	if err != nil {
		return nil, err
	}
	return []bench.Line{
		bench.NoMore("one of 1,000 tenants on a template of 10 rules, held", same, "KiB", heapGoal),
		bench.NoMore("one of 200 tenants on 10 rules of their own, held", own, "KiB", 0),
	}, nil
}

// heldBy returns the KiB that each of n tenants holds, but for the first, which
// brings what they share.
func heldBy(n int, rules func(tenant int) []*policyv1.PolicyRule) (float64, error) {
	compiler := policy.NewCompiler(nil)
	sets := make([]*policy.Set, n)
	before := int64(0)
	for i := range sets {
		if i == 1 {
			before = held()
		}
		tenant := fmt.Sprintf("tenant-%04d", i)
		// As it comes from the store: strings of its own.
		content, err := proto.Marshal(workload.Bundle(tenant, 1, rules(i)))
		if err != nil {
			return 0, err
		}
		var bundle configv1.PolicyBundle
		if err := proto.Unmarshal(content, &bundle); err != nil {
			return 0, err
		}
		if sets[i], err = compiler.Compile(tenant, &bundle); err != nil {
			return 0, err
		}
	}
	per := float64(held()-before) / float64(n-1) / 1024
	runtime.KeepAlive(sets)
	return per, nil
}

func held() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
