package calendar_test

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"

	"github.com/fulcrum-io/fulcrum/db/dbtest"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/calendar"
)

// Zones whose clocks never change at midnight: there PostgreSQL's answer, which
// picks one of two midnights, is the first.
var plainZones = []string{
	"UTC", "Europe/Berlin", "America/New_York", "America/Los_Angeles", "Australia/Sydney", "Australia/Lord_Howe", "Asia/Kolkata",
	"Asia/Kathmandu", "Pacific/Chatham", "Antarctica/Troll",
}

// PostgreSQL knows calendars, too, and shares no code with us: of thousands of
// moments, half of them close to a change of the clock, a month's end or a leap
// day, it names the same windows.
func TestPostgreSQLNamesTheSameWindows(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	conn, err := pgx.Connect(t.Context(), d.AdminURL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	units := map[calendar.Kind]string{calendar.Daily: "day", calendar.Weekly: "week", calendar.Monthly: "month", calendar.Quarterly: "quarter", calendar.Yearly: "year"}
	kinds := []calendar.Kind{calendar.Daily, calendar.Weekly, calendar.Monthly, calendar.Quarterly, calendar.Yearly}

	r := rand.New(rand.NewPCG(3, 11))
	const n = 4000
	var ats []time.Time
	var places, names []string
	var periods []calendar.Period
	for range n {
		place := plainZones[r.IntN(len(plainZones))]
		kind := kinds[r.IntN(len(kinds))]
		at := time.Unix(r.Int64N(29*366*86400)+820_454_400, 0) // 1996 to 2024
		if r.IntN(2) == 0 {
			at = tricky(r, zone(t, place))
		}
		ats, places, names = append(ats, at), append(places, place), append(names, units[kind])
		periods = append(periods, calendar.Period{Kind: kind, Zone: zone(t, place)})
	}
	rows, err := conn.Query(t.Context(), `
		select date_trunc(unit, at, place), (date_trunc(unit, at at time zone place) + case unit when 'quarter' then interval '3 months' else ('1 ' || unit)::interval end) at time zone place
		from unnest($1::timestamptz[], $2::text[], $3::text[]) with ordinality as x(at, place, unit, i) order by i`, ats, places, names)
	if err != nil {
		t.Fatal(err)
	}
	i := 0
	var start, end time.Time
	if _, err := pgx.ForEachRow(rows, []any{&start, &end}, func() error {
		if w := periods[i].At(ats[i]); !w.Start.Equal(start) || !w.End.Equal(end) {
			t.Errorf("the %s of %v in %s is %v to %v, PostgreSQL says %v to %v", names[i], ats[i].UTC(), places[i], w.Start, w.End, start.UTC(), end.UTC())
		}
		i++
		return nil
	}); err != nil || i != n {
		t.Fatalf("%d of %d, %v", i, n, err)
	}
}

// tricky is a moment within two days of a month's end, a leap day or a change
// of the zone's clock.
func tricky(r *rand.Rand, z *time.Location) time.Time {
	year := 1996 + r.IntN(29)
	near := time.Duration(r.Int64N(int64(96*time.Hour))) - 48*time.Hour
	switch r.IntN(3) {
	case 0:
		return time.Date(year, time.Month(1+r.IntN(12)), 1, 0, 0, 0, 0, z).Add(near)
	case 1:
		return time.Date(year/4*4, time.February, 29, 12, 0, 0, 0, z).Add(near)
	}
	at := time.Date(year, time.Month(1+r.IntN(12)), 1, 0, 0, 0, 0, time.UTC)
	_, offset := at.In(z).Zone()
	for range 366 { // at most a year until the clock changes, if it does
		if _, now := at.In(z).Zone(); now != offset {
			break
		}
		at = at.Add(24 * time.Hour)
	}
	return at.Add(near)
}

// An hour is as long as the clock shows it without being changed: the oracle
// walks to both of its ends, second by second where it matters.
func TestAnHourIsWhatTheClockShows(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		z := zone(t, rapid.SampledFrom(zones).Draw(t, "zone"))
		at := moments.Draw(t, "at").Truncate(time.Second)
		if rapid.Bool().Draw(t, "near a change") {
			r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
			at = tricky(r, z).Truncate(time.Second)
		}
		same := func(u time.Time) bool {
			a, b := at.In(z), u.In(z)
			_, x := a.Zone()
			_, y := b.Zone()
			return x == y && a.Hour() == b.Hour() && a.YearDay() == b.YearDay()
		}
		start, end := at, at
		for same(start.Add(-time.Second)) {
			start = start.Add(-time.Second)
		}
		for same(end) {
			end = end.Add(time.Second)
		}
		if w := (calendar.Period{Kind: calendar.Hourly, Zone: z}).At(at); !w.Start.Equal(start) || !w.End.Equal(end) {
			t.Fatalf("the hour of %v is %v to %v, the clock shows %v to %v", at.In(z), w.Start.In(z), w.End.In(z), start.In(z), end.In(z))
		}
	})
}

