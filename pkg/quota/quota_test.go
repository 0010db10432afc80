package quota_test

import (
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fulcrum-io/fulcrum/pkg/quota"
)

type params = map[string]string

func TestLimitsAreReadAsWritten(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		in   params
		want quota.Limit
	}{
		"three an hour":    {params{"max": "3", "per": "hour"}, quota.Limit{Kind: quota.Window, Max: 3, Of: quota.Calls, Per: time.Hour, By: []string{"agent"}}},
		"five in parallel": {params{"parallel": "5", "by": "tool,agent"}, quota.Limit{Kind: quota.Parallel, Max: 5, Of: quota.Calls, By: []string{"agent", "tool"}}},
		"a mark":           {params{"remember": "secrets-read"}, quota.Limit{Kind: quota.Remember, Name: "secrets-read", Of: quota.Calls, By: []string{"envelope"}}},
		"a mark for a day": {params{"remember": "x", "per": "1d", "by": "agent"}, quota.Limit{Kind: quota.Remember, Name: "x", Of: quota.Calls, Per: 24 * time.Hour, By: []string{"agent"}}},
		"a count":          {params{"count": "refunds", "per": "hour", "of": "usd"}, quota.Limit{Kind: quota.Count, Name: "refunds", Of: quota.USD, Per: time.Hour, By: []string{"agent"}}},
		"a bar":            {params{"never_after": "secrets-read", "by": "session"}, quota.Limit{Kind: quota.After, Name: "secrets-read", Of: quota.Calls, By: []string{"session"}}},
		"money by day": {params{"max": "12.5", "of": "usd", "per": "calendar day", "zone": "Europe/Berlin", "by": "tenant", "counter": "refunds", "keep": "true"},
			quota.Limit{Kind: quota.Window, Max: 12_500_000_000, Of: quota.USD, Calendar: "day", Zone: "Europe/Berlin", By: []string{"tenant"}, Name: "refunds", Keep: true}},
		"where it is written": {params{"max": "1", "per": "90m", "of": "tokens", "policy_id": "p", "rule_id": "r", "message": "m", "level": "WARN"},
			quota.Limit{Kind: quota.Window, Max: 1, Of: quota.Tokens, Per: 90 * time.Minute, By: []string{"agent"}, Policy: "p", Rule: "r", Message: "m", Level: "WARN"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := quota.Parse(tt.in)
			if err != nil || !quota.Marked(tt.in) {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A limit that is not understood must not be one that does not limit.
func TestWhatIsNotUnderstoodIsNamed(t *testing.T) {
	t.Parallel()
	good := params{"max": "3", "per": "hour"}
	for name, tt := range map[string]struct {
		change params
		names  string
	}{
		"no number":            {params{"max": "three"}, "max"},
		"none":                 {params{"max": "0"}, "max"},
		"too many":             {params{"max": "10001"}, "max"},
		"not whole":            {params{"max": "1.5"}, "max"},
		"no money":             {params{"of": "usd", "max": "-1"}, "max"},
		"not a number at all":  {params{"of": "usd", "max": "NaN"}, "max"},
		"more than there is":   {params{"of": "usd", "max": "1e300"}, "max"},
		"unknown unit":         {params{"of": "refunds"}, "of"},
		"no window":            {params{"per": ""}, "per"},
		"unknown window":       {params{"per": "fortnight"}, "per"},
		"part of a second":     {params{"per": "1500ms"}, "per"},
		"longer than a year":   {params{"per": "367d"}, "per"},
		"backwards":            {params{"per": "-1h"}, "per"},
		"unknown piece":        {params{"per": "calendar fortnight"}, "per"},
		"unknown zone":         {params{"per": "calendar day", "zone": "Mars/Olympus"}, "zone"},
		"the machine's zone":   {params{"per": "calendar day", "zone": "Local"}, "zone"},
		"a zone of no use":     {params{"zone": "UTC"}, "zone"},
		"unknown whom":         {params{"by": "agent,planet"}, "by"},
		"nobody":               {params{"by": ""}, "by"},
		"two at once":          {params{"parallel": "3"}, "parallel"},
		"misspelt":             {params{"windw": "1h"}, "windw"},
		"a nameless counter":   {params{"counter": " "}, "counter"},
		"neither true nor not": {params{"keep": "yes"}, "keep"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := maps.Clone(good)
			maps.Copy(in, tt.change)
			_, err := quota.Parse(in)
			var p *quota.Problem
			if !errors.As(err, &p) || p.Parameter != tt.names {
				t.Errorf("%v: %v", in, err)
			}
		})
	}
	if _, err := quota.Parse(params{"by": "agent"}); err == nil || quota.Marked(params{"per_minute": "3"}) {
		t.Error("a rate is no limit")
	}
	if _, err := quota.Parse(params{"max": "1"}); err == nil {
		t.Error("a limit needs a window")
	}
}

// Whatever a policy makes up, parsing ends with a limit that can be kept or
// with an error that names a parameter.
func FuzzParse(f *testing.F) {
	f.Add("max", "3", "per", "hour", "by", "agent")
	f.Add("parallel", "5", "by", "tool", "counter", "c")
	f.Add("max", "1e9", "of", "usd", "per", "calendar month")
	f.Fuzz(func(t *testing.T, a, av, b, bv, c, cv string) {
		l, err := quota.Parse(params{a: av, b: bv, c: cv})
		var p *quota.Problem
		switch {
		case err != nil && (!errors.As(err, &p) || p.Parameter == "" && a != "" && b != "" && c != ""):
			t.Errorf("%v", err)
		case err != nil:
		case len(l.By) == 0 || !slices.IsSorted(l.By):
			t.Errorf("by %v", l.By)
		case (l.Kind == quota.Window || l.Kind == quota.Parallel) != (l.Max > 0):
			t.Errorf("kind %d with max %d", l.Kind, l.Max)
		case l.Kind == quota.Window && l.Per < time.Second && l.Calendar == "":
			t.Errorf("a window of %s", l.Per)
		}
	})
}
