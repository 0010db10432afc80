package policy

import (
	"fmt"
	"strings"

	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	"github.com/fulcrum-io/fulcrum/services/policy-engine/internal/sandbox"
)

// node is a condition, translated. Truth has three values, as in SQL: a
// condition on an unknown fact is neither true nor false, false decides an AND
// and true an OR whatever the rest is, and NOT leaves unknown unknown.
type node struct {
	op   policyv1.LogicalOperator // unspecified for a leaf
	kids []node
	leaf *leaf
}

// leaf compares one fact. Its forms are Rego, over the fact's place in the input.
type leaf struct {
	need need
	desc string
	// yes and no hold when the comparison is known to be true, and known to be
	// false. They are undefined, both, when the fact is unknown.
	yes, no string
	// each is yes and no as one expression, to stand behind "not".
	oneYes, oneNo string
	indexed       bool        // OPA finds yes by hash
	compares      *comparison // what it was made of, for lint; nil if that cannot be compared
	// With an operation, yes is also that a fact compares so with the operands,
	// or does not: a row of a sandbox.Table.
	op       sandbox.Op
	opNot    bool
	operands []operand
}

// answered is a condition whose fact is itself the answer, true or false.
func answered(n need, desc string) *leaf {
	yes, no := fact+" == true", fact+" == false"
	return &leaf{
		need: n, desc: desc, yes: yes, no: no, oneYes: yes, oneNo: no, indexed: true,
		op: sandbox.Equal, operands: []operand{{kind: boolean, yes: true}},
	}
}

// need is a fact and the kinds that a comparison can use. The zero need is never
// met: it is that of a comparison that cannot be made. With a spike, the fact is
// whether that holds for the field.
type need struct {
	field field
	kinds kind
	spike spike
}

// fact stands in the forms of a leaf for the place of its fact.
const fact = "\x00"

// condition translates c, found at path, and reports what is wrong with it. What
// is wrong becomes a leaf that is never known, so that it cannot be ignored.
func (t *translator) condition(path string, c *policyv1.PolicyCondition, depth int) node {
	n, err := t.translate(path, c, depth)
	if err != nil {
		t.problem(path, err)
		n = node{leaf: &leaf{desc: err.Error(), yes: "false", no: "false", oneYes: "false", oneNo: "false", op: sandbox.Never}}
	}
	if c.GetNegate() {
		return node{op: policyv1.LogicalOperator_LOGICAL_OPERATOR_NOT, kids: []node{n}}
	}
	return n
}

// maxDepth is how deep conditions may nest.
const maxDepth = 16

func (t *translator) translate(path string, c *policyv1.PolicyCondition, depth int) (node, error) {
	kind := c.GetConditionType()
	if kind == policyv1.ConditionType_CONDITION_TYPE_UNSPECIFIED {
		kind = policyv1.ConditionType_CONDITION_TYPE_FIELD_MATCH
		if len(c.GetNestedConditions()) > 0 {
			kind = policyv1.ConditionType_CONDITION_TYPE_LOGICAL
		}
	}
	switch kind {
	case policyv1.ConditionType_CONDITION_TYPE_LOGICAL:
		return t.logical(path, c, depth)
	case policyv1.ConditionType_CONDITION_TYPE_STATISTICAL_SPIKE:
		return t.spike(c)
	case policyv1.ConditionType_CONDITION_TYPE_EXTERNAL_CALL, policyv1.ConditionType_CONDITION_TYPE_SEMANTIC:
		return t.outside(path, kind, c)
	}
	if len(c.GetNestedConditions()) > 0 {
		return node{}, fmt.Errorf("nested_conditions belong to LOGICAL conditions only")
	}
	cmp, err := parseComparison(kind, c)
	if err != nil {
		return node{}, err
	}
	l, err := cmp.leaf()
	if err != nil {
		return node{}, err
	}
	return node{leaf: l}, nil
}

func (t *translator) logical(path string, c *policyv1.PolicyCondition, depth int) (node, error) {
	switch {
	case depth >= maxDepth:
		return node{}, fmt.Errorf("conditions nest deeper than %d", maxDepth)
	case len(c.GetNestedConditions()) == 0:
		return node{}, fmt.Errorf("LOGICAL needs nested_conditions")
	case c.GetLogicalOperator() == policyv1.LogicalOperator_LOGICAL_OPERATOR_UNSPECIFIED:
		return node{}, fmt.Errorf("LOGICAL needs a logical_operator")
	}
	n := node{op: c.GetLogicalOperator()}
	for i, kid := range c.GetNestedConditions() {
		n.kids = append(n.kids, t.condition(fmt.Sprintf("%s.nested_conditions[%d]", path, i), kid, depth+1))
	}
	return n, nil
}

