package sandbox

import (
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Slim drops from p what only compiling needs: after it p can be asked by the
// queries it has, and gets no more. What a compiler knows takes several times
// the memory of the rules, and the collector walks through all of it again and
// again while decisions wait.
func (p *Program) Slim() {
	s := slimmer{places: map[place]*ast.Location{}, modules: map[*ast.Module]*ast.Module{}, keepPlaces: !p.generated}
	c := p.compiler
	s.tree(c.RuleTree)
	s.ref(p.pkg)
	if !s.indexed(c) {
		// Emptied where it is: the indexes of the rules hold on to it.
		*c = ast.Compiler{RuleTree: c.RuleTree, RewrittenVars: c.RewrittenVars}
	}
	c.Modules, c.ModuleTree, c.Graph, c.Required = nil, nil, nil, nil
	// Only with, which nothing here may use, and partial evaluation ask for types.
	c.TypeEnv = noTypes()
	c.WithCapabilities(ownCapabilities())
}

var noTypes = sync.OnceValue(func() *ast.TypeEnv {
	c := ast.NewCompiler().WithCapabilities(ownCapabilities())
	c.Compile(nil)
	return c.TypeEnv
})

// place is where something stands in a module.
type place struct{ row, col int }

type slimmer struct {
	keepPlaces     bool // of a tenant's module: errors name the line
	places         map[place]*ast.Location
	modules        map[*ast.Module]*ast.Module
	comprehensions []*ast.Term
}

func (s *slimmer) tree(n *ast.TreeNode) {
	for _, r := range n.Values {
		ast.NewGenericVisitor(s.node).Walk(r)
	}
	for _, kid := range n.Children {
		s.tree(kid)
	}
}

// indexed reports whether the compiler found a comprehension that it can answer
// by hash. It keeps them where nobody else can put them.
func (s *slimmer) indexed(c *ast.Compiler) bool {
	for _, t := range s.comprehensions {
		if c.ComprehensionIndex(t) != nil {
			return true
		}
	}
	return false
}

// node goes over one part of a rule. Parts that programs share are interned by
// OPA and have no place, so nothing shared is written to.
func (s *slimmer) node(x any) bool {
	switch x := x.(type) {
	case *ast.Rule:
		s.spot(&x.Location)
		x.Module, x.Annotations = s.module(x.Module), nil
	case *ast.Head:
		s.spot(&x.Location)
		s.ref(x.Reference)
	case *ast.Expr:
		s.spot(&x.Location)
	case *ast.Every:
		s.at(&x.Location)
	case *ast.SomeDecl:
		s.at(&x.Location)
	case *ast.Term:
		s.at(&x.Location)
		switch x.Value.(type) {
		case *ast.ArrayComprehension, *ast.SetComprehension, *ast.ObjectComprehension:
			s.comprehensions = append(s.comprehensions, x)
		}
	}
	return false
}

// spot leaves the place of a rule or an expression whole in a tenant's module:
// coverage counts the lines of its text.
func (s *slimmer) spot(l **ast.Location) {
	if !s.keepPlaces {
		*l = nil
	}
}

// ref goes over what a visitor passes by.
func (s *slimmer) ref(r ast.Ref) {
	for _, t := range r {
		s.at(&t.Location)
	}
}

// at makes equal places of a tenant's module one, without the text that stands
// there, and drops those of ours.
func (s *slimmer) at(l **ast.Location) {
	switch {
	case *l == nil:
	case !s.keepPlaces:
		*l = nil
	default:
		key := place{(*l).Row, (*l).Col}
		if s.places[key] == nil {
			s.places[key] = &ast.Location{File: (*l).File, Row: key.row, Col: key.col}
		}
		*l = s.places[key]
	}
}

// module returns m with nothing but its package, which rules ask for.
func (s *slimmer) module(m *ast.Module) *ast.Module {
	if m == nil {
		return nil
	}
	if s.modules[m] == nil {
		s.ref(m.Package.Path)
		s.modules[m] = &ast.Module{Package: &ast.Package{Path: m.Package.Path}}
	}
	return s.modules[m]
}
