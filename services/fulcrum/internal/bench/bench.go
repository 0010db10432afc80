// Package bench measures decisions beside the parts they cannot do without: a
// durable commit, a gRPC round trip, an OPA evaluation. One run, one machine,
// in turns.
package bench

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/fulcrum-io/fulcrum/pkg/bench"
)

// Target is a running Fulcrum, reached as an agent would, and the database
// server below it, for the floor.
type Target struct {
	GRPCAddr    string
	Key         string // of a tenant with policies and budgets
	PlainKey    string // of a tenant with the same policies and no budget
	LimitedKey  string // of one with a limit besides
	PostgresURL string // superuser of the same server
}

// goal is the aim for the median at one caller, as a ratio to the floor.
const goal = 3

// Run measures at 1, 8 and 64 callers and returns a line per figure.
func Run(ctx context.Context, t Target, progress io.Writer) ([]bench.Line, error) {
	commit, err := newCommitFloor(ctx, t.PostgresURL)
	if err != nil {
		return nil, fmt.Errorf("floor: %w", err)
	}
	defer commit.close()
	echo, err := newEchoFloor()
	if err != nil {
		return nil, fmt.Errorf("floor: %w", err)
	}
	defer echo.close()
	opa, err := newOPAFloor(ctx)
	if err != nil {
		return nil, fmt.Errorf("floor: %w", err)
	}
	plain, err := newAuthorizer(ctx, t.GRPCAddr, t.PlainKey, false)
	if err != nil {
		return nil, err
	}
	defer plain.close()
	limited, err := newAuthorizer(ctx, t.GRPCAddr, t.LimitedKey, false)
	if err != nil {
		return nil, err
	}
	defer limited.close()
	held, err := newAuthorizer(ctx, t.GRPCAddr, t.Key, true)
	if err != nil {
		return nil, err
	}
	defer held.close()

	cases := []bench.Case{
		{Name: "commit", Do: commit.do}, {Name: "grpc", Do: echo.do}, {Name: "opa", Do: opa.do},
		{Name: "policy", Do: plain.do}, {Name: "limit", Do: limited.do}, {Name: "hold", Do: held.do},
	}
	var lines []bench.Line
	for _, callers := range []int{1, 8, 64} {
		fmt.Fprintf(progress, "measuring at %d callers …\n", callers)
		r, err := bench.Run(ctx, cases, bench.Options{Callers: callers, Rounds: 9, Each: 300 * time.Millisecond})
		if err != nil {
			return nil, err
		}
		lines = append(lines, figures(r, callers)...)
	}
	return lines, nil
}

// figures sets the floors together: policy-only asks the gateway, which asks
// the policy-engine, and commits once; a limit is taken in that commit, and has
// the same floor; a hold asks the budget service too, and commits there as well.
func figures(r map[string]bench.Result, callers int) []bench.Line {
	name := func(s string) string { return fmt.Sprintf("%s, %d callers", s, callers) }
	aim := 0.0
	if callers == 1 {
		aim = goal
	}
	µs := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }
	lines := []bench.Line{
		bench.AtMost(name("empty durable commit, p50"), µs(r["commit"].P50), 0, "µs", 0),
		bench.AtMost(name("one gRPC round trip, p50"), µs(r["grpc"].P50), 0, "µs", 0),
		bench.AtMost(name("one raw prepared OPA evaluation, p50"), µs(r["opa"].P50), 0, "µs", 0),
	}
	for _, c := range []struct {
		name, key       string
		commits, rounds time.Duration
		aim             float64
	}{
		{"Authorize policy-only", "policy", 1, 2, aim},
		{"Authorize with a limit", "limit", 1, 2, 0},
		{"Authorize with hold", "hold", 2, 3, aim},
	} {
		floor50 := c.commits*r["commit"].P50 + c.rounds*r["grpc"].P50 + r["opa"].P50
		floor99 := c.commits*r["commit"].P99 + c.rounds*r["grpc"].P99 + r["opa"].P99
		lines = append(lines,
			bench.AtMost(name(c.name+", p50"), µs(r[c.key].P50), µs(floor50), "µs", c.aim),
			bench.AtMost(name(c.name+", p99"), µs(r[c.key].P99), µs(floor99), "µs", 0),
			bench.AtMost(name(c.name+", throughput"), r[c.key].PerSecond, 0, "/s", 0))
	}
	return lines
}
