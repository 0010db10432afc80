package sandbox

import (
	"errors"
	"fmt"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
	"github.com/open-policy-agent/opa/v1/types"
)

// Scan is the name of a built-in for generated modules only:
//
//	fulcrum.scan(op, fact, [[number, operand], ...])
//
// It returns the numbers of the rows whose comparison with the fact holds. OPA
// cannot index such comparisons and spends a microsecond on a rule of each; a
// row costs what the comparison does.
const Scan = "fulcrum.scan"

// scans are the comparisons of Scan. They are those of OPA's own built-ins.
var scans = map[string]func(b topdown.BuiltinContext, fact, operand ast.Value) (bool, error){
	"eq":       func(_ topdown.BuiltinContext, f, o ast.Value) (bool, error) { return ast.Compare(f, o) == 0, nil },
	"neq":      func(_ topdown.BuiltinContext, f, o ast.Value) (bool, error) { return ast.Compare(f, o) != 0, nil },
	"gt":       func(_ topdown.BuiltinContext, f, o ast.Value) (bool, error) { return ast.Compare(f, o) > 0, nil },
	"gte":      func(_ topdown.BuiltinContext, f, o ast.Value) (bool, error) { return ast.Compare(f, o) >= 0, nil },
	"lt":       func(_ topdown.BuiltinContext, f, o ast.Value) (bool, error) { return ast.Compare(f, o) < 0, nil },
	"lte":      func(_ topdown.BuiltinContext, f, o ast.Value) (bool, error) { return ast.Compare(f, o) <= 0, nil },
	"in":       amongst,
	"nin":      opposite(amongst),
	"has":      onText(strings.Contains),
	"hasnot":   opposite(onText(strings.Contains)),
	"prefix":   onText(strings.HasPrefix),
	"noprefix": opposite(onText(strings.HasPrefix)),
	"suffix":   onText(strings.HasSuffix),
	"nosuffix": opposite(onText(strings.HasSuffix)),
	"match":    matching,
	"nomatch":  opposite(matching),
}

type scanFunc = func(topdown.BuiltinContext, ast.Value, ast.Value) (bool, error)

func opposite(f scanFunc) scanFunc {
	return func(b topdown.BuiltinContext, fact, operand ast.Value) (bool, error) {
		yes, err := f(b, fact, operand)
		return !yes, err
	}
}

func amongst(_ topdown.BuiltinContext, fact, operand ast.Value) (bool, error) {
	set, ok := operand.(ast.Set)
	if !ok {
		return false, errScan
	}
	return set.Contains(ast.NewTerm(fact)), nil
}

func onText(f func(s, operand string) bool) scanFunc {
	return func(_ topdown.BuiltinContext, fact, operand ast.Value) (bool, error) {
		s, ok1 := fact.(ast.String)
		o, ok2 := operand.(ast.String)
		if !ok1 || !ok2 {
			return false, errScan
		}
		return f(string(s), string(o)), nil
	}
}

func matching(b topdown.BuiltinContext, fact, operand ast.Value) (bool, error) {
	s, ok1 := fact.(ast.String)
	o, ok2 := operand.(ast.String)
	if !ok1 || !ok2 {
		return false, errScan
	}
	return matches(b, string(o), string(s))
}

var errScan = errors.New("operands do not fit the operation")

func registerScan() {
	ast.RegisterBuiltin(&ast.Builtin{
		Name: Scan, Description: "Returns the numbers of the rows that hold.",
		Decl: types.NewFunction(types.Args(types.S, types.A, types.NewArray(nil, types.A)), types.NewArray(nil, types.N)),
	})
	topdown.RegisterBuiltinFunc(Scan, scan)
}

func scan(b topdown.BuiltinContext, args []*ast.Term, yield func(*ast.Term) error) error {
	op, ok1 := args[0].Value.(ast.String)
	rows, ok2 := args[2].Value.(*ast.Array)
	compare := scans[string(op)]
	if !ok1 || !ok2 || compare == nil {
		return errScan
	}
	fact, left := args[1].Value, maxNodes
	if err := measure(fact, maxMatchBytes, &left); err != nil {
		return halt(b, fmt.Sprintf("%s: %s", op, err))
	}
	deadline, limited := b.Cancel.(*clock)
	long := limited && weighs(args[1:2])
	var found []*ast.Term
	for i := range rows.Len() {
		row, ok := rows.Elem(i).Value.(*ast.Array)
		if !ok || row.Len() != 2 {
			return errScan
		}
		if (long || limited && i%askEvery == 0) && deadline.expired(askEvery) {
			return errExpired
		}
		yes, err := compare(b, fact, row.Elem(1).Value)
		if err != nil {
			return err
		}
		if yes {
			found = append(found, row.Elem(0))
		}
	}
	return yield(ast.ArrayTerm(found...))
}
