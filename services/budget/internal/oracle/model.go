package oracle

import (
	"math"
	"slices"
	"time"
)

// The model's constants. They were chosen on data of seeds that the published
// error is not measured on.
const (
	profileLife = 11.0 // days after which an hour counts half in the profile
	levelLife   = 2.2  // ... and in the level
	hourDoubt   = 0.5  // hours that a time of day is held to be like any other
	dayDoubt    = 8.0  // hours that a day of the week is held to be like any other
	levelDoubt  = 9.0  // hours that the level is held to be what it was on average
	trendDamp   = 0.95 // of the daily trend that is left for the next day
	spreadDoubt = 2.5  // days that a budget is held to be like others in its spread
	usualSpread = 0.45 // of a day around what was expected, relative
	drift       = 0.05 // a day, by which levels wander, relative
	stopPrior   = 0.03 // that a silence is for good, before it is looked at
)

// model is what was learned of a history.
type model struct {
	zone          *time.Location
	byHour        [24]float64
	byDay         [7]float64
	mean          float64 // an hour, over the history
	level         float64 // of now, relative to the profile
	trend         float64 // of the level, a day
	noise         float64 // variance of an hour's use, as a multiple of it
	spread        float64 // variance of a day's level, relative
	effectiveDays float64 // that the level rests on
	days          float64 // of history
	stopped       float64 // probability that nothing more will come
}

// learn fits a model. Without any use, mean is 0.
func learn(h History) *model {
	all := h.seen()
	m := &model{zone: h.Zone, level: 1}
	for _, s := range all {
		m.days += s.share / 24
	}
	if m.learnProfile(all, 1); m.mean == 0 {
		return m
	}
	doubt := max(1, m.scatter(all))
	m.learnProfile(all, doubt)
	m.learnLevel(all, doubt)
	m.learnSpread(all)
	m.learnSilence(all)
	return m
}

func weight(age, life float64) float64 { return math.Exp2(-age / life) }

// learnProfile takes the mean of each time of day and of each day of the week,
// relative to all, the fewer hours there are the closer to all.
func (m *model) learnProfile(all []seen, doubt float64) {
	var used, share float64
	var hourUsed, hourShare [24]float64
	var dayUsed, dayShare [7]float64
	for _, s := range all {
		w := weight(s.age, profileLife)
		used, share = used+w*s.used, share+w*s.share
		hourUsed[s.hour], hourShare[s.hour] = hourUsed[s.hour]+w*s.used, hourShare[s.hour]+w*s.share
		dayUsed[s.weekday], dayShare[s.weekday] = dayUsed[s.weekday]+w*s.used, dayShare[s.weekday]+w*s.share
	}
	if share == 0 || used == 0 {
		return
	}
	m.mean = used / share
	for i := range m.byHour {
		m.byHour[i] = (hourUsed[i]/m.mean + hourDoubt*doubt) / (hourShare[i] + hourDoubt*doubt)
	}
	for i := range m.byDay {
		m.byDay[i] = (dayUsed[i]/m.mean + dayDoubt*doubt) / (dayShare[i] + dayDoubt*doubt)
	}
}

// scatter is the variance of a mean hour around the profile, relative: the
// higher, the less a few hours say.
func (m *model) scatter(all []seen) float64 {
	var squares, sum float64
	for _, s := range all {
		u := m.usual(s.slot) * s.share
		squares += (s.used - u) * (s.used - u)
		sum += u
	}
	return squares / max(sum, 1e-300) / m.mean
}

// usual is what an hour uses at level 1.
func (m *model) usual(s slot) float64 { return m.mean * m.byHour[s.hour] * m.byDay[s.weekday] }

// learnLevel compares what was used with the profile, the last days most, and
// finds the trend of that.
func (m *model) learnLevel(all []seen, doubt float64) {
	prior := m.mean * levelDoubt * doubt
	used, usual, aged, squares := prior, prior, 0.0, 0.0
	for _, s := range all {
		w, u := weight(s.age, levelLife), m.usual(s.slot)*s.share
		used, usual = used+w*s.used, usual+w*u
		aged += w * u * s.age
		squares += w * w * u * m.mean
	}
	m.level = used / usual
	m.effectiveDays = max(usual*usual/max(squares, 1e-300)/24, 0.25)
	m.trend = m.trendOf(all)
	m.level = max(m.level+m.trend*aged/usual, m.level/4)
}

