package policy

import (
	"fmt"
	"regexp"
	"strings"

	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	"github.com/fulcrum-io/fulcrum/services/policy-engine/internal/sandbox"
)

// leaf chooses the Rego for cmp, or says why its two sides never compare.
func (cmp *comparison) leaf() (*leaf, error) {
	l, err := cmp.build()
	if err != nil {
		return nil, err
	}
	if l.oneYes == "" {
		l.oneYes = l.yes
	}
	if l.oneNo == "" {
		l.oneNo = l.no
	}
	l.desc, l.compares = cmp.describe(), cmp
	return l, nil
}

func (cmp *comparison) build() (*leaf, error) {
	onList := cmp.kinds&(texts|list) != 0
	switch {
	case cmp.whole:
		return cmp.form(texts|list, fact+" == ["+join(cmp.args)+"]", fact+" != ["+join(cmp.args)+"]")
	case cmp.span:
		return cmp.between()
	case cmp.with == policyv1.ConditionType_CONDITION_TYPE_STARTS_WITH:
		return cmp.affix(sandbox.Prefix, "startswith", "strings.any_prefix_match")
	case cmp.with == policyv1.ConditionType_CONDITION_TYPE_ENDS_WITH:
		return cmp.affix(sandbox.Suffix, "endswith", "strings.any_suffix_match")
	}
	switch cmp.op {
	case matches:
		return cmp.search("match", sandbox.Match, "regex.match(%[2]s, %[1]s)")
	case contains:
		if onList {
			return cmp.member()
		}
		return cmp.search("has", sandbox.Has, "contains(%s, %s)")
	case in:
		if onList {
			return cmp.member()
		}
		return cmp.oneOf()
	case notIn, notEquals:
		opposite := *cmp
		opposite.op = map[policyv1.ConditionOperator]policyv1.ConditionOperator{notIn: in, notEquals: equals}[cmp.op]
		l, err := opposite.leaf()
		if err != nil {
			return nil, err
		}
		return l.negated(), nil
	case equals:
		if onList {
			return cmp.member()
		}
		x := cmp.args[0].rego()
		l, err := cmp.form(cmp.args[0].kind, fact+" == "+x, fact+" != "+x)
		if err == nil {
			l.indexed = true
		}
		return l.row(sandbox.Equal, cmp.args, err)
	}
	return cmp.order()
}

// negated returns l with true and false exchanged.
func (l *leaf) negated() *leaf {
	return &leaf{
		need: l.need, desc: l.desc, yes: l.no, no: l.yes, oneYes: l.oneNo, oneNo: l.oneYes,
		op: l.op, opNot: !l.opNot, operands: l.operands,
	}
}

// row lets a row of a table make the comparison of l as well.
func (l *leaf) row(op sandbox.Op, operands []operand, err error) (*leaf, error) {
	if err != nil {
		return nil, err
	}
	l.op, l.operands = op, operands
	return l, nil
}

// form returns a leaf that needs a fact of the given kinds, if the field can
// have one.
func (cmp *comparison) form(kinds kind, yes, no string) (*leaf, error) {
	if kinds&cmp.kinds == 0 {
		return nil, fmt.Errorf("%s is a %s, the value is a %s: they never compare", cmp.name, cmp.kinds, kinds)
	}
	return &leaf{need: need{field: cmp.field, kinds: kinds & cmp.kinds}, yes: yes, no: no}, nil
}

func (cmp *comparison) order() (*leaf, error) {
	o := cmp.args[0]
	if o.kind == boolean {
		return nil, fmt.Errorf("%s does not compare booleans", short(cmp.op))
	}
	sign := map[policyv1.ConditionOperator][2]string{
		greater: {">", "<="}, less: {"<", ">="}, greaterEqual: {">=", "<"}, lessEqual: {"<=", ">"},
	}[cmp.op]
	l, err := cmp.form(o.kind, fact+" "+sign[0]+" "+o.rego(), fact+" "+sign[1]+" "+o.rego())
	op := sandbox.Above
	if cmp.op == less || cmp.op == greaterEqual {
		op = sandbox.Below
	}
	l, err = l.row(op, cmp.args, err)
	if err == nil {
		l.opNot = cmp.op == greaterEqual || cmp.op == lessEqual
	}
	return l, err
}

