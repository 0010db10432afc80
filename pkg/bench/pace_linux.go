package bench

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// pacer wakes its caller again and again at the same distance. It waits for a
// timer of the kernel as a server waits for its network, so that what follows
// runs when a request that came in would: the runtime's own timers are a
// millisecond coarse while nothing else runs, and a thread that sleeps in the
// kernel has to find a core while the collector has all of them.
type pacer struct{ timer *os.File }

func newPacer(every time.Duration) (*pacer, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("create timer: %w", err)
	}
	p := &pacer{os.NewFile(uintptr(fd), "timer")}
	next := unix.NsecToTimespec(every.Nanoseconds())
	if err := unix.TimerfdSettime(fd, 0, &unix.ItimerSpec{Interval: next, Value: next}, nil); err != nil {
		return nil, fmt.Errorf("set timer: %w", err)
	}
	return p, nil
}

// wait returns at the next beat, at once if one was missed.
func (p *pacer) wait() error {
	var beats [8]byte
	_, err := p.timer.Read(beats[:])
	return err
}

func (p *pacer) close() { _ = p.timer.Close() }
