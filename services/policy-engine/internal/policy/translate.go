package policy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	"github.com/fulcrum-io/fulcrum/services/policy-engine/internal/sandbox"
)

// Into how many plain conjunctions conditions may unfold: those of a rule, of a
// policy and of a tenant. A thousand take a twentieth of a second to compile.
const (
	maxAlternatives = 512
	maxPolicyLines  = 4_096
	maxTenantLines  = 16_384
)

// translator writes the structured rules of a tenant as one Rego module.
//
// Each rule unfolds into lines, conjunctions of comparisons; a rule holds when
// one of its lines does. For every line there is a rule in the set "hit", true
// when all its comparisons are, and rules in the set "unsure" for when one is
// unknown and none is false: together they are three-valued logic, in which
// unfolding is exact. "unsure" is asked for only when a needed fact is unknown.
//
//	hit contains 4 if { input.s1; input.n2 == "wire"; input.n3 > 5000 }
//	unsure contains 4 if { input.g0; input.s1; input.n2 == "wire"; not input.n3 <= 5000 }
//
// That is how the few lines are asked that compare whole lists. All others are no
// rules: they become rows of a sandbox.Table, which the query asks beside "hit" and
// "unsure", and which mean the same.
//
// The input is flat and holds only what rules ask for: n<i> is the i-th needed
// fact in the kind needed, s<i> is true when the i-th scope applies, g<i> is true
// when the i-th gap is open.
type translator struct {
	needs   []need
	needNo  map[need]int
	scopes  []*policyv1.PolicyScope
	scopeNo map[string]int
	gaps    []gap
	gapNo   map[string]int
	lines   []line
	rules   int // so far
	helpers map[string]bool
	hit     strings.Builder
	unsure  strings.Builder

	rows   []sandbox.Row
	inRego map[int]bool // needs that rules ask for
	noRows bool         // every line is a rule, to compare

	backends  Backends
	questions []Question

	policy    string     // whose rules are being translated
	baselines []baseline // that they compare fields with
	spikes    []need     // of conditions that do

	problems []Problem
	prefix   string // of the fields of problems
}

// line is one conjunction of a rule.
type line struct {
	rule   int // counted over all policies
	needs  []int
	spikes []spiked
	match  *policyv1.RuleMatch
}

// spiked is a comparison with a history, of which there is more to say than that
// it held.
type spiked struct {
	need      int
	condition int // among the conditions of the match
}

// gap is open when any of some needs is unknown while none of others is
// inapplicable, that is false.
type gap struct {
	any, none []int
}

func newTranslator(b Backends) *translator {
	return &translator{backends: b, needNo: map[need]int{}, scopeNo: map[string]int{}, gapNo: map[string]int{}, helpers: map[string]bool{}, inRego: map[int]bool{}}
}

func (t *translator) problem(path string, err error) {
	t.problems = append(t.problems, Problem{Field: t.prefix + path, Message: err.Error()})
}

func (t *translator) warn(path, check, message string) {
	t.problems = append(t.problems, Problem{Field: t.prefix + path, Check: check, Message: message, Warning: true})
}

// rule adds a rule and its lines. scope is the number of its policy's scope, -1
// for everywhere.
func (t *translator) rule(path string, scope int, r *policyv1.PolicyRule) {
	all := node{op: policyv1.LogicalOperator_LOGICAL_OPERATOR_AND}
	for i, c := range r.GetConditions() {
		all.kids = append(all.kids, t.condition(fmt.Sprintf("%s.conditions[%d]", path, i), c, 1))
	}
	alternatives, ok := unfold(all, false)
	if !ok {
		t.problem(path+".conditions", fmt.Errorf("conditions unfold into more than %d alternatives", maxAlternatives))
		alternatives = [][]literal{{{leaf: &leaf{yes: "false", no: "false", oneYes: "false", oneNo: "false", op: sandbox.Never}}}}
	}
	for _, alternative := range alternatives {
		t.line(scope, r, alternative)
	}
	t.rules++
}

// literal is a leaf or its opposite.
type literal struct {
	leaf *leaf
	not  bool
}

func (l literal) forms() *leaf {
	if l.not {
		return l.leaf.negated()
	}
	return l.leaf
}