func (cmp *comparison) between() (*leaf, error) {
	from, to := cmp.args[0], cmp.args[1]
	if from.kind != to.kind || from.kind == boolean {
		return nil, fmt.Errorf("the ends of a RANGE must be two numbers or two strings")
	}
	args := fmt.Sprintf("(%s, %s, %s)", fact, from.rego(), to.rego())
	l, err := cmp.form(from.kind, fact+" >= "+from.rego()+"\n"+fact+" <= "+to.rego(), "beyond"+args)
	if l, err = l.row(sandbox.Between, cmp.args, err); err != nil {
		return nil, err
	}
	l.oneYes = "between" + args
	if cmp.op == notIn {
		l = l.negated()
	}
	return l, nil
}

func (cmp *comparison) oneOf() (*leaf, error) {
	var kinds kind
	for _, o := range cmp.args {
		kinds |= o.kind
	}
	set := "{" + join(cmp.args) + "}"
	yes := fact + " in " + set
	l, err := cmp.form(kinds, yes, "("+yes+") == false")
	if err == nil {
		l.indexed = true
	}
	return l.row(sandbox.OneOf, cmp.args, err)
}

// member is true when any argument equals any element.
func (cmp *comparison) member() (*leaf, error) {
	kinds := texts | list
	for _, o := range cmp.args {
		if o.kind != text && cmp.kinds == texts {
			return nil, fmt.Errorf("%s holds strings, the value is a %s: they never compare", cmp.name, o.kind)
		}
	}
	set := "{" + join(cmp.args) + "}"
	if len(cmp.args) == 1 {
		l, err := cmp.form(kinds, cmp.args[0].rego()+" in "+fact, "lacks("+fact+", "+set+")")
		return l.row(sandbox.Equal, cmp.args, err)
	}
	l, err := cmp.form(kinds, "shares("+fact+", "+set+")", "lacks("+fact+", "+set+")")
	return l.row(sandbox.OneOf, cmp.args, err)
}

// search is a condition on the text of a string, or of any string of a list.
func (cmp *comparison) search(name string, op sandbox.Op, call string) (*leaf, error) {
	for _, o := range cmp.args {
		if o.kind != text {
			return nil, fmt.Errorf("%s takes a string", short(cmp.op))
		}
		if cmp.op == matches {
			if _, err := regexp.Compile(o.str); err != nil {
				return nil, fmt.Errorf("%s", strings.TrimPrefix(err.Error(), "error parsing regexp: "))
			}
		}
	}
	if cmp.kinds&text != 0 && len(cmp.args) == 1 {
		yes := fmt.Sprintf(call, fact, cmp.args[0].rego())
		l, err := cmp.form(text, yes, yes+" == false")
		return l.row(op, cmp.args, err)
	}
	list := "[" + join(cmp.args) + "]"
	if cmp.kinds&texts != 0 {
		l, err := cmp.form(texts, "any_"+name+"("+fact+", "+list+")", "no_"+name+"("+fact+", "+list+")")
		return l.row(op, cmp.args, err)
	}
	l, err := cmp.form(text, "any_"+name+"(["+fact+"], "+list+")", "no_"+name+"(["+fact+"], "+list+")")
	return l.row(op, cmp.args, err)
}

// affix is STARTS_WITH or ENDS_WITH; OPA's functions for several also take lists.
func (cmp *comparison) affix(op sandbox.Op, single, several string) (*leaf, error) {
	for _, o := range cmp.args {
		if o.kind != text {
			return nil, fmt.Errorf("%s takes a string", short(cmp.with))
		}
	}
	if cmp.kinds&text != 0 && len(cmp.args) == 1 {
		yes := fmt.Sprintf("%s(%s, %s)", single, fact, cmp.args[0].rego())
		l, err := cmp.form(text, yes, yes+" == false")
		return l.row(op, cmp.args, err)
	}
	yes := fmt.Sprintf("%s(%s, [%s])", several, fact, join(cmp.args))
	l, err := cmp.form(text|texts, yes, yes+" == false")
	return l.row(op, cmp.args, err)
}
