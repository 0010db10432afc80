package sandbox

import (
	"math"

	"github.com/open-policy-agent/opa/v1/ast"
)

// maxSize is how many values, counted as a tree, anything a module builds may
// hold by its text.
const maxSize = 1e6

// perInput is what one collection of the input is taken to hold when a
// comprehension ranges over it.
const perInput = 32

// bound refuses modules whose values double by sharing: a := [1, 1], b := [a, a]
// and so on is small in memory, takes no time to build, and needs 2^n steps to
// compare or print, which no deadline interrupts. It is an estimate from the
// text alone: what a loop makes at run time is left to the deadline, which does
// see loops.
func bound(m *ast.Module) []Problem {
	s := &sizer{rules: map[ast.Var][]*ast.Rule{}, known: map[ast.Var]affine{}, terms: map[*ast.Term]affine{}}
	for _, r := range m.Rules {
		for ; r != nil; r = r.Else {
			if v, ok := r.Head.Ref()[0].Value.(ast.Var); ok {
				s.rules[v] = append(s.rules[v], r)
			}
		}
	}
	for _, r := range m.Rules {
		for e := r; e != nil; e = e.Else {
			if size := s.rule(e); size.at(perInput) > maxSize {
				return []Problem{locate(e.Location, "values of this rule can grow to %.3g parts, at most %.3g are allowed", size.at(perInput), maxSize)}
			}
		}
	}
	return nil
}

// affine is a size as a function of the sizes of a function's arguments:
// base + times*arguments. Sums and substitutions of these are again such.
type affine struct{ base, times float64 }

func (a affine) plus(b affine) affine { return affine{a.base + b.base, a.times + b.times} }
func (a affine) or(b affine) affine {
	return affine{math.Max(a.base, b.base), math.Max(a.times, b.times)}
}
func (a affine) scale(f float64) affine      { return affine{a.base * f, a.times * f} }
func (a affine) of(arg affine) affine        { return affine{a.base + a.times*arg.base, a.times * arg.times} }
func (a affine) at(argument float64) float64 { return a.base + a.times*argument }

var (
	one  = affine{base: 1}
	self = affine{times: 1} // a function's argument
)

type sizer struct {
	rules map[ast.Var][]*ast.Rule
	known map[ast.Var]affine // sizes of rules; one while being computed
	terms map[*ast.Term]affine
}

// named returns the size of the rules that share a name: a set or object holds
// what all of them give, anything else has the value of one.
func (s *sizer) named(name ast.Var) affine {
	if size, ok := s.known[name]; ok {
		return size
	}
	s.known[name] = one // recursion does not compile; this only ends it here
	var sum affine
	for _, r := range s.rules[name] {
		if size := s.rule(r); r.Head.RuleKind() == ast.MultiValue || len(r.Head.Ref()) > 1 {
			sum = sum.plus(size)
		} else {
			sum = sum.or(size)
		}
	}
	s.known[name] = sum
	return sum
}

// rule returns the largest of the value of r and of everything its body builds.
func (s *sizer) rule(r *ast.Rule) affine {
	sc := s.scope(nil)
	for _, arg := range r.Head.Args {
		ast.WalkVars(arg, func(v ast.Var) bool { sc.known[v] = self; return false })
	}
	sc.define(r.Body)
	var size affine
	for _, t := range []*ast.Term{r.Head.Key, r.Head.Value} {
		if t != nil {
			size = size.plus(sc.term(t))
		}
	}
	for _, t := range r.Head.Ref()[1:] {
		size = size.plus(sc.term(t))
	}
	for _, e := range r.Body {
		size = size.or(sc.expr(e))
	}
	return size.or(one)
}

// scope is the variables of one body, with those of the bodies around it.
type scope struct {
	*sizer
	up     *scope
	defs   map[ast.Var][]*ast.Term // what a variable is assigned, or drawn from
	ranged map[ast.Var]bool        // drawn by a reference such as xs[i]
	known  map[ast.Var]affine
}

func (s *sizer) scope(up *scope) *scope {
	return &scope{sizer: s, up: up, defs: map[ast.Var][]*ast.Term{}, ranged: map[ast.Var]bool{}, known: map[ast.Var]affine{}}
}

// define finds where the variables of b come from. There is no unification by
// "=" in a policy, so every definition has one direction and none is circular.
func (sc *scope) define(b ast.Body) {
	for _, e := range b {
		switch terms := e.Terms.(type) {
		case []*ast.Term:
			if e.IsAssignment() {
				sc.draw(terms[1], terms[2])
			}
		case *ast.SomeDecl:
			for _, sym := range terms.Symbols {
				if call, ok := sym.Value.(ast.Call); ok {
					from := call[len(call)-1]
					for _, out := range call[1 : len(call)-1] {
						sc.draw(out, from)
					}
				}
			}
		}
	}
	for _, e := range b {
		sc.drawRest(e)
	}
}

// drawRest finds the variables that are bound by being used: keys in xs[i], and
// the last argument in f(x, out).
func (sc *scope) drawRest(e *ast.Expr) {
	if terms, ok := e.Terms.([]*ast.Term); ok && e.IsCall() && !e.IsAssignment() && len(terms) > 2 {
		last := terms[len(terms)-1]
		if v, ok := last.Value.(ast.Var); ok && !sc.defined(v) {
			sc.draw(last, ast.ArrayTerm(terms[1:len(terms)-1]...))
		}
	}
	ast.WalkRefs(e, func(ref ast.Ref) bool {
		for _, part := range ref[1:] {
			ast.WalkVars(part, func(v ast.Var) bool {
				if !sc.defined(v) {
					sc.ranged[v] = true
					sc.draw(ast.NewTerm(v), ast.NewTerm(ref[:1]))
				}
				return false
			})
		}
		return false
	})
}