// unfold writes n, or its opposite, as an OR of ANDs. De Morgan's and the
// distributive laws hold in three-valued logic as well.
func unfold(n node, not bool) ([][]literal, bool) {
	if n.leaf != nil {
		return [][]literal{{{n.leaf, not}}}, true
	}
	and := n.op == policyv1.LogicalOperator_LOGICAL_OPERATOR_AND
	if n.op == policyv1.LogicalOperator_LOGICAL_OPERATOR_NOT {
		not = !not // NOT holds when none of the kids does: the opposite of OR
	}
	if not {
		and = !and
	}
	if !and {
		var out [][]literal
		for _, kid := range n.kids {
			alternatives, ok := unfold(kid, not)
			if out = append(out, alternatives...); !ok || len(out) > maxAlternatives {
				return nil, false
			}
		}
		return out, true
	}
	out := [][]literal{nil}
	for _, kid := range n.kids {
		alternatives, ok := unfold(kid, not)
		if !ok || len(out)*len(alternatives) > maxAlternatives {
			return nil, false
		}
		var next [][]literal
		for _, left := range out {
			for _, right := range alternatives {
				next = append(next, slices.Concat(left, right))
			}
		}
		out = next
	}
	return out, true
}

func (t *translator) line(scope int, r *policyv1.PolicyRule, literals []literal) {
	no := len(t.lines)
	l := line{rule: t.rules, match: &policyv1.RuleMatch{
		RuleId: r.GetRuleId(), RuleName: r.GetName(), Priority: r.GetPriority(),
	}}
	var forms []*leaf
	for _, lit := range literals {
		f := lit.forms()
		if slices.ContainsFunc(forms, func(o *leaf) bool { return o.need == f.need && o.yes == f.yes }) {
			continue
		}
		forms = append(forms, f)
		if n := t.need(f.need); !slices.Contains(l.needs, n) {
			l.needs = append(l.needs, n)
		}
		desc := f.desc
		if lit.not {
			desc = "NOT " + desc
		}
		if f.need.spike != (spike{}) {
			l.spikes = append(l.spikes, spiked{t.need(f.need), len(l.match.GetMatchedConditions())})
		}
		l.match.MatchedConditions = append(l.match.MatchedConditions, desc)
	}
	t.lines = append(t.lines, l)

	if !t.noRows && !slices.ContainsFunc(forms, func(f *leaf) bool { return f.op == sandbox.NoOp }) {
		t.rows = append(t.rows, t.row(no, scope, forms))
		return
	}
	t.conjunction(no, scope, l.needs, forms)
}

// row is line no as a row of a table.
func (t *translator) row(no, scope int, forms []*leaf) sandbox.Row {
	r := sandbox.Row{Line: no, Scope: scope}
	for _, f := range forms {
		one := sandbox.Test{Fact: t.need(f.need), Op: f.op, Not: f.opNot}
		for _, o := range f.operands {
			one.With = append(one.With, o.value())
		}
		r.Tests = append(r.Tests, one)
	}
	return r
}

// conjunction writes line no as rules of its own.
func (t *translator) conjunction(no, scope int, needs []int, forms []*leaf) {
	where := within(scope)
	fmt.Fprintf(&t.hit, "hit contains %d if {\n%s", no, where)
	for _, f := range forms {
		t.hit.WriteString(t.place(f, f.yes))
	}
	if where == "" && len(forms) == 0 {
		t.hit.WriteString("\ttrue\n")
	}
	t.hit.WriteString("}\n")
	t.unknowns(no, where, needs, forms)
}

// within is the condition that a scope applies.
func within(scope int) string {
	if scope < 0 {
		return ""
	}
	return "\tinput.s" + strconv.Itoa(scope) + "\n"
}

