package calendar_test

import (
	"testing"
	"time"
	_ "time/tzdata"

	"pgregory.net/rapid"

	"github.com/fulcrum-io/fulcrum/services/budget/internal/calendar"
)

// Zones with every oddity: half hours, quarter hours, changes at midnight, one
// minute past it, by half an hour, a day that never was.
var zones = []string{
	"UTC", "Europe/Berlin", "America/New_York", "America/Sao_Paulo", "America/Havana", "America/St_Johns", "Asia/Kolkata",
	"Asia/Kathmandu", "Australia/Lord_Howe", "Pacific/Apia", "Africa/Casablanca", "Asia/Beirut", "Pacific/Kiritimati", "America/Asuncion",
	"Antarctica/Troll", "Pacific/Chatham", "Pacific/Fakaofo", "Asia/Pyongyang", "America/Caracas", "Africa/Cairo",
}

func zone(t interface{ Fatal(...any) }, name string) *time.Location {
	z, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// label orders the periods of a kind by what the wall calendar shows.
func label(k calendar.Kind, t time.Time) int {
	y, m, d := t.Date()
	switch k {
	case calendar.Weekly:
		y, w := t.ISOWeek()
		return y*100 + w
	case calendar.Monthly:
		return y*100 + int(m)
	case calendar.Quarterly:
		return y*10 + (int(m)+2)/3
	case calendar.Yearly:
		return y
	}
	return y*10000 + int(m)*100 + d
}

var calendarKinds = []calendar.Kind{calendar.Daily, calendar.Weekly, calendar.Monthly, calendar.Quarterly, calendar.Yearly}

var moments = rapid.Custom(func(t *rapid.T) time.Time {
	from := time.Date(1995, 1, 1, 0, 0, 0, 0, time.UTC).Unix()
	until := time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC).Unix()
	return time.Unix(rapid.Int64Range(from, until).Draw(t, "seconds"), rapid.Int64Range(0, 999_999_999).Draw(t, "nanos"))
})

// A window begins at the first moment at which the wall calendar of the zone
// shows its period, and ends at the first of a later one. The oracle looks at
// wall clocks minute by minute and knows nothing of the code's arithmetic.
func TestAWindowIsWhatTheWallCalendarShows(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		z := zone(t, rapid.SampledFrom(zones).Draw(t, "zone"))
		k := rapid.SampledFrom(calendarKinds).Draw(t, "kind")
		at := moments.Draw(t, "at")
		p := calendar.Period{Kind: k, Zone: z}
		w := p.At(at)
		if !w.Contains(at) {
			t.Fatalf("%v is not in %v", at.In(z), w)
		}
		period := label(k, w.Start.In(z))
		for back := time.Minute; back <= 50*time.Hour; back += time.Minute {
			if label(k, w.Start.Add(-back).In(z)) >= period {
				t.Fatalf("%v had begun %v before %v", period, back, w.Start.In(z))
			}
			if label(k, w.End.Add(-back).In(z)) > period && w.End.Add(-back).After(w.Start) {
				t.Fatalf("a later period than %v had begun %v before %v", period, back, w.End.In(z))
			}
			if label(k, w.Start.Add(-time.Nanosecond).In(z)) >= period {
				t.Fatalf("%v had begun before %v", period, w.Start.In(z))
			}
		}
		if label(k, w.End.In(z)) <= period {
			t.Fatalf("%v goes on at %v", period, w.End.In(z))
		}
	})
}

