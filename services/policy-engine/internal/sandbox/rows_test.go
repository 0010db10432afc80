package sandbox

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
)

// askTable runs a table of rows and returns the lines that hold and those that are
// unsure.
func askTable(t *testing.T, rows []Row, facts []Fact, scopes ...bool) (hits, unsure []int, err error) {
	t.Helper()
	p, err := Trusted("package p")
	if err != nil {
		t.Fatal(err)
	}
	q, err := p.TableQuery()
	if err != nil {
		t.Fatal(err)
	}
	table, err := NewTable(rows)
	if err != nil {
		t.Fatal(err)
	}
	values, err := q.Run(t.Context(), nil, Limits{Deadline: time.Minute, Asked: &Asked{Table: table, Facts: facts, Scopes: scopes}})
	if err != nil {
		return nil, nil, err
	}
	read := func(i int) (out []int) {
		values[0].(*ast.Array).Elem(i).Value.(*ast.Array).Foreach(func(e *ast.Term) {
			n, _ := e.Value.(ast.Number).Int()
			out = append(out, n)
		})
		slices.Sort(out)
		return out
	}
	return read(0), read(1), nil
}

// A row is a conjunction in three-valued logic, and nothing without its scope.
func TestARowHoldsIsUnsureOrNeither(t *testing.T) {
	t.Parallel()
	yes := Test{Fact: 0, Op: Equal, With: []ast.Value{ast.String("a")}}
	no, unknown, never := yes, yes, yes
	no.Not, unknown.Fact, never.Fact = true, 1, 2
	opposite := unknown
	opposite.Not = true
	facts := []Fact{KnownFact(ast.String("a")), {}, NoFact()}
	rows := []Row{
		{Line: 10, Scope: -1},
		{Line: 11, Scope: 0, Tests: []Test{yes}},
		{Line: 12, Scope: 1, Tests: []Test{yes}},
		{Line: 13, Scope: -1, Tests: []Test{no}},
		{Line: 14, Scope: -1, Tests: []Test{unknown, yes}},
		{Line: 15, Scope: -1, Tests: []Test{unknown, no}},
		{Line: 16, Scope: -1, Tests: []Test{opposite}},
		{Line: 17, Scope: -1, Tests: []Test{never}},
		{Line: 18, Scope: -1, Tests: []Test{unknown, never}},
	}
	hits, unsure, err := askTable(t, rows, facts, true, false)
	if err != nil || !slices.Equal(hits, []int{10, 11}) || !slices.Equal(unsure, []int{14, 16}) {
		t.Errorf("hold %v, unsure %v, %v", hits, unsure, err)
	}
}

// Every comparison is what OPA's own built-ins say, over values of all kinds.
func TestRowsCompareAsOPADoes(t *testing.T) {
	t.Parallel()
	values := []ast.Value{
		ast.String(""), ast.String("a"), ast.String("ab"), ast.String("b"), ast.Boolean(true), ast.Boolean(false),
		ast.Number("0"), ast.Number("0.1"), ast.Number("-3"), ast.Number("1e-7"), ast.Number("9007199254740992"), ast.Number("9007199254740993"),
		ast.Number("9.007199254740992e+15"), ast.Number("1234567890123456789"), ast.Number("1.2345678901234568e+18"), ast.Number("1e+300"),
		ast.Number("0.10000000000000000001"), ast.Number("0.30000000000000004"), ast.Number("0.3"), ast.Number("1e-400"), ast.Number("-0"), ast.Number("1.0"), ast.Number("1"),
	}
	same := func(a, b ast.Value) bool { return fmt.Sprintf("%T", a) == fmt.Sprintf("%T", b) }
	has := func(f func(a, b string) bool) func(a, b ast.Value) bool {
		return func(a, b ast.Value) bool { return f(string(a.(ast.String)), string(b.(ast.String))) }
	}
	for _, tt := range []struct {
		op   Op
		want func(fact, operand ast.Value) bool
	}{
		{Equal, func(a, b ast.Value) bool { return ast.Compare(a, b) == 0 }},
		{OneOf, func(a, b ast.Value) bool { return ast.NewSet(ast.NewTerm(b)).Contains(ast.NewTerm(a)) }},
		{Above, func(a, b ast.Value) bool { return ast.Compare(a, b) > 0 }},
		{Below, func(a, b ast.Value) bool { return ast.Compare(a, b) < 0 }},
		{Has, has(strings.Contains)}, {Prefix, has(strings.HasPrefix)}, {Suffix, has(strings.HasSuffix)},
	} {
		for _, fact := range values {
			for _, operand := range values {
				texts := same(fact, operand) && same(fact, ast.String(""))
				if !same(fact, operand) && tt.op != Equal && tt.op != OneOf || tt.op >= Has && !texts {
					continue
				}
				row := Row{Scope: -1, Tests: []Test{{Op: tt.op, With: []ast.Value{operand}}}}
				hits, _, err := askTable(t, []Row{row}, []Fact{KnownFact(fact)})
				if got := len(hits) == 1; err != nil || got != tt.want(fact, operand) {
					t.Errorf("%v, operation %d, %v: %v, %v", fact, tt.op, operand, got, err)
				}
			}
		}
	}
}

func TestRowsOverALongTextAreRefusedOrEndInTime(t *testing.T) {
	t.Parallel()
	long := []Fact{KnownFact(ast.String(strings.Repeat("a", maxMatchBytes+1)))}
	for _, op := range []Op{Has, Prefix, Suffix, Match, OneOf} {
		row := Row{Scope: -1, Tests: []Test{{Op: op, With: []ast.Value{ast.String("b")}}}}
		if _, _, err := askTable(t, []Row{row}, long); err == nil || !strings.Contains(err.Error(), errLong.Error()) {
			t.Errorf("operation %d: %v", op, err)
		}
	}
	table, err := NewTable([]Row{{Scope: -1, Tests: []Test{{Op: Match, With: []ast.Value{ast.String(`(?i)(a+)+[x-z]{1,500}$`)}}}}})
	if err != nil {
		t.Fatal(err)
	}
	a := &Asked{Table: table, Facts: []Fact{KnownFact(ast.String(strings.Repeat("a", maxMatchBytes)))}}
	past := time.Now().Add(-time.Second)
	if err := a.judge(&clock{soft: past, hard: past}); !errors.Is(err, errExpired) {
		t.Errorf("after the deadline: %v", err)
	}
}

func TestOperandsThatDoNotFitAreNoTable(t *testing.T) {
	t.Parallel()
	for _, bad := range []Test{
		{Op: NoOp}, {Op: Equal}, {Op: Between, With: []ast.Value{ast.Number("1")}}, {Op: Match + 1, With: []ast.Value{ast.String("a")}},
		{Op: Has, With: []ast.Value{ast.Number("1")}}, {Op: Equal, With: []ast.Value{ast.NewArray()}}, {Op: Never, With: []ast.Value{ast.String("a")}},
	} {
		if _, err := NewTable([]Row{{Scope: -1, Tests: []Test{bad}}}); err == nil {
			t.Errorf("%+v became a table", bad)
		}
	}
}
