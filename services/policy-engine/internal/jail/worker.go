package jail

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"

	"github.com/fulcrum-io/fulcrum/services/policy-engine/internal/sandbox"
)

// subcommand is the one argument that turns any binary with this package in it
// into a child.
const subcommand = "__fulcrum_compile_policies"

// What a child exits with beside 0.
const (
	exitBroken = 2
	exitMemory = 3
	exitCPU    = 4
)

// The service, `fulcrum up` and every test binary that hosts an engine start
// themselves again as children, and only some of their mains are ours. So the
// turn is taken here, before any main.
func init() {
	if len(os.Args) != 2 || os.Args[1] != subcommand {
		return
	}
	if err := work(os.Stdin, os.Stdout); err != nil {
		os.Exit(exitBroken)
	}
	os.Exit(0)
}

// work answers jobs until in ends.
func work(in io.Reader, out io.Writer) error {
	jobs, verdicts := json.NewDecoder(in), json.NewEncoder(out)
	for first := true; ; first = false {
		var j job
		if err := jobs.Decode(&j); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if first {
			limitMemory(j.Memory)
			go watchMemory(j.Memory)
		}
		if err := limitCPU(j.CPU); err != nil {
			return err
		}
		v := verdict{Problems: sandbox.Try(j.Package, j.Text, j.Rules)}
		if err := verdicts.Encode(v); err != nil {
			return err
		}
	}
}

// watchMemory exits when the heap passes limit. The collector works harder
// before that: what counts is what is in use, not what is not yet collected.
func watchMemory(limit int64) {
	debug.SetMemoryLimit(limit * 3 / 4)
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	for range time.Tick(5 * time.Millisecond) {
		if metrics.Read(sample); sample[0].Value.Uint64() > uint64(limit) {
			os.Exit(exitMemory)
		}
	}
}
