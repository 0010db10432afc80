// Package calendar says in which window of a budget a moment lies.
//
// Windows of one period follow each other without gap or overlap, through
// changes of the clock, short months and leap days.
package calendar

import "time"

// Kind is how long a window is.
type Kind int8

// The kinds, numbered as in fulcrum.cost.v1.BudgetPeriodType.
const (
	Hourly    Kind = 1 + iota // the hour of the zone's clock
	Daily                     // from midnight to midnight
	Weekly                    // from Monday
	Monthly                   // from the first
	Quarterly                 // January, April, July, October
	Yearly                    // from January 1
	Custom                    // every Every, counted from Anchor
	Infinite                  // one window
)

// String is the kind's name on the wire; "" for none.
func (k Kind) String() string {
	names := [...]string{"", "HOURLY", "DAILY", "WEEKLY", "MONTHLY", "QUARTERLY", "YEARLY", "CUSTOM", "INFINITE"}
	if k < 0 || int(k) >= len(names) {
		return ""
	}
	return names[k]
}

// Period is how the windows of a budget follow each other.
type Period struct {
	Kind   Kind
	Zone   *time.Location
	Every  time.Duration // Custom only, at least a second
	Anchor time.Time     // Custom only
}

// Window is a span of time that includes Start and not End.
type Window struct{ Start, End time.Time }

// Never is the end of a window that does not end, and Always the start of it.
var (
	Always = time.Unix(0, 0).UTC()
	Never  = time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)
)

// Contains reports whether t lies in w.
func (w Window) Contains(t time.Time) bool { return !t.Before(w.Start) && t.Before(w.End) }

// At returns the window that t lies in. Both ends are in UTC.
func (p Period) At(t time.Time) Window {
	switch p.Kind {
	case Hourly:
		return hour(t.In(p.Zone))
	case Custom:
		return p.custom(t)
	case Infinite:
		return Window{Always, Never}
	}
	first := p.firstDay(t.In(p.Zone).Date())
	start, next := p.begin(first), p.nextDay(first)
	end := p.begin(next)
	// Where a clock is set back over midnight, a date comes twice: its first
	// coming begins the window, and the day before does not come back.
	for !t.Before(end) {
		next = p.nextDay(next)
		start, end = end, p.begin(next)
	}
	return Window{start.UTC(), end.UTC()}
}

// hour is the clock's hour around t, cut where the zone's offset changes.
func hour(t time.Time) Window {
	now := t.Unix()
	_, offset := t.Zone()
	local := now + int64(offset)
	start := now - mod(local, 3600)
	end := start + 3600
	z := t.Location()
	if offsetAt(z, start) != int64(offset) {
		start = change(z, start, now)
	}
	if offsetAt(z, end-1) != int64(offset) {
		end = change(z, now, end-1)
	}
	return Window{time.Unix(start, 0).UTC(), time.Unix(end, 0).UTC()}
}

func (p Period) custom(t time.Time) Window {
	every := int64(p.Every / time.Second)
	since := t.Unix() - p.Anchor.Unix()
	start := time.Unix(t.Unix()-mod(since, every), 0).UTC()
	return Window{start, start.Add(time.Duration(every) * time.Second)}
}

// day is a calendar date, kept as its midnight in UTC.
type day = time.Time

func date(y int, m time.Month, d int) day { return time.Date(y, m, d, 0, 0, 0, 0, time.UTC) }

// firstDay returns the date on which the window around a date begins.
func (p Period) firstDay(y int, m time.Month, d int) day {
	switch p.Kind {
	case Weekly:
		at := date(y, m, d)
		return at.AddDate(0, 0, -(int(at.Weekday())+6)%7)
	case Monthly:
		return date(y, m, 1)
	case Quarterly:
		return date(y, (m-1)/3*3+1, 1)
	case Yearly:
		return date(y, 1, 1)
	}
	return date(y, m, d)
}

func (p Period) nextDay(first day) day {
	switch p.Kind {
	case Weekly:
		return first.AddDate(0, 0, 7)
	case Monthly:
		return first.AddDate(0, 1, 0)
	case Quarterly:
		return first.AddDate(0, 3, 0)
	case Yearly:
		return first.AddDate(1, 0, 0)
	}
	return first.AddDate(0, 0, 1)
}

// begin returns the first moment at which the zone's clock shows d or later.
//
// time.Date will not do: where a midnight is skipped or comes twice, it does
// not say which moment it returns. Nor will Time.ZoneBounds: on December 31 of
// a leap year its bounds may lie in the past (Go 1.26). So this looks at offsets
// alone, half an hour at a time; no zone changes its clock twice in that time.
func (p Period) begin(d day) time.Time {
	const step, widest = 1800, 16 * 3600
	target := d.Unix()
	from := target - widest
	for {
		offset, until := offsetAt(p.Zone, from), from+step
		for until < target+widest && offsetAt(p.Zone, until) == offset {
			until += step
		}
		if until < target+widest {
			until = change(p.Zone, until-step, until)
		}
		if moment := max(target-offset, from); moment < until {
			return time.Unix(moment, 0)
		}
		from = until
	}
}

func offsetAt(z *time.Location, unix int64) int64 {
	_, offset := time.Unix(unix, 0).In(z).Zone()
	return int64(offset)
}

// change returns the second at which the offset becomes what it is at to,
// which it was not at from.
func change(z *time.Location, from, to int64) int64 {
	after := offsetAt(z, to)
	for to-from > 1 {
		if middle := from + (to-from)/2; offsetAt(z, middle) == after {
			to = middle
		} else {
			from = middle
		}
	}
	return to
}

// mod is the remainder that is never negative.
func mod(n, m int64) int64 { return ((n % m) + m) % m }
