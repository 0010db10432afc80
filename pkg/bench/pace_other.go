//go:build !linux

package bench

import "time"

// pacer is as coarse as the runtime's timers.
type pacer struct{ every time.Duration }

func newPacer(every time.Duration) (*pacer, error) { return &pacer{every}, nil }

func (p *pacer) wait() error { time.Sleep(p.every); return nil }

func (p *pacer) close() {}