// unavailable is a condition that nobody here can judge: always unknown. It is a
// policy's right to have one and no fault of its text, so it only warns.
func (t *translator) unavailable(path, why string) node {
	t.warn(path+".condition_type", "no-backend", why+": this condition always fails, and the policy's failure mode decides")
	return node{leaf: &leaf{desc: why, yes: "false", no: "false", oneYes: "false", oneNo: "false", op: sandbox.Never}}
}

// comparison is a condition on one field, before it is Rego.
type comparison struct {
	name  string
	field field
	kinds kind // the field can have
	op    policyv1.ConditionOperator
	with  policyv1.ConditionType // prefix and suffix have no operator
	args  []operand
	span  bool // args are the two ends of a range
	whole bool // the one argument is a list to equal
}

// operators are those that each condition type takes; the first is meant when
// none is given.
var operators = map[policyv1.ConditionType][]policyv1.ConditionOperator{
	policyv1.ConditionType_CONDITION_TYPE_FIELD_MATCH: {equals, notEquals, greater, less, greaterEqual, lessEqual, matches, contains, in, notIn},
	policyv1.ConditionType_CONDITION_TYPE_REGEX:       {matches, equals},
	policyv1.ConditionType_CONDITION_TYPE_RANGE:       {in, notIn, greater, less, greaterEqual, lessEqual, equals},
	policyv1.ConditionType_CONDITION_TYPE_IN_LIST:     {in, notIn, equals},
	policyv1.ConditionType_CONDITION_TYPE_CONTAINS:    {contains, equals},
	policyv1.ConditionType_CONDITION_TYPE_STARTS_WITH: {equals},
	policyv1.ConditionType_CONDITION_TYPE_ENDS_WITH:   {equals},
}

const (
	equals       = policyv1.ConditionOperator_CONDITION_OPERATOR_EQUALS
	notEquals    = policyv1.ConditionOperator_CONDITION_OPERATOR_NOT_EQUALS
	greater      = policyv1.ConditionOperator_CONDITION_OPERATOR_GREATER_THAN
	less         = policyv1.ConditionOperator_CONDITION_OPERATOR_LESS_THAN
	greaterEqual = policyv1.ConditionOperator_CONDITION_OPERATOR_GREATER_EQUAL
	lessEqual    = policyv1.ConditionOperator_CONDITION_OPERATOR_LESS_EQUAL
	matches      = policyv1.ConditionOperator_CONDITION_OPERATOR_MATCHES
	contains     = policyv1.ConditionOperator_CONDITION_OPERATOR_CONTAINS
	in           = policyv1.ConditionOperator_CONDITION_OPERATOR_IN
	notIn        = policyv1.ConditionOperator_CONDITION_OPERATOR_NOT_IN
)

func parseComparison(kind policyv1.ConditionType, c *policyv1.PolicyCondition) (comparison, error) {
	cmp := comparison{name: c.GetField(), op: c.GetOperator(), with: kind}
	var err error
	if cmp.field, cmp.kinds, err = parseField(c.GetField()); err != nil {
		return cmp, err
	}
	takes, ok := operators[kind]
	if !ok {
		return cmp, fmt.Errorf("unknown condition_type %d", kind)
	}
	ok = cmp.op == policyv1.ConditionOperator_CONDITION_OPERATOR_UNSPECIFIED
	for _, op := range takes {
		ok = ok || op == cmp.op
	}
	if !ok {
		return cmp, fmt.Errorf("%s does not take the operator %s; use negate for the opposite", short(kind), short(cmp.op))
	}
	if cmp.op == policyv1.ConditionOperator_CONDITION_OPERATOR_UNSPECIFIED ||
		cmp.op == equals && kind != policyv1.ConditionType_CONDITION_TYPE_FIELD_MATCH {
		cmp.op = takes[0] // some clients send EQUALS with every type
	}
	if err := cmp.operands(c); err != nil {
		return cmp, err
	}
	return cmp, nil
}