// Custom windows are counted from their anchor, whatever the clock does, before
// it as well as after.
func TestCustomWindowsAreCountedFromTheirAnchor(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		every := rapid.Int64Range(1, 400*86400).Draw(t, "every")
		anchor, at := moments.Draw(t, "anchor").Truncate(time.Second), moments.Draw(t, "at")
		w := calendar.Period{Kind: calendar.Custom, Every: time.Duration(every) * time.Second, Anchor: anchor}.At(at)
		if !w.Contains(at) || w.End.Sub(w.Start) != time.Duration(every)*time.Second || (w.Start.Unix()-anchor.Unix())%every != 0 || w.Start.Nanosecond() != 0 {
			t.Fatalf("%v is in %v, counted by %d s from %v", at, w, every, anchor)
		}
	})
}

func TestOddDays(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, zone string
		kind       calendar.Kind
		at         time.Time
		hours      float64
	}{
		{"half an hour is put forward", "Australia/Lord_Howe", calendar.Daily, time.Date(2023, 9, 30, 20, 0, 0, 0, time.UTC), 23.5},
		{"half an hour is put back", "Australia/Lord_Howe", calendar.Daily, time.Date(2024, 4, 6, 20, 0, 0, 0, time.UTC), 24.5},
		{"two hours are put forward", "Antarctica/Troll", calendar.Daily, time.Date(2023, 3, 26, 12, 0, 0, 0, time.UTC), 22},
		{"a midnight that never was", "America/Sao_Paulo", calendar.Daily, time.Date(2018, 11, 4, 12, 0, 0, 0, time.UTC), 23},
		{"a midnight that comes twice", "America/Havana", calendar.Daily, time.Date(2023, 11, 5, 12, 0, 0, 0, time.UTC), 25},
		{"the day before a day that never was", "Pacific/Apia", calendar.Daily, time.Date(2011, 12, 30, 9, 0, 0, 0, time.UTC), 24},
		{"a week of six days", "Pacific/Apia", calendar.Weekly, time.Date(2011, 12, 30, 9, 0, 0, 0, time.UTC), 6 * 24},
		{"a December of 30 days", "Pacific/Apia", calendar.Monthly, time.Date(2011, 12, 15, 0, 0, 0, 0, time.UTC), 30 * 24},
		{"a quarter with a leap day", "UTC", calendar.Quarterly, time.Date(2024, 2, 29, 0, 0, 0, 0, time.UTC), 91 * 24},
		{"a February of a century that is no leap year", "UTC", calendar.Monthly, time.Date(2100, 2, 15, 0, 0, 0, 0, time.UTC), 28 * 24},
		{"a year in which the clock goes forward and back", "Europe/Berlin", calendar.Yearly, time.Date(2023, 6, 1, 0, 0, 0, 0, time.UTC), 365 * 24},
		{"half an hour of a clock put back", "Australia/Lord_Howe", calendar.Hourly, time.Date(2024, 4, 6, 15, 10, 0, 0, time.UTC), 0.5},
	} {
		w := calendar.Period{Kind: tt.kind, Zone: zone(t, tt.zone)}.At(tt.at)
		if got := w.End.Sub(w.Start).Hours(); got != tt.hours || !w.Contains(tt.at) {
			t.Errorf("%s: %v hours, %v to %v, want %v", tt.name, got, w.Start.In(zone(t, tt.zone)), w.End.In(zone(t, tt.zone)), tt.hours)
		}
	}
}
