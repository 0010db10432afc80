package cli

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// progressLine prints each step with the time it took when the next one begins.
type progressLine struct {
	mu    sync.Mutex
	out   io.Writer
	step  string
	since time.Time
}

func (p *progressLine) begin(step string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.finish()
	p.step, p.since = step, time.Now()
	fmt.Fprintf(p.out, "  %s …", step)
}

func (p *progressLine) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.finish()
}

func (p *progressLine) finish() {
	if p.step != "" {
		fmt.Fprintf(p.out, " %.1f s\n", time.Since(p.since).Seconds())
		p.step = ""
	}
}