// operands reads the values, brings names to the form that facts have, and
// checks that there are as many as the operator takes.
func (cmp *comparison) operands(c *policyv1.PolicyCondition) error {
	scalar, single := scalarOf(c)
	elements := c.GetListValue().GetValues()
	if single {
		cmp.args = append(cmp.args, scalar)
	}
	for i, v := range elements {
		o, ok := operandOf(v)
		if !ok {
			return fmt.Errorf("list_value[%d] must be a string, a number or a boolean", i)
		}
		cmp.args = append(cmp.args, o)
	}
	for _, s := range c.GetValues() {
		cmp.args = append(cmp.args, operand{kind: text, str: s})
	}
	_, hasList := c.GetValue().(*policyv1.PolicyCondition_ListValue)
	sources := 0
	for _, has := range []bool{single, hasList, len(c.GetValues()) > 0} {
		if has {
			sources++
		}
	}
	switch {
	case sources == 0:
		return fmt.Errorf("a value to compare %s with is missing", cmp.name)
	case sources > 1:
		return fmt.Errorf("give one value or one list, not both")
	}
	for i := range cmp.args {
		if err := cmp.normalise(&cmp.args[i], len(c.GetValues()) > 0); err != nil {
			return err
		}
	}
	return cmp.arity(single)
}

func (cmp *comparison) arity(single bool) error {
	ranged := cmp.with == policyv1.ConditionType_CONDITION_TYPE_RANGE && (cmp.op == in || cmp.op == notIn)
	switch {
	case ranged:
		if cmp.span = true; len(cmp.args) != 2 {
			return fmt.Errorf("RANGE takes two values, from and to, or one with an operator such as GREATER_THAN")
		}
	case (cmp.op == equals || cmp.op == notEquals) && !single &&
		cmp.with == policyv1.ConditionType_CONDITION_TYPE_FIELD_MATCH:
		if cmp.field.items {
			cmp.whole = true
		} else if len(cmp.args) != 1 {
			return fmt.Errorf("%s takes one value; use IN for several", short(cmp.op))
		}
	case cmp.op == in || cmp.op == notIn:
		if len(cmp.args) == 0 {
			return fmt.Errorf("the list is empty")
		}
	case cmp.op == greater || cmp.op == less || cmp.op == greaterEqual || cmp.op == lessEqual:
		if len(cmp.args) != 1 {
			return fmt.Errorf("%s takes one value", short(cmp.op))
		}
	case len(cmp.args) == 0:
		return fmt.Errorf("the list is empty")
	}
	return nil
}

// normalise brings an operand to the form that facts have.
func (cmp *comparison) normalise(o *operand, untyped bool) error {
	whole := (cmp.op == equals || cmp.op == notEquals || cmp.op == in || cmp.op == notIn) &&
		cmp.with != policyv1.ConditionType_CONDITION_TYPE_STARTS_WITH && cmp.with != policyv1.ConditionType_CONDITION_TYPE_ENDS_WITH
	switch cmp.field.source {
	case phaseType:
		if whole {
			o.str = strings.TrimPrefix(strings.ToUpper(o.str), "EXECUTION_PHASE_")
		}
	case actionKind:
		if whole {
			o.str = strings.TrimPrefix(strings.ToUpper(o.str), "ACTION_KIND_")
		}
	case timeWeekday:
		if o.kind == text && whole {
			day, ok := weekdays[strings.ToLower(o.str)]
			if !ok {
				return fmt.Errorf("%q is not a day of the week", o.str)
			}
			o.str = day
		}
		if o.kind == number && o.num == "0" {
			o.num = "7" // Sunday, to those who count from it
		}
	}
	if untyped && o.kind == text && cmp.kinds == number {
		n, ok := fromText(o.str) // values holds strings only, on the wire
		if !ok {
			return fmt.Errorf("%s is a number, %q is not", cmp.name, o.str)
		}
		*o = operand{kind: number, num: n}
	}
	return nil
}

var weekdays = func() map[string]string {
	days := map[string]string{}
	for _, d := range []string{"monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"} {
		days[d], days[d[:3]] = d, d
	}
	return days
}()

// describe says the comparison in words, for people who ask why.
func (cmp *comparison) describe() string {
	verb := short(cmp.op)
	switch {
	case cmp.span:
		verb = "IN RANGE"
	case cmp.with == policyv1.ConditionType_CONDITION_TYPE_STARTS_WITH, cmp.with == policyv1.ConditionType_CONDITION_TYPE_ENDS_WITH:
		verb = short(cmp.with)
	}
	value := join(cmp.args)
	if len(cmp.args) > 1 {
		value = "[" + value + "]"
	}
	return clip(cmp.name+" "+verb+" "+value, 200)
}

// clip shortens s to at most n bytes, at a rune.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}

// short is an enum value without its prefix.
func short(e fmt.Stringer) string {
	s := e.String()
	for _, prefix := range []string{
		"CONDITION_TYPE_", "CONDITION_OPERATOR_", "ACTION_TYPE_", "SEVERITY_LEVEL_", "EXECUTION_PHASE_", "ACTION_KIND_", "DECISION_",
	} {
		if rest, ok := strings.CutPrefix(s, prefix); ok {
			return rest
		}
	}
	return s
}
