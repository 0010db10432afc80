package cli

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/spf13/cobra"
)

// longWait is how long something may take before it is spoken of.
const longWait = 2 * time.Second

// pulse shows that work goes on: nothing for the first two seconds, then how
// far it is. On a screen one line is rewritten; a log gets a line now and then.
type pulse struct {
	out    io.Writer
	screen bool
	verb   string
	stop   chan struct{}
	done   chan struct{}

	mu       sync.Mutex // guards n and total
	n, total int64
}

func (o *operator) pulse(cmd *cobra.Command, verb string) *pulse {
	p := &pulse{out: cmd.ErrOrStderr(), screen: screen(cmd.ErrOrStderr()), verb: verb, stop: make(chan struct{}), done: make(chan struct{})}
	go p.run()
	return p
}

// set says how much is done, of how much; 0: unknown.
func (p *pulse) set(n, total int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.n, p.total = n, total
}

// end stops it and clears its line.
func (p *pulse) end() {
	close(p.stop)
	<-p.done
}

func (p *pulse) run() {
	defer close(p.done)
	every := 10 * time.Second
	if p.screen {
		every = 250 * time.Millisecond
	}
	timer := time.NewTimer(longWait)
	defer timer.Stop()
	for shown := false; ; shown = true {
		select {
		case <-p.stop:
			if shown && p.screen {
				fmt.Fprint(p.out, "\r\x1b[K")
			}
			return
		case <-timer.C:
		}
		if p.screen {
			fmt.Fprintf(p.out, "\r\x1b[K%s", p.text())
		} else {
			fmt.Fprintln(p.out, p.text())
		}
		timer.Reset(every)
	}
}

func (p *pulse) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.total > 0 {
		return fmt.Sprintf("%s %s of %s (%d %%)", p.verb, count(p.n), count(p.total), p.n*100/p.total)
	}
	return fmt.Sprintf("%s %s …", p.verb, count(p.n))
}
