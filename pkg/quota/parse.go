package quota

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fulcrum-io/fulcrum/pkg/money"
)

// amount reads what kind of limit it is, and how much it lets through.
func (l *Limit) amount(p map[string]string, kind string) *Problem {
	switch kind {
	case "remember", "never_after":
		l.Kind, l.Name = Remember, p[kind]
		if kind == "never_after" {
			l.Kind = After
		}
		return named(kind, l.Name)
	case "count":
		l.Kind, l.Name = Count, p[kind]
		if wrong := named(kind, l.Name); wrong != nil {
			return wrong
		}
		return l.unit(p["of"])
	case "parallel":
		l.Kind = Parallel
		return l.most(kind, p[kind], MaxCalls)
	}
	l.Kind = Window
	if wrong := l.unit(p["of"]); wrong != nil {
		return wrong
	}
	switch l.Of {
	case Calls:
		return l.most(kind, p[kind], MaxCalls)
	case Tokens:
		return l.most(kind, p[kind], MaxTokens)
	default:
		usd, err := strconv.ParseFloat(p[kind], 64)
		if err != nil || !(usd > 0) {
			return wrong(kind, "must be an amount of USD above zero, not %q", p[kind])
		}
		nano, err := money.FromUSD(usd)
		if err != nil {
			return wrong(kind, "is no amount of USD: %v", err)
		}
		l.Max = int64(nano)
		return nil
	}
}

func (l *Limit) unit(of string) *Problem {
	switch u := Unit(of); u {
	case "":
	case Calls, USD, Tokens:
		l.Of = u
	default:
		return wrong("of", "must be calls, usd or tokens, not %q", of)
	}
	return nil
}

func (l *Limit) most(name, text string, top int64) *Problem {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 1 || n > top {
		return wrong(name, "must be a whole number from 1 to %d, not %q", top, text)
	}
	l.Max = n
	return nil
}

// units are the windows that have a name.
var units = map[string]time.Duration{
	"second": time.Second, "minute": time.Minute, "hour": time.Hour, "day": 24 * time.Hour, "week": 7 * 24 * time.Hour,
}

// pieces are the windows that the calendar has.
var pieces = []string{"minute", "hour", "day", "week", "month", "year"}

// window reads for how long something counts.
func (l *Limit) window(p map[string]string, kind string) *Problem {
	per, given := p["per"]
	zone, zoned := p["zone"]
	piece, calendar := strings.CutPrefix(per, "calendar ")
	switch {
	case (kind == "max" || kind == "count") && !given:
		return wrong("per", `is missing: a duration such as 90m, a second, minute, hour, day or week, or a "calendar day"`)
	case zoned && !calendar:
		return wrong("zone", "is only for windows of the calendar")
	case !given:
		return nil
	case calendar && !slices.Contains(pieces, piece):
		return wrong("per", "must be a calendar %s, not %q", strings.Join(pieces, ", "), per)
	case calendar:
		l.Calendar, l.Zone = piece, "UTC"
		if zoned {
			l.Zone = zone
		}
		if _, err := time.LoadLocation(l.Zone); err != nil || l.Zone == "" || l.Zone == "Local" {
			return wrong("zone", "must be a time zone such as Europe/Berlin, not %q", zone)
		}
		return nil
	}
	long, ok := units[per]
	if !ok {
		var err error
		if long, err = duration(per); err != nil {
			return wrong("per", `must be a duration such as 90m or 7d, a second, minute, hour, day or week, or a "calendar day", not %q`, per)
		}
	}
	if long < time.Second || long > MaxPer || long%time.Second != 0 {
		return wrong("per", "must be whole seconds, from one to %d days, not %q", int(MaxPer.Hours()/24), per)
	}
	l.Per = long
	return nil
}

// duration reads what time.ParseDuration does, and days.
func duration(text string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.ParseInt(days, 10, 16)
		return time.Duration(n) * 24 * time.Hour, err
	}
	return time.ParseDuration(text)
}

// whom reads whom it counts apart, under which name, and what a release means.
func (l *Limit) whom(p map[string]string, kind string) *Problem {
	by := p["by"]
	switch _, given := p["by"]; {
	case given:
	case kind == "remember" || kind == "never_after":
		by = "envelope"
	default:
		by = "agent"
	}
	for name := range strings.SplitSeq(by, ",") {
		name = strings.TrimSpace(name)
		if !slices.Contains(Dimensions, name) {
			return wrong("by", "must be of %s, not %q", strings.Join(Dimensions, ", "), name)
		}
		if !slices.Contains(l.By, name) {
			l.By = append(l.By, name)
		}
	}
	slices.Sort(l.By)
	if name, ok := p["counter"]; ok {
		l.Name = name
		if wrong := named("counter", name); wrong != nil {
			return wrong
		}
	}
	switch keep := p["keep"]; keep {
	case "", "false":
	case "true":
		l.Keep = true
	default:
		return wrong("keep", "must be true or false, not %q", keep)
	}
	return nil
}

func named(parameter, name string) *Problem {
	if name == "" || len(name) > maxName || strings.TrimSpace(name) != name {
		return wrong(parameter, "must be a name of 1 to %d bytes, not %q", maxName, name)
	}
	return nil
}