// Windows of every kind follow each other without gap or overlap.
func TestWindowsFollowEachOther(t *testing.T) {
	t.Parallel()
	kinds := append([]calendar.Kind{calendar.Hourly, calendar.Custom}, calendarKinds...)
	rapid.Check(t, func(t *rapid.T) {
		p := calendar.Period{
			Kind: rapid.SampledFrom(kinds).Draw(t, "kind"), Zone: zone(t, rapid.SampledFrom(zones).Draw(t, "zone")),
			Every:  time.Duration(rapid.Int64Range(1, 40*24*3600).Draw(t, "every")) * time.Second,
			Anchor: moments.Draw(t, "anchor"),
		}
		at := moments.Draw(t, "at")
		w := p.At(at)
		if !w.Contains(at) || !w.Start.Before(w.End) {
			t.Fatalf("%v in %v", at, w)
		}
		for _, in := range []time.Time{w.Start, w.End.Add(-time.Nanosecond)} {
			if p.At(in) != w {
				t.Fatalf("%v is in %v, not in %v", in, p.At(in), w)
			}
		}
		if next := p.At(w.End); next.Start != w.End {
			t.Fatalf("after %v comes %v", w, next)
		}
		if before := p.At(w.Start.Add(-time.Nanosecond)); before.End != w.Start {
			t.Fatalf("before %v comes %v", w, before)
		}
		if p.Kind == calendar.Hourly && w.End.Sub(w.Start) > time.Hour {
			t.Fatalf("an hour of %v", w.End.Sub(w.Start))
		}
	})
}

// Go's Time.ZoneBounds is wrong on such a day, which once made this loop forever.
func TestTheLastDayOfALeapYear(t *testing.T) {
	t.Parallel()
	for _, name := range zones {
		for _, k := range append([]calendar.Kind{calendar.Hourly}, calendarKinds...) {
			p := calendar.Period{Kind: k, Zone: zone(t, name)}
			for hour := range 48 {
				at := time.Date(2040, 12, 30, 12+hour, 30, 0, 0, time.UTC)
				if w := p.At(at); !w.Contains(at) {
					t.Errorf("%s, kind %d: %v is not in %v", name, k, at, w)
				}
			}
		}
	}
}

func TestKnownWindows(t *testing.T) {
	t.Parallel()
	in := func(z string, text string) time.Time {
		at, err := time.ParseInLocation("2006-01-02 15:04", text, zone(t, z))
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	for _, tt := range []struct {
		name       string
		kind       calendar.Kind
		zone       string
		at         string
		start, end string
		hours      float64
	}{
		{"the day the clock goes forward", calendar.Daily, "Europe/Berlin", "2026-03-29 12:00", "2026-03-29 00:00", "2026-03-30 00:00", 23},
		{"the day it goes back", calendar.Daily, "Europe/Berlin", "2026-10-25 12:00", "2026-10-25 00:00", "2026-10-26 00:00", 25},
		{"a leap day", calendar.Daily, "America/New_York", "2028-02-29 23:59", "2028-02-29 00:00", "2028-03-01 00:00", 24},
		{"February", calendar.Monthly, "UTC", "2028-02-29 12:00", "2028-02-01 00:00", "2028-03-01 00:00", 29 * 24},
		{"a month of 31 days, on the 31st", calendar.Monthly, "UTC", "2026-01-31 12:00", "2026-01-01 00:00", "2026-02-01 00:00", 31 * 24},
		{"a week begins on Monday", calendar.Weekly, "UTC", "2026-03-15 12:00", "2026-03-09 00:00", "2026-03-16 00:00", 7 * 24},
		{"a quarter", calendar.Quarterly, "UTC", "2026-12-31 23:59", "2026-10-01 00:00", "2027-01-01 00:00", 92 * 24},
		{"a year", calendar.Yearly, "UTC", "2028-07-01 00:00", "2028-01-01 00:00", "2029-01-01 00:00", 366 * 24},
		{"an hour in India", calendar.Hourly, "Asia/Kolkata", "2026-03-10 12:40", "2026-03-10 12:00", "2026-03-10 13:00", 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := calendar.Period{Kind: tt.kind, Zone: zone(t, tt.zone)}
			w := p.At(in(tt.zone, tt.at))
			if !w.Start.Equal(in(tt.zone, tt.start)) || !w.End.Equal(in(tt.zone, tt.end)) || w.End.Sub(w.Start).Hours() != tt.hours {
				t.Errorf("%v to %v, %v", w.Start.In(p.Zone), w.End.In(p.Zone), w.End.Sub(w.Start))
			}
		})
	}
	if w := (calendar.Period{Kind: calendar.Infinite}).At(time.Now()); w.Start != calendar.Always || w.End != calendar.Never {
		t.Errorf("infinite: %v", w)
	}
}