// unknowns writes when line no is unsure. A comparison with an indexed constant is
// kept strict where its fact is known, so that OPA passes over the line for
// every other value; a second rule covers that fact being the unknown one.
func (t *translator) unknowns(no int, where string, needs []int, forms []*leaf) {
	gate := slices.IndexFunc(forms, func(f *leaf) bool { return f.indexed })
	if gate < 0 {
		t.unsureRule(no, where, gap{needs, needs}, forms, -1)
		return
	}
	gateNeed := t.need(forms[gate].need)
	if others := slices.DeleteFunc(slices.Clone(needs), func(n int) bool { return n == gateNeed }); len(others) > 0 {
		t.unsureRule(no, where, gap{others, needs}, forms, gate)
	}
	t.unsureRule(no, where, gap{[]int{gateNeed}, needs}, forms, -1)
}

func (t *translator) unsureRule(no int, where string, g gap, forms []*leaf, strict int) {
	if len(g.any) == 0 {
		return
	}
	fmt.Fprintf(&t.unsure, "unsure contains %d if {\n\tinput.g%d\n%s", no, t.gap(g), where)
	for i, f := range forms {
		if i == strict {
			t.unsure.WriteString(t.place(f, f.yes))
		} else {
			t.unsure.WriteString(t.place(f, "not "+f.oneNo))
		}
	}
	t.unsure.WriteString("}\n")
}

// place writes a form of f with its fact's place filled in.
func (t *translator) place(f *leaf, form string) string {
	for name := range helpers {
		if strings.Contains(form, name+"(") {
			t.helpers[name] = true
		}
	}
	no := t.need(f.need)
	t.inRego[no] = true
	form = strings.ReplaceAll(form, fact, "input.n"+strconv.Itoa(no))
	return "\t" + strings.ReplaceAll(form, "\n", "\n\t") + "\n"
}

func (t *translator) need(n need) int {
	no, ok := t.needNo[n]
	if !ok {
		no = len(t.needs)
		t.needNo[n], t.needs = no, append(t.needs, n)
	}
	return no
}

func (t *translator) gap(g gap) int {
	key := fmt.Sprint(g)
	no, ok := t.gapNo[key]
	if !ok {
		no = len(t.gaps)
		t.gapNo[key], t.gaps = no, append(t.gaps, g)
	}
	return no
}

// scope numbers a scope; equal ones share a number. -1 is everywhere.
func (t *translator) scope(s *policyv1.PolicyScope) int {
	if everywhere(s) {
		return -1
	}
	key := scopeKey(s)
	no, ok := t.scopeNo[key]
	if !ok {
		no = len(t.scopes)
		t.scopeNo[key], t.scopes = no, append(t.scopes, s)
	}
	return no
}

// scopeKey is equal for scopes that say the same. (String is not: its spacing
// is random by program.)
func scopeKey(s *policyv1.PolicyScope) string {
	return fmt.Sprintf("%q %v %q %q %q %q %q", s.GetWorkflowIds(), s.GetPhases(), s.GetRoles(), s.GetModelIds(), s.GetToolNames(), s.GetAgentIds(), s.GetTeams())
}

// helpers are the functions that forms may call, written only when they do.
var helpers = map[string]string{
	"between":   "between(v, from, to) if { v >= from; v <= to }\n",
	"beyond":    "beyond(v, from, _) if v < from\nbeyond(v, _, to) if v > to\n",
	"shares":    "shares(vs, set) if { some v in vs; v in set }\n",
	"lacks":     "lacks(vs, set) if { every v in vs { not v in set } }\n",
	"any_has":   "any_has(vs, xs) if { some v in vs; some x in xs; contains(v, x) }\n",
	"no_has":    "no_has(vs, xs) if { every v in vs { every x in xs { not contains(v, x) } } }\n",
	"any_match": "any_match(vs, xs) if { some v in vs; some x in xs; regex.match(x, v) }\n",
	"no_match":  "no_match(vs, xs) if { every v in vs { every x in xs { not regex.match(x, v) } } }\n",
}

const rulesPackage = "fulcrum.rules"

// module is the whole text.
func (t *translator) module() string {
	var b strings.Builder
	b.WriteString("package " + rulesPackage + "\n\n")
	var used []string
	for name := range t.helpers {
		used = append(used, name)
	}
	slices.Sort(used) // equal rules give equal texts, which share a program
	for _, name := range used {
		b.WriteString(helpers[name])
	}
	b.WriteString(t.hit.String())
	b.WriteString(t.unsure.String())
	return b.String()
}
