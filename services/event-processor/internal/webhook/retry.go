package webhook

import (
	"math/rand/v2"
	"time"
)

// Patience is how long is tried. The zero Patience is none; use DefaultPatience.
type Patience struct {
	First, Longest time.Duration // the first wait, and the longest
	Attempts       int32         // after so many a message is given up
	GiveUp         time.Duration // and when it is so old
	// An endpoint is disabled after so many failures in a row, over at least so long.
	DisableFailures int32
	DisableAfter    time.Duration
}

// DefaultPatience tries for three days.
func DefaultPatience() Patience {
	return Patience{
		First: 5 * time.Second, Longest: 12 * time.Hour, Attempts: 14, GiveUp: 72 * time.Hour,
		DisableFailures: 8, DisableAfter: 24 * time.Hour,
	}
}

// factor is by how much each wait is longer than the one before.
const factor = 4

// longestAsked bounds how long an endpoint can make us wait.
const longestAsked = 24 * time.Hour

// wait is how long to wait after the nth attempt: longer each time, and spread by
// a quarter either way, so that what failed together does not come back together.
// What the endpoint asks for counts where it is longer.
func (p Patience) wait(attempt int32, asked time.Duration) time.Duration {
	d := p.First
	for range attempt - 1 {
		if d = min(d*factor, p.Longest); d == p.Longest {
			break
		}
	}
	d = d*3/4 + rand.N(d/2+1)
	return max(d, min(asked, longestAsked))
}

// Outcome is what follows from an attempt.
type Outcome struct {
	Over      bool          // nothing more is tried
	Wait      time.Duration // before the next attempt, unless it is over
	Health    Health        // of the endpoint now
	Exhausted bool          // the endpoint is disabled by this attempt
}

// Judge says what follows from how the attempt of m went, at now.
func (p Patience) Judge(m Message, r Result, before Health, now time.Time) Outcome {
	if r.Delivered() {
		return Outcome{Over: true, Health: Health{Disabled: before.Disabled}}
	}
	out := Outcome{Health: before}
	h := &out.Health
	if h.Failures++; h.Failures == 1 {
		h.FailingSince = now
	}
	h.LastError = r.Error
	out.Wait = p.wait(m.Attempt, r.RetryAfter)
	out.Over = m.Attempt >= p.Attempts || now.Add(out.Wait).Sub(m.CreatedAt) > p.GiveUp
	if h.Disabled != "" {
		return out
	}
	switch {
	case r.Status == gone:
		h.Disabled = "the endpoint answered 410 Gone"
	case h.Failures >= p.DisableFailures && now.Sub(h.FailingSince) >= p.DisableAfter:
		h.Disabled = "every attempt has failed since " + h.FailingSince.UTC().Format(time.RFC3339) + ": " + r.Error
	}
	out.Exhausted = h.Disabled != ""
	return out
}

// gone is how an endpoint says that it wants nothing more.
const gone = 410
