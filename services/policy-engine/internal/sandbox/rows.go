package sandbox

import (
	"errors"
	"fmt"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
	"github.com/open-policy-agent/opa/v1/types"
)

// Rows is the name of a built-in for generated queries only:
//
//	fulcrum.rows()
//
// It returns two lists of lines of the table that the run is asked with
// (Limits.Asked): those that hold, and those that lack a fact to do so. OPA spends
// a microsecond and a hundred values all over the memory on a rule that it cannot
// find by hash; a row costs what its comparisons do, and those of a tenant lie
// side by side.
const Rows = "fulcrum.rows"

// Asked is one question to a table: its facts, by their numbers, and which scopes
// apply.
type Asked struct {
	Table  *Table
	Facts  []Fact
	Scopes []bool

	hits, unsure []int32
}

var errRows = errors.New("no rows were asked")

func registerRows() {
	ast.RegisterBuiltin(&ast.Builtin{
		Name: Rows, Description: "Returns the lines of the table that hold, and those that are unsure.",
		Decl: types.NewFunction(types.Args(), types.NewArray([]types.Type{types.NewArray(nil, types.N), types.NewArray(nil, types.N)}, nil)),
	})
	topdown.RegisterBuiltinFunc(Rows, rows)
}

func rows(b topdown.BuiltinContext, _ []*ast.Term, yield func(*ast.Term) error) error {
	deadline, ok := b.Cancel.(*clock)
	if !ok || deadline.asks == nil {
		return errRows
	}
	a := *deadline.asks // an expression may be evaluated again
	if err := a.judge(deadline); err != nil {
		if errors.Is(err, errLong) {
			return halt(b, fmt.Sprintf("%s: %s", Rows, err))
		}
		return err
	}
	if a.hits == nil && a.unsure == nil {
		return yield(noLines)
	}
	return yield(ast.ArrayTerm(lines(a.hits), lines(a.unsure)))
}

var noLines = ast.ArrayTerm(ast.ArrayTerm(), ast.ArrayTerm())

func lines(numbers []int32) *ast.Term {
	terms := make([]*ast.Term, len(numbers))
	for i, n := range numbers {
		terms[i] = ast.InternedTerm(int(n))
	}
	return ast.ArrayTerm(terms...)
}

// judge goes over the rows that can hold or be unsure.
func (a *Asked) judge(deadline *clock) error {
	if err := a.through(a.Table.open, deadline); err != nil {
		return err
	}
	for i := range a.Table.gates {
		g := &a.Table.gates[i]
		switch f := &a.Facts[g.fact]; {
		case f.state == lacking:
			if err := a.through(g.all, deadline); err != nil {
				return err
			}
		case f.state == excluded:
		case !f.listed:
			if err := a.through(g.rows[f.str], deadline); err != nil {
				return err
			}
		default:
			for i := range f.list {
				if err := a.through(g.rows[f.list[i].str], deadline); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (a *Asked) through(rows []int32, deadline *clock) error {
	for _, no := range rows {
		if err := a.row(no, deadline); err != nil {
			return err
		}
	}
	return nil
}

// row notes the row if it holds, or if nothing but unknown facts keeps it from
// holding: false decides an AND, whatever the rest is.
func (a *Asked) row(no int32, deadline *clock) error {
	r := &a.Table.rows[no]
	if deadline.tick() {
		return errExpired
	}
	if r.scope >= 0 && !a.Scopes[r.scope] {
		return nil
	}
	unsure := false
	for i := r.first; i < r.end; i++ {
		t := &a.Table.tests[i]
		switch f := &a.Facts[t.fact]; f.state {
		case excluded:
			return nil
		case lacking:
			unsure = true
		default:
			yes, err := t.holds(f, deadline)
			if err != nil || !yes {
				return err
			}
		}
	}
	if unsure {
		a.unsure = append(a.unsure, r.line)
	} else {
		a.hits = append(a.hits, r.line)
	}
	return nil
}
