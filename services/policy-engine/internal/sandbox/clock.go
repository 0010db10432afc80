package sandbox

import "time"

// clock is a deadline that needs no timer: OPA asks between expressions, and
// every askEvery-th time it is looked up. Only the evaluating goroutine uses it.
//
// Wall time is not work: on a crowded machine a deadline can pass while nothing
// runs. So the soft deadline stops only what has done some work, and the hard
// one everything.
type clock struct {
	soft, hard time.Time
	asked      uint
	fired      bool
	asks       *Asked // what fulcrum.rows answers, if anything
}

const (
	askEvery = 64
	someWork = 5_000 // expressions, a millisecond or two
)

// Cancel implements topdown.Cancel.
func (c *clock) Cancel() { c.fired = true }

// Cancelled implements topdown.Cancel.
func (c *clock) Cancelled() bool {
	c.asked++
	if !c.fired && c.asked%askEvery == 0 {
		return c.expired(0)
	}
	return c.fired
}

// tick counts a row of a table, which costs about what an expression does to
// start, and looks at the time now and then.
func (c *clock) tick() bool { return c.Cancelled() }

// expired looks at the time now, after work worth so many expressions.
func (c *clock) expired(work uint) bool {
	c.asked += work
	if !c.fired {
		now := time.Now()
		c.fired = now.After(c.soft) && c.asked > someWork || now.After(c.hard)
	}
	return c.fired
}
