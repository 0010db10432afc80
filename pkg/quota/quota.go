// Package quota reads what a rule says about how often something may happen:
// the parameters of a LIMIT obligation. The policy engine refuses what it cannot
// read, so that no rule is stored that limits nothing; the gateway, which keeps
// the limits, denies by what it cannot read.
package quota

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Obligation is the type of the obligations that this package reads.
const Obligation = "LIMIT"

// Kind is what a limit does.
type Kind int

// The kinds of limits.
const (
	Window   Kind = iota + 1 // at most Max within Per, or within a piece of the calendar
	Parallel                 // at most Max that have begun and not ended
	Remember                 // sets the mark Name, and limits nothing
	After                    // nothing while the mark Name is set
	Count                    // counts on the counter Name, and limits nothing
)

// Unit is what a Window counts.
type Unit string

// The units.
const (
	Calls  Unit = "calls"
	USD    Unit = "usd" // in nano-USD
	Tokens Unit = "tokens"
)

// The most that a limit can say. A window of calls keeps a row for each of them.
const (
	MaxCalls  = 10_000
	MaxTokens = 1_000_000_000_000
	MaxPer    = 366 * 24 * time.Hour
	maxName   = 128
)

// Limit is one limit of a rule.
type Limit struct {
	Kind     Kind
	Max      int64
	Of       Unit
	Per      time.Duration // sliding; zero: Calendar, or of a mark forever
	Calendar string        // minute, hour, day, week, month or year of the calendar; "": none
	Zone     string        // of Calendar
	By       []string      // sorted
	Name     string        // of the counter or the mark; "": the rule's own counter
	Keep     bool          // it counts even if the action turns out not to have happened

	Policy, Rule string // where it is written
	Message      string // what to say when it refuses; "": nothing special
	Level        string // WARN: it only warns; TERMINATE: it ends the envelope; "": it denies
}

// Dimensions are whom a limit can count apart.
var Dimensions = []string{"agent", "envelope", "key", "session", "team", "tenant", "tool", "user", "workflow"}

// Marked says that parameters are of a limit.
func Marked(parameters map[string]string) bool {
	return slices.ContainsFunc(kinds, func(k string) bool { _, ok := parameters[k]; return ok })
}

// kinds are the parameters of which a limit has exactly one.
var kinds = []string{"max", "parallel", "remember", "never_after", "count"}

// taken are the parameters that each kind can have, beside those of every one.
var taken = map[string][]string{
	"max":         {"per", "of", "counter", "keep", "zone"},
	"parallel":    {"counter"},
	"remember":    {"per", "zone"},
	"never_after": {},
	"count":       {"per", "of", "keep", "zone"},
}

// every limit can have these. The last three are written by the policy engine.
var every = []string{"by", "message", "policy_id", "rule_id", "level"}

// Problem is what is wrong with one parameter.
type Problem struct {
	Parameter string
	Message   string
}

func (p *Problem) Error() string { return p.Parameter + " " + p.Message }

func wrong(parameter, format string, a ...any) *Problem {
	return &Problem{Parameter: parameter, Message: fmt.Sprintf(format, a...)}
}

// Parse reads the parameters of a LIMIT obligation. An error is a *Problem. What
// it does not know is an error too: a misspelt limit must not be none.
func Parse(parameters map[string]string) (Limit, error) {
	l := Limit{
		Of: Calls, Policy: parameters["policy_id"], Rule: parameters["rule_id"], Message: parameters["message"], Level: parameters["level"],
	}
	kind, err := kindOf(parameters)
	if err != nil {
		return Limit{}, err
	}
	for name := range parameters {
		if name != kind && !slices.Contains(every, name) && !slices.Contains(taken[kind], name) {
			return Limit{}, wrong(name, "is no parameter of a limit with %s", kind)
		}
	}
	for _, step := range []func(map[string]string, string) *Problem{l.amount, l.window, l.whom} {
		if p := step(parameters, kind); p != nil {
			return Limit{}, p
		}
	}
	return l, nil
}

func kindOf(parameters map[string]string) (string, error) {
	found := ""
	for _, k := range kinds {
		if _, ok := parameters[k]; ok && found != "" {
			return "", wrong(k, "cannot be together with %s: write two actions", found)
		} else if ok {
			found = k
		}
	}
	if found == "" {
		return "", wrong("max", "is missing: a limit has one of %s", strings.Join(kinds, ", "))
	}
	return found, nil
}
