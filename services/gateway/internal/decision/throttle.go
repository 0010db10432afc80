package decision

import (
	"context"
	"strconv"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
)

// Rates counts actions against the rates that rules set. Implementations never
// let through more because something they depend on is away.
type Rates interface {
	// Take counts one action under a name. If there were limit in the period
	// already, it says when the next may come.
	Take(ctx context.Context, name string, limit int, period time.Duration) (ok bool, retry time.Duration)
}

// periods are the names under which a THROTTLE action gives its rate.
var periods = []struct {
	names []string
	long  time.Duration
}{
	{[]string{"per_second", "max_requests_per_second"}, time.Second},
	{[]string{"per_minute", "max_requests_per_minute"}, time.Minute},
	{[]string{"per_hour", "max_requests_per_hour"}, time.Hour},
	{[]string{"per_day", "max_requests_per_day"}, 24 * time.Hour},
}

// throttle enforces the rates that matched rules set: for the agent, or who
// "by" names (agent, user, workflow, key or tenant). Over the rate, the action
// is denied and the answer says when to come back.
func (p *Pipeline) throttle(ctx context.Context, a *ask) {
	if p.Rates == nil || a.req.GetDryRun() {
		return
	}
	for _, o := range a.result.GetObligations() {
		if o.GetType() != "THROTTLE" {
			continue
		}
		for _, period := range periods {
			limit := rate(o, period.names)
			if limit <= 0 {
				continue
			}
			name := "tenant:" + a.who.Tenant.String() + ":throttle:" + o.GetParameters()["policy_id"] + ":" + o.GetParameters()["rule_id"] + ":" +
				period.long.String() + ":" + a.counted(o.GetParameters()["by"])
			ok, retry := p.Rates.Take(ctx, name, limit, period.long)
			if ok {
				continue
			}
			a.deny("RATE_LIMITED", "rate limit", "more than "+strconv.Itoa(limit)+" in "+period.long.String())
			a.resp.RetryAfter = durationpb.New(retry)
			return
		}
	}
}

func rate(o *governancev1.Obligation, names []string) int {
	for _, name := range names {
		if n, err := strconv.Atoi(o.GetParameters()[name]); err == nil {
			return n
		}
	}
	return 0
}

// counted is whom a rate counts.
func (a *ask) counted(by string) string {
	switch by {
	case "tenant":
		return "tenant"
	case "user":
		return "user:" + a.actor.userID
	case "workflow":
		return "workflow:" + a.facts.GetWorkflowId()
	case "key":
		return "key:" + a.who.KeyID
	}
	if a.actor.agentID != "" {
		return "agent:" + a.actor.agentID
	}
	return "key:" + a.who.KeyID
}
