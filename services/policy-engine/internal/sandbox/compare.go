package sandbox

import (
	"strconv"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Op is a comparison of a fact with its operands. They are those of OPA's own
// built-ins. Of a fact that is a list, one element that compares is enough.
type Op uint8

// The operations. Text, numbers and booleans are never equal to each other, and
// only facts of the operands' kind are put in order.
const (
	NoOp    Op = iota
	Never      // none: its fact is never known
	Equal      // one operand
	Above      // one
	Below      // one
	Between    // two, both included
	OneOf      // any number
	Has        // texts, one of which is somewhere in the fact
	Prefix     // texts
	Suffix     // texts
	Match      // regular expressions
)

// scalar is a single value without anything around it.
type scalar struct {
	kind scalarKind
	near bool    // a number that num is the float64 next to
	num  float64 // 1 for true
	str  string  // of a number, its digits
}

type scalarKind uint8

const (
	noScalar scalarKind = iota
	textual
	numeric
	logical
)

func scalarOf(v ast.Value) (s scalar, ok bool) {
	switch v := v.(type) {
	case ast.String:
		return scalar{kind: textual, str: string(v)}, true
	case ast.Boolean:
		s = scalar{kind: logical}
		if v {
			s.num = 1
		}
		return s, true
	case ast.Number:
		f, err := strconv.ParseFloat(string(v), 64)
		return scalar{kind: numeric, num: f, near: err == nil, str: string(v)}, true
	}
	return s, false
}

// compare orders two scalars of a kind as ast.Compare does. Numbers that are next
// to different float64s stand in the order of these; those next to the same one
// may differ in their digits.
func (s *scalar) compare(o *scalar) int {
	if s.kind == textual {
		return strings.Compare(s.str, o.str)
	}
	if s.kind == numeric && !(s.near && o.near && s.num != o.num) {
		return ast.NumberCompare(ast.Number(s.str), ast.Number(o.str))
	}
	switch {
	case s.num < o.num:
		return -1
	case s.num > o.num:
		return 1
	}
	return 0
}

func (s *scalar) equal(o *scalar) bool {
	if s.kind != o.kind {
		return false
	}
	if s.kind == textual {
		return s.str == o.str
	}
	return s.compare(o) == 0
}

// holds compares a fact, or each element of it.
func (t *test) holds(fact *Fact, deadline *clock) (yes bool, err error) {
	if !fact.listed {
		yes, err = t.is(&fact.scalar, deadline)
		return yes != t.not, err
	}
	for i := 0; i < len(fact.list) && !yes; i++ {
		if deadline.tick() {
			return false, errExpired
		}
		if yes, err = t.is(&fact.list[i], deadline); err != nil {
			return false, err
		}
	}
	return yes != t.not, nil
}

func (t *test) is(fact *scalar, deadline *clock) (bool, error) {
	switch t.op {
	case Equal:
		return fact.equal(&t.with), nil
	case Above:
		return fact.kind == t.with.kind && fact.compare(&t.with) > 0, nil
	case Below:
		return fact.kind == t.with.kind && fact.compare(&t.with) < 0, nil
	case Between:
		return fact.kind == t.with.kind && fact.compare(&t.with) >= 0 && fact.compare(&t.more.list[0]) <= 0, nil
	}
	if len(fact.str) > maxMatchBytes {
		return false, errLong
	}
	if t.op == OneOf {
		return t.more.holds(fact), nil
	}
	if fact.kind != textual {
		return false, nil
	}
	yes, err := t.finds(t.with.str, fact.str, deadline)
	if t.more != nil {
		for i := 0; i < len(t.more.list) && !yes && err == nil; i++ {
			yes, err = t.finds(t.more.list[i].str, fact.str, deadline)
		}
	}
	return yes, err
}

// finds searches a text, which takes a while if it is long.
func (t *test) finds(what, text string, deadline *clock) (bool, error) {
	if len(text) > longOperand && deadline.expired(askEvery) {
		return false, errExpired
	}
	switch t.op {
	case Has:
		return strings.Contains(text, what), nil
	case Prefix:
		return strings.HasPrefix(text, what), nil
	case Suffix:
		return strings.HasSuffix(text, what), nil
	case Match:
		return matches(deadline, what, text)
	}
	return false, errRows
}

func (m *many) holds(fact *scalar) bool {
	if m.texts != nil {
		_, ok := m.texts[fact.str]
		return ok && fact.kind == textual
	}
	for i := range m.list {
		if m.list[i].equal(fact) {
			return true
		}
	}
	return false
}
