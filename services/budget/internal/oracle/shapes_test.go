package oracle_test

import (
	"math"
	"math/rand/v2"
	"time"
)

// shape draws how many dollars an hour are spent on average, hour by hour. What
// is really spent scatters around it: so many calls, each of its own price.
type shape struct {
	name string
	rate func(r *rand.Rand) func(at time.Time, day float64) float64
}

// shapes are the ways in which budgets are used, each with parameters of its own.
var shapes = []shape{
	{"steady", func(r *rand.Rand) func(time.Time, float64) float64 {
		level := between(r, 1, 20)
		return func(time.Time, float64) float64 { return level }
	}},
	{"weekday pattern", func(r *rand.Rand) func(time.Time, float64) float64 {
		level, opens, weekend := between(r, 2, 30), 7+r.IntN(4), between(r, 0, 0.2)
		return func(at time.Time, _ float64) float64 {
			rate := level * 0.05
			if h := at.Hour(); h >= opens && h < opens+10 {
				rate = level
			}
			if d := at.Weekday(); d == time.Saturday || d == time.Sunday {
				rate *= weekend
			}
			return rate
		}
	}},
	{"bursts", func(r *rand.Rand) func(time.Time, float64) float64 {
		level, often, high := between(r, 1, 5), between(r, 0.5, 2), between(r, 10, 40)
		until := 0.0
		return func(_ time.Time, day float64) float64 {
			if r.Float64() < often/24 {
				until = day + between(r, 1, 3)/24
			}
			if day < until {
				return level * high
			}
			return level
		}
	}},
	{"growth", func(r *rand.Rand) func(time.Time, float64) float64 {
		level, growth, wave := between(r, 1, 8), between(r, 0.01, 0.05), between(r, 0, 0.8)
		return func(at time.Time, day float64) float64 {
			return level * math.Exp(growth*day) * (1 + wave*math.Sin(2*math.Pi*float64(at.Hour())/24))
		}
	}},
	{"stops", func(r *rand.Rand) func(time.Time, float64) float64 {
		level, stop, wave := between(r, 1, 20), between(r, 33, 66), between(r, 0, 0.8)
		return func(at time.Time, day float64) float64 {
			if day >= stop {
				return 0
			}
			return level * (1 + wave*math.Sin(2*math.Pi*float64(at.Hour())/24))
		}
	}},
	{"a new level", func(r *rand.Rand) func(time.Time, float64) float64 {
		level, at, times := between(r, 1, 10), between(r, 30, 55), between(r, 0.3, 3)
		return func(_ time.Time, day float64) float64 {
			if day >= at {
				return level * times
			}
			return level
		}
	}},
}

func between(r *rand.Rand, low, high float64) float64 { return low + (high-low)*r.Float64() }

// days is how long each series is: five weeks of history and a month to predict.
const days = 70

// series is what is spent in each hour from a Monday on.
func (s shape) series(r *rand.Rand) (start time.Time, hours []float64) {
	start = time.Date(2026, 1, 5, 0, 0, 0, 0, time.UTC)
	rate := s.rate(r)
	calls := between(r, 3, 30) // for the mean rate of an hour
	scatter := between(r, 0.1, 0.35)
	first, today := 0.0, 1.0
	hours = make([]float64, days*24)
	for i := range hours {
		at := start.Add(time.Duration(i) * time.Hour)
		mean := rate(at, float64(i)/24)
		if i == 0 {
			first = max(mean, 0.1)
		}
		if i%24 == 0 {
			today = math.Exp(scatter*r.NormFloat64() - scatter*scatter/2)
		}
		price := first / calls
		for range poisson(r, mean*today/price) {
			hours[i] += price * math.Exp(0.7*r.NormFloat64()-0.245)
		}
	}
	return start, hours
}

func poisson(r *rand.Rand, mean float64) int {
	if mean > 200 {
		return max(0, int(math.Round(mean+math.Sqrt(mean)*r.NormFloat64())))
	}
	n, p, floor := 0, 1.0, math.Exp(-mean)
	for {
		if p *= r.Float64(); p < floor {
			return n
		}
		n++
	}
}
