package oracle

import (
	"math"
	"time"
)

// Outlook is what is still to come until the end of a window.
type Outlook struct {
	Expected  float64 // the median: more is as likely as less
	Low, High float64 // in four cases of five it is between
	Days      float64 // of history it rests on
	Spread    float64 // standard deviation of the logarithm of what comes, if anything does

	stopped float64
	mu      float64 // mean of that logarithm
	path    []step
}

// step is an hour, or a part of one, and what is expected to have come by its end.
type step struct {
	end   time.Time
	comes float64
}

// inflation widens the spread to what was measured: what is known of a budget
// is its past.
const inflation = 1.2

// Foresee predicts what will be used from h.Now until end. Nothing is expected
// of a history without use, and little is known then: Days says how little.
func Foresee(h History, end time.Time) Outlook {
	m := learn(h)
	o := Outlook{Days: m.days, stopped: m.stopped}
	if m.mean == 0 || !end.After(h.Now) {
		return o
	}
	var sum, squares, ofDay float64
	for at := h.Now; at.Before(end); {
		next := at.Truncate(time.Hour).Add(time.Hour)
		if next.After(end) {
			next = end
		}
		ahead := at.Sub(h.Now).Hours() / 24
		level := max(m.level+m.trend*(1-math.Pow(trendDamp, ahead))/(1-trendDamp), 0)
		comes := m.usual(slotOf(at, m.zone)) * level * next.Sub(at).Hours()
		if int(ahead) != int(next.Sub(h.Now).Hours()/24) || !next.Before(end) {
			squares += (ofDay + comes) * (ofDay + comes)
			ofDay = 0
		} else {
			ofDay += comes
		}
		sum += comes
		o.path = append(o.path, step{next, sum})
		at = next
	}
	if sum <= 0 {
		return o
	}
	horizon := end.Sub(h.Now).Hours() / 24
	variance := m.noise*sum + m.spread*squares + (m.spread/m.effectiveDays+drift*drift*horizon)*sum*sum
	variance *= inflation * inflation
	o.Spread = math.Sqrt(math.Log1p(variance / (sum * sum)))
	o.mu = math.Log(sum) - o.Spread*o.Spread/2
	o.Low, o.Expected, o.High = o.beyond(0.9), o.beyond(0.5), o.beyond(0.1)
	return o
}

// Beyond is the probability that more than left will be used.
func (o Outlook) Beyond(left float64) float64 {
	switch {
	case left < 0:
		return 1
	case len(o.path) == 0 || o.Spread == 0:
		return 0
	case left == 0:
		return 1 - o.stopped
	}
	return (1 - o.stopped) * math.Erfc((math.Log(left)-o.mu)/o.Spread/math.Sqrt2) / 2
}

// beyond is what will be passed with probability p.
func (o Outlook) beyond(p float64) float64 {
	p /= 1 - o.stopped
	if p >= 1 {
		return 0
	}
	return math.Exp(o.mu + o.Spread*math.Sqrt2*math.Erfinv(1-2*p))
}

// Exhausted is when left is expected to be used up; false if not by the end.
func (o Outlook) Exhausted(left float64, now time.Time) (time.Time, bool) {
	if left <= 0 {
		return now, true
	}
	from, had := now, 0.0
	for _, s := range o.path {
		if s.comes >= left {
			share := (left - had) / (s.comes - had)
			return from.Add(time.Duration(share * float64(s.end.Sub(from)))), true
		}
		from, had = s.end, s.comes
	}
	return time.Time{}, false
}
