package main

import (
	"fmt"
	"io"
	"time"
)

// steps prints one line per step: "starting Redis … ok (0.1 s)".
type steps struct {
	out   io.Writer
	begun time.Time // zero before the first step
}

func (s *steps) begin(step string) {
	s.end(nil)
	s.begun = time.Now()
	fmt.Fprintf(s.out, "%s … ", step)
}

// end ends the line of the last step, if there is one.
func (s *steps) end(err error) {
	switch {
	case s.begun.IsZero():
	case err != nil:
		fmt.Fprintln(s.out, "failed")
	default:
		fmt.Fprintf(s.out, "ok (%.1f s)\n", time.Since(s.begun).Seconds())
	}
	s.begun = time.Time{}
}
