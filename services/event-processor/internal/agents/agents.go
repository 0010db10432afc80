// Package agents says how an agent did, period by period.
package agents

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/money"
)

// Period is how long each report covers. Periods begin at whole multiples of
// their width in UTC.
type Period struct {
	Name  string
	Width time.Duration
	Back  time.Duration // what is reported when nobody says since when
}

// The periods there are.
var (
	Hourly   = Period{"hourly", time.Hour, 24 * time.Hour}
	Daily    = Period{"daily", 24 * time.Hour, 30 * 24 * time.Hour}
	Realtime = Period{"realtime", time.Minute, time.Hour}
)

// Named returns the period of that name; "" is daily.
func Named(name string) (Period, error) {
	switch name {
	case Hourly.Name:
		return Hourly, nil
	case Daily.Name, "":
		return Daily, nil
	case Realtime.Name:
		return Realtime, nil
	}
	return Period{}, fault.Field("period", "is not one of hourly, daily, realtime")
}

// Report is how an agent did in one period.
type Report struct {
	Start                        time.Time
	Requests, Errors, Violations int64
	Cost                         money.Nano
	Input, Output                int64 // tokens
	Latency                      Latency
	LastSeen                     time.Time // zero: not seen in the period
}

// Latency is how long decisions took.
type Latency struct{ Mean, P50, P95, P99 time.Duration }

// Source returns the reports of the periods that begin in [from, to) and have
// something to report, oldest first.
type Source interface {
	Reports(ctx context.Context, tenant uuid.UUID, agent string, p Period, from, to time.Time) ([]Report, error)
}

// most bounds the periods of one answer.
const most = 1000

// Metrics returns the reports of the periods that have ended, from the one that
// from lies in until to, and of the one that has not. Zero times mean the
// period's own span until now.
func Metrics(ctx context.Context, s Source, tenant uuid.UUID, agent string, p Period, from, to, now time.Time) (ended []Report, current Report, err error) {
	running := now.UTC().Truncate(p.Width)
	if to.IsZero() || to.After(running) {
		to = running
	}
	if from.IsZero() {
		from = to.Add(-p.Back)
	}
	from = from.UTC().Truncate(p.Width)
	if n := to.Sub(from) / p.Width; n > most {
		return nil, current, fault.Field("start_time", "asks for %d %s periods; %d are the most", n, p.Name, most)
	}
	if from.Before(to) {
		if ended, err = s.Reports(ctx, tenant, agent, p, from, to); err != nil {
			return nil, current, err
		}
	}
	latest, err := s.Reports(ctx, tenant, agent, p, running, running.Add(p.Width))
	if err != nil {
		return nil, current, err
	}
	current.Start = running
	if len(latest) > 0 {
		current = latest[0]
	}
	return ended, current, nil
}
