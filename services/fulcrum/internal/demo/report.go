package demo

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// Step is one thing that was tried and how it came out. Agent programs report
// theirs as JSON lines on standard output.
type Step struct {
	Name    string        `json:"name"`
	Result  string        `json:"result"`
	Took    time.Duration `json:"took"`
	Failure string        `json:"failure,omitempty"` // empty when it came out as expected
	// Facts carry ids from an agent program to the steps after it.
	Facts map[string]string `json:"facts,omitempty"`
}

type report struct {
	out   io.Writer
	steps []Step
}

func newReport(out io.Writer) *report { return &report{out: out} }

func (r *report) title(s string) { fmt.Fprintf(r.out, "\n%s\n", s) }

// try times do and records its result line, or its failure.
func (r *report) try(name string, do func() (string, error)) bool {
	begin := time.Now()
	result, err := do()
	s := Step{Name: name, Result: result, Took: time.Since(begin)}
	if err != nil {
		s.Failure = err.Error()
	}
	r.add(s)
	return err == nil
}

func (r *report) add(s Step) {
	r.steps = append(r.steps, s)
	mark, text := "✓", s.Result
	if s.Failure != "" {
		mark, text = "✗", s.Failure
	}
	fmt.Fprintf(r.out, "  %s %-50s %9s  %s\n", mark, s.Name, latency(s.Took), text)
}

// adopt takes over the steps of an agent program, printing each as it comes.
// seen, which may be nil, is called after each.
func (r *report) adopt(steps <-chan Step, seen func(Step)) {
	for s := range steps {
		r.add(s)
		if seen != nil {
			seen(s)
		}
	}
}

// fact returns the newest value an agent reported under key.
func (r *report) fact(key string) string {
	for _, s := range slices.Backward(r.steps) {
		if v := s.Facts[key]; v != "" {
			return v
		}
	}
	return ""
}

func (r *report) summary() {
	fmt.Fprintf(r.out, "\n%-48s %10s  %s\n%s\n", "STEP", "LATENCY", "OUTCOME", strings.Repeat("─", 72))
	failed := 0
	for _, s := range r.steps {
		outcome := "as expected"
		if s.Failure != "" {
			outcome = "FAILED"
			failed++
		}
		fmt.Fprintf(r.out, "%-48s %10s  %s\n", s.Name, latency(s.Took), outcome)
	}
	fmt.Fprintf(r.out, "%s\n%d of %d steps came out as expected\n", strings.Repeat("─", 72), len(r.steps)-failed, len(r.steps))
}

func (r *report) err() error {
	var errs []error
	for _, s := range r.steps {
		if s.Failure != "" {
			errs = append(errs, fmt.Errorf("%s: %s", s.Name, s.Failure))
		}
	}
	return errors.Join(errs...)
}

func latency(d time.Duration) string {
	switch {
	case d <= 0:
		return ""
	case d < time.Second:
		return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000)
	default:
		return fmt.Sprintf("%.2f s", d.Seconds())
	}
}
