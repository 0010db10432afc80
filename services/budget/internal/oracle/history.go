// Package oracle predicts what a budget will have used when its window ends.
// The model is written down in docs/prediction.md, next to its measured error.
package oracle

import (
	"math"
	"time"
)

// Hour is what was used of one unit in one hour.
type Hour struct {
	Start time.Time
	Used  float64
}

// History is the use of one unit up to now.
type History struct {
	Zone  *time.Location // whose days and hours people live by
	Hours []Hour         // ascending; an hour without use may be missing
	Since time.Time      // no use before is known of; zero: the first hour
	Now   time.Time
}

// Memory is how far back a history is looked at.
const Memory = 35 * 24 * time.Hour

// seen is one hour of the history, complete or just begun.
type seen struct {
	slot
	used, share float64 // share of the hour that has passed
	age         float64 // days from its middle to now
	day         int     // days before now, 0 for the last 24 hours
}

// slot is a place in the week.
type slot struct{ weekday, hour int }

func slotOf(t time.Time, zone *time.Location) slot {
	t = t.In(zone)
	return slot{int(t.Weekday()), t.Hour()}
}

// seen lays the history out hour by hour, silent hours too; none if nothing is
// known of it.
func (h History) seen() []seen {
	if h.Since.IsZero() && len(h.Hours) == 0 {
		return nil
	}
	from := h.Now.Add(-Memory)
	if since := h.Since; since.After(from) {
		from = since
	} else if since.IsZero() && len(h.Hours) > 0 && h.Hours[0].Start.After(from) {
		from = h.Hours[0].Start
	}
	from = from.Truncate(time.Hour)
	n := int(math.Ceil(h.Now.Sub(from).Hours()))
	if n <= 0 {
		return nil
	}
	out := make([]seen, n)
	for i := range out {
		at := from.Add(time.Duration(i) * time.Hour)
		share := min(1, h.Now.Sub(at).Hours())
		age := h.Now.Sub(at).Hours() - share/2
		out[i] = seen{slot: slotOf(at, h.Zone), share: share, age: age / 24, day: int(age / 24)}
	}
	for _, u := range h.Hours {
		if i := int(math.Floor(u.Start.Sub(from).Hours())); i >= 0 && i < n {
			out[i].used += u.Used
		}
	}
	return out
}
