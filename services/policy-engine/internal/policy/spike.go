package policy

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/fulcrum-io/fulcrum/pkg/quota"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
)

// A STATISTICAL_SPIKE compares a number of the action with what it was before:
// with the mean of its history and the standard deviation from that. Who records
// decisions keeps the histories and supplies what they came to as facts; nothing
// is counted here.

// spike is the test of one such condition. The zero spike tests nothing.
type spike struct {
	baseline string // the key of the history in Facts.statistics
	side     policyv1.ConditionOperator
	sigmas   float64 // how many standard deviations are still no spike
	least    int64   // how many values it takes
}

const (
	defaultSigmas  = 3
	defaultSamples = 30
	maxSigmas      = 1e6
	// evenness is the share of the mean that a deviation counts as at least: what
	// was always 100 is not far from itself at 100.01.
	evenness = 1000
	// maxBaselines is how many histories a tenant may ask for: each decision
	// reads all of them, and adds to those that it has a value for.
	maxBaselines = 16
	// farthest is the largest value that is counted: its square is still a number.
	farthest = 1e100
)

// defaultBy is whose values are kept apart where a condition does not say.
var defaultBy = []string{"agent", "tool"}

// baseline is a history that a policy compares a field with.
type baseline struct {
	key, policy string
	field       field
	by          []string
}

// spike translates such a condition.
func (t *translator) spike(c *policyv1.PolicyCondition) (node, error) {
	f, err := spikeField(c)
	if err != nil {
		return node{}, err
	}
	s := spike{side: c.GetOperator(), least: int64(cmp.Or(c.GetSpike().GetMinSamples(), defaultSamples))}
	switch s.side {
	case policyv1.ConditionOperator_CONDITION_OPERATOR_UNSPECIFIED, equals: // some clients send EQUALS with every type
		s.side = greater
	case greater, less, notIn:
	default:
		return node{}, fmt.Errorf("STATISTICAL_SPIKE takes GREATER_THAN (above, which is the default), LESS_THAN (below) or NOT_IN (either), not %s", short(s.side))
	}
	if s.sigmas, err = sigmas(c); err != nil {
		return node{}, err
	}
	b := baseline{policy: t.policy, field: f, by: slices.Compact(slices.Sorted(slices.Values(c.GetSpike().GetBy())))}
	for _, by := range b.by {
		if !slices.Contains(quota.Dimensions, by) {
			return node{}, fmt.Errorf("spike.by is any of %s, not %q", strings.Join(quota.Dimensions, ", "), by)
		}
	}
	if len(b.by) == 0 {
		b.by = defaultBy
	}
	b.key = baselineKey(t.policy, f.String(), b.by)
	s.baseline = b.key
	if !slices.ContainsFunc(t.baselines, func(had baseline) bool { return had.key == b.key }) {
		if len(t.baselines) >= maxBaselines {
			return node{}, fmt.Errorf("the STATISTICAL_SPIKE conditions of a tenant may look at %d histories", maxBaselines)
		}
		t.baselines = append(t.baselines, b)
	}
	n := need{field: f, kinds: number, spike: s}
	if !slices.Contains(t.spikes, n) {
		t.spikes = append(t.spikes, n)
	}
	return node{leaf: answered(n, clip(s.describe(f, b.by), 200))}, nil
}

// spikeField is the field of c, if it is a number that actions have.
func spikeField(c *policyv1.PolicyCondition) (field, error) {
	f, kinds, err := parseField(c.GetField())
	switch {
	case err != nil:
		return f, err
	case len(c.GetNestedConditions()) > 0:
		return f, errors.New("nested_conditions belong to LOGICAL conditions only")
	case kinds&number == 0:
		return f, fmt.Errorf("%s is a %s: only a number has a mean", c.GetField(), kinds)
	case f.source == actionArg, f.source == attribute, f.source >= estimateCost && f.source <= estimateSeconds:
		return f, nil
	}
	return f, fmt.Errorf("%s is nothing that actions have: STATISTICAL_SPIKE takes estimate.*, action.args.<path> or attribute.<path>", c.GetField())
}

