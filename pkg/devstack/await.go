package devstack

import (
	"context"
	"fmt"
	"strings"
	"syscall"
	"time"
)

// await asks until the server answers, ends, or ctx does. A question that is
// open when the server ends is dropped: whoever has the port may never answer.
func (d *daemon) await(ctx context.Context, p *process, port int) error {
	asking, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-p.done:
			cancel()
		case <-asking.Done():
		}
	}()
	retry := time.NewTicker(10 * time.Millisecond)
	defer retry.Stop()
	for {
		answer := d.program.ready(asking, port)
		if answer == nil {
			return nil
		}
		select {
		case <-p.done:
			log := p.tail()
			if strings.Contains(strings.ToLower(log), syscall.EADDRINUSE.Error()) {
				return fmt.Errorf("port %d: %w; its log ends:\n%s", port, errPortTaken, log)
			}
			return fmt.Errorf("it ended, %s; its log ends:\n%s", p.how, log)
		case <-ctx.Done():
			return fmt.Errorf("not ready: %w (last answer: %w); its log ends:\n%s",
				context.Cause(ctx), answer, p.tail())
		case <-retry.C:
		}
	}
}