// trendOf is the median slope between any two of the last 14 days, as far as it
// stands out from its own uncertainty.
func (m *model) trendOf(all []seen) float64 {
	ratios := m.daily(all)
	ratios = ratios[:min(len(ratios), 14)]
	if len(ratios) < 5 {
		return 0
	}
	var slopes []float64
	for i := range ratios {
		for j := i + 1; j < len(ratios); j++ {
			slopes = append(slopes, (ratios[i].level-ratios[j].level)/float64(j-i)) // i is later
		}
	}
	slices.Sort(slopes)
	slope := slopes[len(slopes)/2]
	var off []float64
	for i, r := range ratios {
		off = append(off, math.Abs(r.level-m.level+slope*float64(i)))
	}
	slices.Sort(off)
	n := float64(len(ratios))
	doubt := 1.5 * off[len(off)/2] * math.Sqrt(12/(n*n*n)) // the standard error of a slope over n even steps
	return math.Copysign(max(math.Abs(slope)-1.5*doubt, 0), slope)
}

// day is what one day used, beside the profile.
type day struct{ used, usual, level float64 }

// daily sums the history up by days before now, the latest first.
func (m *model) daily(all []seen) []day {
	var days []day
	for i := len(all) - 1; i >= 0; i-- {
		s := all[i]
		for len(days) <= s.day {
			days = append(days, day{})
		}
		days[s.day].used += s.used
		days[s.day].usual += m.usual(s.slot) * s.share
	}
	if n := len(days); n > 1 && len(all)%24 > 0 && len(all)%24 < 12 {
		days = days[:n-1] // less than half a day
	}
	for i := range days {
		days[i].level = days[i].used / max(days[i].usual, 1e-300)
	}
	return days
}

// learnSpread measures how far days fall from what the days before them led to
// expect, and hours from what their day does.
func (m *model) learnSpread(all []seen) {
	days := m.daily(all)
	var off, expected, count float64
	level := m.level
	if n := len(days); n > 0 {
		level = days[n-1].level
	}
	keep := math.Exp2(-1 / levelLife)
	for i := len(days) - 2; i >= 0; i-- {
		d := days[i]
		off += (d.used - level*d.usual) * (d.used - level*d.usual)
		expected += level * d.usual * level * d.usual
		count++
		level = keep*level + (1-keep)*d.level
	}
	measured := usualSpread * usualSpread
	if expected > 0 {
		measured = off / expected
	}
	total := (count*measured + spreadDoubt*usualSpread*usualSpread) / (count + spreadDoubt)

	// Hours are taken four at a time: what is busy now is often busy in the next.
	var squares, sum, off4, in4 float64
	for i, s := range all {
		if s.day < len(days) {
			u := m.usual(s.slot) * s.share * days[s.day].level
			off4, in4 = off4+s.used-u, in4+u
		}
		if i%4 == 3 || i == len(all)-1 {
			squares, sum = squares+off4*off4, sum+in4
			off4, in4 = 0, 0
		}
	}
	m.noise = m.mean * m.level
	if sum > 0 {
		m.noise = squares / sum * 6 / 5
	}
	ofHours := m.noise / (m.mean * max(m.level, 1e-9) * 24) // the hours' part in a day
	m.spread = max(total-ofHours, 0.01*total)
}

// learnSilence weighs a silence at the end of the history: how many hours of it
// had use at other times.
func (m *model) learnSilence(all []seen) {
	var busyHour, seenHour [24]float64
	var busyDay, seenDay [7]float64
	last, busy, share := 0, 0.0, 0.0
	for i, s := range all {
		if s.used > 0 {
			last = i
		}
	}
	for _, s := range all[:last+1] {
		is := 0.0
		if s.used > 0 {
			is = 1
		}
		busy, share = busy+is, share+s.share
		busyHour[s.hour], seenHour[s.hour] = busyHour[s.hour]+is, seenHour[s.hour]+1
		busyDay[s.weekday], seenDay[s.weekday] = busyDay[s.weekday]+is, seenDay[s.weekday]+1
	}
	rate := busy / max(share, 1)
	missed := 0.0
	for _, s := range all[last+1:] {
		hour := (busyHour[s.hour] + rate) / (seenHour[s.hour] + 1)
		day := (busyDay[s.weekday] + rate) / (seenDay[s.weekday] + 1)
		missed += s.share * min(1, hour*day/max(rate, 1e-9))
	}
	// Busy hours come in groups: half of them count.
	alive := (1 - stopPrior) * math.Exp(-missed/2)
	m.stopped = stopPrior / (stopPrior + alive)
	if missed < 1 {
		m.stopped = 0
	}
}
