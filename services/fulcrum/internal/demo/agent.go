package demo

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"github.com/fulcrum-io/fulcrum/pkg/secret"
)

// What an agent program is told by its environment.
const (
	envAddr = "FULCRUM_ADDR"
	envKey  = "FULCRUM_API_KEY"
)

// runAgent starts this binary again as the named agent program and streams
// the steps it reports. The program has an address and a key, nothing else.
func runAgent(ctx context.Context, w *world, name string, key secret.Secret) <-chan Step {
	steps := make(chan Step)
	go func() {
		defer close(steps)
		if err := streamAgent(ctx, w, name, key, steps); err != nil {
			steps <- Step{Name: name, Failure: err.Error()}
		}
	}()
	return steps
}

func streamAgent(ctx context.Context, w *world, name string, key secret.Secret, steps chan<- Step) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, self, "demo", name)
	cmd.Env = append(os.Environ(), envAddr+"="+w.target.GRPCAddr, envKey+"="+key.Reveal())
	cmd.Stderr = os.Stderr
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	lines := bufio.NewScanner(pipe)
	for lines.Scan() {
		var s Step
		if err := json.Unmarshal(lines.Bytes(), &s); err != nil {
			return fmt.Errorf("%s said something that is not a step: %w", name, err)
		}
		steps <- s
	}
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// journal is how an agent program reports its steps.
type journal struct{ enc *json.Encoder }

func newJournal(out io.Writer) *journal { return &journal{json.NewEncoder(out)} }

// try times do and reports it; false means that the program should stop.
func (j *journal) try(name string, do func() (string, map[string]string, error)) bool {
	begin := time.Now()
	result, facts, err := do()
	s := Step{Name: name, Result: result, Took: time.Since(begin), Facts: facts}
	if err != nil {
		s.Failure = err.Error()
	}
	_ = j.enc.Encode(s)
	return err == nil
}