func (sc *scope) draw(pattern, from *ast.Term) {
	ast.WalkVars(pattern, func(v ast.Var) bool {
		sc.defs[v] = append(sc.defs[v], from)
		return false
	})
}

func (sc *scope) defined(v ast.Var) bool {
	for at := sc; at != nil; at = at.up {
		if _, ok := at.known[v]; ok {
			return true
		}
		if _, ok := at.defs[v]; ok {
			return true
		}
	}
	return sc.rules[v] != nil || v == ast.InputRootDocument.Value
}

func (sc *scope) variable(v ast.Var) affine {
	for at := sc; at != nil; at = at.up {
		if size, ok := at.known[v]; ok {
			return size
		}
		if from, ok := at.defs[v]; ok {
			at.known[v] = one
			var size affine
			for _, t := range from {
				size = size.or(at.term(t))
			}
			at.known[v] = size.or(one)
			return at.known[v]
		}
	}
	if _, ok := sc.rules[v]; ok {
		return sc.named(v)
	}
	return one
}

func (sc *scope) expr(e *ast.Expr) affine {
	switch t := e.Terms.(type) {
	case *ast.Term:
		return sc.term(t)
	case []*ast.Term:
		return sc.call(t)
	case *ast.Not:
		return sc.inner(t.Body).body(t.Body)
	case *ast.LogicalAnd:
		return sc.nested(t.Lhs, t.Rhs)
	case *ast.LogicalOr:
		return sc.nested(t.Lhs, t.Rhs)
	case *ast.Every:
		in := sc.scope(sc)
		in.draw(t.Value, t.Domain)
		in.define(t.Body)
		return in.body(t.Body).or(sc.term(t.Domain))
	}
	return one
}

func (sc *scope) nested(bodies ...ast.Body) (size affine) {
	for _, b := range bodies {
		size = size.or(sc.inner(b).body(b))
	}
	return size
}

func (sc *scope) inner(b ast.Body) *scope {
	in := sc.scope(sc)
	in.define(b)
	return in
}

func (sc *scope) body(b ast.Body) (size affine) {
	for _, e := range b {
		size = size.or(sc.expr(e))
	}
	return size
}

func (sc *scope) call(terms []*ast.Term) affine {
	size := one
	for _, a := range terms[1:] {
		size = size.plus(sc.term(a))
	}
	if ref, ok := terms[0].Value.(ast.Ref); ok && len(ref) == 1 {
		if name, ok := ref[0].Value.(ast.Var); ok && sc.rules[name] != nil {
			return sc.named(name).of(size)
		}
	}
	return size
}

// term returns the size of t; a term stands in one scope, so it is computed once.
func (sc *scope) term(t *ast.Term) affine {
	if size, ok := sc.terms[t]; ok {
		return size
	}
	size := sc.compute(t)
	sc.terms[t] = size
	return size
}

func (sc *scope) compute(t *ast.Term) affine {
	switch v := t.Value.(type) {
	case ast.Var:
		return sc.variable(v)
	case ast.Ref:
		if head, ok := v[0].Value.(ast.Var); ok && !v[0].Equal(ast.InputRootDocument) {
			return sc.variable(head)
		}
		return one
	case ast.Call:
		return sc.call(v)
	case *ast.Array:
		return sc.sum(v.Foreach)
	case ast.Set:
		return sc.sum(v.Foreach)
	case ast.Object:
		size := one
		v.Foreach(func(k, e *ast.Term) { size = size.plus(sc.term(k)).plus(sc.term(e)) })
		return size
	case *ast.ArrayComprehension:
		return sc.comprehension(v.Body, v.Term)
	case *ast.SetComprehension:
		return sc.comprehension(v.Body, v.Term)
	case *ast.ObjectComprehension:
		return sc.comprehension(v.Body, v.Key, v.Value)
	}
	return one
}

func (sc *scope) sum(each func(func(*ast.Term))) affine {
	size := one
	each(func(e *ast.Term) { size = size.plus(sc.term(e)) })
	return size
}

// comprehension is one element per turn. Turns are estimated only to see values
// that are repeated: for an element of constant size they are free to be many.
func (sc *scope) comprehension(b ast.Body, elements ...*ast.Term) affine {
	in := sc.inner(b)
	var element affine
	for _, t := range elements {
		element = element.plus(in.term(t))
	}
	if element.times == 0 && element.base <= 8 {
		return affine{base: perInput}.or(in.body(b))
	}
	return element.scale(in.turns(b)).or(in.body(b))
}

// turns estimates how often b can succeed: the product of what it ranges over.
func (sc *scope) turns(b ast.Body) float64 {
	n := 1.0
	for _, e := range b {
		if d, ok := e.Terms.(*ast.SomeDecl); ok {
			for _, sym := range d.Symbols {
				if call, ok := sym.Value.(ast.Call); ok {
					n *= sc.width(call[len(call)-1])
				}
			}
			continue
		}
		ast.WalkRefs(e, func(ref ast.Ref) bool {
			for _, part := range ref[1:] {
				if v, ok := part.Value.(ast.Var); ok && sc.ranged[v] {
					n *= sc.width(ast.NewTerm(ref[:1]))
				}
			}
			return false
		})
	}
	return n
}

// width is how many elements ranging over t can give.
func (sc *scope) width(t *ast.Term) float64 {
	size := sc.term(t)
	if ref, ok := t.Value.(ast.Ref); ok && ref[0].Equal(ast.InputRootDocument) {
		return perInput
	}
	return math.Max(size.at(perInput)-1, 1)
}