// sigmas reads the threshold.
func sigmas(c *policyv1.PolicyCondition) (float64, error) {
	o, given := scalarOf(c)
	if values := c.GetValues(); !given && len(values) == 1 && c.GetValue() == nil {
		n, ok := fromText(values[0]) // values holds strings only, on the wire
		o, given = operand{kind: number, num: n}, true
		if !ok {
			o.kind = text
		}
	}
	n, ok := o.float()
	switch {
	case !given && c.GetValue() == nil && len(c.GetValues()) == 0:
		return defaultSigmas, nil
	case !ok || !(n > 0) || n > maxSigmas || given && c.GetValue() != nil && len(c.GetValues()) > 0:
		return 0, fmt.Errorf("the value of STATISTICAL_SPIKE is a number of standard deviations, above 0 and at most %g", float64(maxSigmas))
	}
	return n, nil
}

// baselineKey names a history among the facts. What a policy's own tests say goes
// by the same name without the policy.
func baselineKey(policy, name string, by []string) string {
	key := policy + " " + name
	if !slices.Equal(by, defaultBy) {
		key += " by " + strings.Join(by, ",")
	}
	return key
}

func (s spike) describe(f field, by []string) string {
	side := map[policyv1.ConditionOperator]string{greater: "above", less: "below", notIn: "away from"}[s.side]
	return fmt.Sprintf("%s STATISTICAL_SPIKE %g deviations %s its mean by %s, from %d samples on", f, s.sigmas, side, strings.Join(by, ", "), s.least)
}

// spread is the deviation that counts.
func spread(h *policyv1.FieldStatistics) float64 {
	return max(h.GetDeviation(), math.Abs(h.GetMean())/evenness)
}

// knownHistory reports whether h can be compared with.
func knownHistory(h *policyv1.FieldStatistics) bool {
	return h != nil && h.GetSamples() >= 0 && h.GetDeviation() >= 0 && !math.IsInf(h.GetDeviation(), 1) && !math.IsInf(h.GetMean(), 0) && !math.IsNaN(h.GetMean())
}

// holds reports whether x is further from the mean than it may be.
func (s spike) holds(x float64, h *policyv1.FieldStatistics) bool {
	if h.GetSamples() < s.least {
		return false
	}
	reach, away := s.sigmas*spread(h), x-h.GetMean()
	return s.side != less && away > reach || s.side != greater && -away > reach
}

// spiking is whether n's spike holds; nil if the history is unknown.
func (v *view) spiking(n need, t *ast.Term) *ast.Term {
	x, ok := float(t)
	h := v.facts.GetStatistics()[n.spike.baseline]
	if !ok || !knownHistory(h) {
		return nil
	}
	return ast.InternedTerm(n.spike.holds(x, h))
}

func float(t *ast.Term) (float64, bool) {
	if t == nil {
		return 0, false
	}
	n, ok := t.Value.(ast.Number)
	if !ok {
		return 0, false
	}
	x, err := strconv.ParseFloat(string(n), 64)
	return x, err == nil
}

// account says how a field compares with its history, for people who ask why. It
// is "" where one of them is unknown.
func (v *view) account(n need) string {
	x, ok := float(v.lookup(n, ""))
	h := v.facts.GetStatistics()[n.spike.baseline]
	if !ok || !knownHistory(h) {
		return ""
	}
	if v.learning(n) {
		return fmt.Sprintf("%s has %d of the %d samples that STATISTICAL_SPIKE takes", n.field, h.GetSamples(), n.spike.least)
	}
	away, side := x-h.GetMean(), "above"
	if away < 0 {
		away, side = -away, "below"
	}
	times := "infinitely many"
	if d := spread(h); d > 0 {
		times = strconv.FormatFloat(away/d, 'f', 1, 64)
	}
	return fmt.Sprintf("%s is %g, %s standard deviations %s its mean %.6g (deviation %.6g, %d samples)",
		n.field, x, times, side, h.GetMean(), h.GetDeviation(), h.GetSamples())
}

// learning reports whether the history of n has too few values so far.
func (v *view) learning(n need) bool {
	h := v.facts.GetStatistics()[n.spike.baseline]
	return knownHistory(h) && h.GetSamples() < n.spike.least
}
