package sandbox

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Row is a conjunction of comparisons. Line says which, Scope which of the scopes
// of the question it belongs to, -1 for everywhere.
type Row struct {
	Line, Scope int
	Tests       []Test
}

// Test compares a fact, by its number, with operands: strings, numbers and
// booleans.
type Test struct {
	Fact int
	Op   Op
	Not  bool // the opposite
	With []ast.Value
}

// Fact is what is known of a fact. The zero Fact is unknown.
type Fact struct {
	state  fate
	listed bool
	scalar
	list []scalar
}

type fate uint8

const (
	lacking fate = iota
	excluded
	known
)

// KnownFact is a string, a number, a boolean or a list. An element of a list that
// is something else compares with nothing. Another value is unknown.
func KnownFact(v ast.Value) Fact {
	elements, listed := v.(*ast.Array)
	if !listed {
		s, ok := scalarOf(v)
		if !ok {
			return Fact{}
		}
		return Fact{state: known, scalar: s}
	}
	f := Fact{state: known, listed: true, list: make([]scalar, elements.Len())}
	for i := range f.list {
		f.list[i], _ = scalarOf(elements.Elem(i).Value)
	}
	return f
}

// NoFact is one that there cannot be: nothing about it holds, nor its opposite.
func NoFact() Fact { return Fact{state: excluded} }

// Table is rows, immutable and safe for concurrent use. A decision reads most of
// a small one, and those of hundreds of tenants do not fit into the caches of a
// core together: so a table is few blocks of memory and not many values that
// point at each other.
type Table struct {
	rows  []row
	tests []test
	gates []gate
	open  []int32 // rows without a gate
}

type row struct{ line, scope, first, end int32 }

type test struct {
	fact int32
	op   Op
	not  bool
	with scalar
	more *many // the operands of OneOf, and those after the first of others
}

// many is operands. texts is the long list of strings, to look up.
type many struct {
	list  []scalar
	texts map[string]struct{}
}

// gate finds rows by the text that a fact of theirs must be.
type gate struct {
	fact int32
	rows map[string][]int32
	all  []int32
}

const (
	// manyRows is how many rows must ask for a text of the same fact to be worth a gate.
	manyRows = 8
	// manyTexts is from how many strings on they are looked up.
	manyTexts = 16
	// longOperand is from where on a search looks at the time.
	longOperand = 4 << 10
)

// NewTable lays out rows. It fails when operands do not fit their operation.
func NewTable(rows []Row) (*Table, error) {
	t := &Table{rows: make([]row, 0, len(rows))}
	text := &pool{}
	for _, r := range rows {
		first := int32(len(t.tests))
		for _, asked := range r.Tests {
			one, err := text.test(asked)
			if err != nil {
				return nil, fmt.Errorf("line %d: %w", r.Line, err)
			}
			t.tests = append(t.tests, one)
		}
		t.rows = append(t.rows, row{int32(r.Line), int32(r.Scope), first, int32(len(t.tests))})
	}
	t.tests = slices.Clip(t.tests)
	text.join(t.tests)
	t.index()
	return t, nil
}

func (ts *pool) test(asked Test) (test, error) {
	t := test{fact: int32(asked.Fact), op: asked.Op, not: asked.Not}
	if n := len(asked.With); asked.Op == NoOp || asked.Op > Match || n != asked.Op.takes(n) {
		return t, fmt.Errorf("operation %d does not take %d operands", asked.Op, n)
	}
	var all []scalar
	for _, v := range asked.With {
		s, ok := scalarOf(v)
		if !ok || asked.Op >= Has && s.kind != textual {
			return t, fmt.Errorf("operation %d does not take %v", asked.Op, v)
		}
		ts.b.WriteString(s.str)
		all = append(all, s)
	}
	if asked.Op == OneOf {
		t.more = &many{list: all}
		return t, nil
	}
	if len(all) > 0 {
		t.with = all[0]
	}
	if len(all) > 1 {
		t.more = &many{list: all[1:]}
	}
	return t, nil
}

// takes is how many operands op takes when it is given n.
func (op Op) takes(n int) int {
	switch op {
	case Never:
		return 0
	case Equal, Above, Below:
		return 1
	case Between:
		return 2
	}
	return max(1, n)
}

// pool gathers the strings of a table, to keep them in one place.
type pool struct{ b strings.Builder }

// join makes the strings of tests, in the order they were added, parts of one.
func (ts *pool) join(tests []test) {
	all := ts.b.String()
	own := func(s *scalar) { s.str, all = all[:len(s.str)], all[len(s.str):] }
	for i := range tests {
		t := &tests[i]
		if t.op != OneOf {
			own(&t.with)
		}
		if t.more == nil {
			continue
		}
		for j := range t.more.list {
			own(&t.more.list[j])
		}
		if len(t.more.list) >= manyTexts && t.more.only(textual) {
			t.more.texts = make(map[string]struct{}, len(t.more.list))
			for _, s := range t.more.list {
				t.more.texts[s.str] = struct{}{}
			}
			t.more.list = nil
		}
	}
}

func (m *many) only(kind scalarKind) bool {
	return !slices.ContainsFunc(m.list, func(s scalar) bool { return s.kind != kind })
}

// index makes gates, one for each fact that many rows want to be some text.
func (t *Table) index() {
	byFact := map[int32][]int32{}
	for no := range t.rows {
		if g := t.gateOf(int32(no)); g != nil {
			byFact[g.fact] = append(byFact[g.fact], int32(no))
		} else {
			t.open = append(t.open, int32(no))
		}
	}
	for fact, rows := range byFact {
		if len(rows) < manyRows {
			t.open = append(t.open, rows...)
			continue
		}
		g := gate{fact: fact, rows: map[string][]int32{}, all: rows}
		for _, no := range rows {
			for _, s := range t.gateOf(no).wants() {
				if list := g.rows[s]; !slices.Contains(list, no) {
					g.rows[s] = append(list, no)
				}
			}
		}
		t.gates = append(t.gates, g)
	}
	slices.Sort(t.open)
	slices.SortFunc(t.gates, func(a, b gate) int { return cmp.Compare(a.fact, b.fact) })
}

// gateOf is the first test of a row that only some texts pass, nil if there is none.
// A gate looks up each element of a fact that is a list.
func (t *Table) gateOf(no int32) *test {
	for i := t.rows[no].first; i < t.rows[no].end; i++ {
		switch one := &t.tests[i]; {
		case one.not:
		case one.op == Equal && one.with.kind == textual, one.op == OneOf && (one.more.texts != nil || one.more.only(textual)):
			return one
		}
	}
	return nil
}

// wants are the texts that pass.
func (t *test) wants() (all []string) {
	switch {
	case t.op == Equal:
		return []string{t.with.str}
	case t.more.texts != nil:
		for s := range t.more.texts {
			all = append(all, s)
		}
		return all
	}
	for _, s := range t.more.list {
		all = append(all, s.str)
	}
	return all
}
