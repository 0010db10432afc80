package sandbox

import (
	"errors"
	"fmt"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// moduleFile is what OPA calls a tenant's module.
const moduleFile = "policy.rego"

// Caps on the text of a tenant's module.
const (
	maxModuleBytes = 256 << 10
	maxRules       = 1_000
	maxBody        = 200 // expressions
	maxNesting     = 64
	maxProblems    = 20 // reported at once
)

// Problem is something wrong in a module. Line and Column count from 1 and are
// zero when the whole module is meant.
type Problem struct {
	Line, Column int
	Message      string
	Warning      bool   // worth a look, but it runs
	Check        string // of a warning: what found it
}

func (p Problem) String() string {
	if p.Line == 0 {
		return p.Message
	}
	return fmt.Sprintf("%d:%d: %s", p.Line, p.Column, p.Message)
}

// Trusted compiles text that this service generated itself.
func Trusted(text string) (*Program, error) {
	m, err := ast.ParseModuleWithOpts("generated.rego", text, parsing(ownCapabilities()))
	if err != nil {
		return nil, fmt.Errorf("parse generated module: %w", err)
	}
	p, errs := link(m, ownCapabilities())
	if len(errs) > 0 {
		return nil, fmt.Errorf("compile generated module: %w", errs)
	}
	p.generated = true
	return p, nil
}

// Module is a tenant's Rego after all checks.
type Module struct {
	*Program
	parsed *ast.Module
}

// Rules returns the rules of the module by name, as written.
func (m *Module) Rules() []*ast.Rule { return m.parsed.Rules }

// Compile checks and compiles a tenant's module of package pkg, or says what is
// wrong with it.
func Compile(pkg, text string) (*Module, []Problem) {
	parsed, problems := parse(text)
	if len(problems) > 0 {
		return nil, problems
	}
	if problems = check(pkg, parsed); len(problems) > 0 {
		return nil, clip(problems)
	}
	keep := parsed.Copy()
	p, errs := link(parsed, capabilities())
	if len(errs) > 0 {
		return nil, problemsOf(errs)
	}
	return &Module{Program: p, parsed: keep}, nil
}

func parsing(granted *ast.Capabilities) ast.ParserOptions {
	return ast.ParserOptions{Capabilities: granted, RegoVersion: ast.RegoV2}
}

func parse(text string) (*ast.Module, []Problem) {
	if len(text) > maxModuleBytes {
		return nil, []Problem{{Line: 1, Column: 1, Message: fmt.Sprintf("module is %d bytes, at most %d are allowed", len(text), maxModuleBytes)}}
	}
	// The module parser takes no depth, so the text is read once just for that.
	_, _, errs := ast.NewParser().WithReader(strings.NewReader(text)).WithCapabilities(capabilities()).
		WithRegoVersion(ast.RegoV2).WithMaxRecursionDepth(maxNesting).Parse()
	if len(errs) > 0 {
		return nil, problemsOf(errs)
	}
	m, err := ast.ParseModuleWithOpts(moduleFile, text, parsing(capabilities()))
	if err != nil {
		return nil, problemsOf(err)
	}
	return m, nil
}

func link(m *ast.Module, granted *ast.Capabilities) (*Program, ast.Errors) {
	c := ast.NewCompiler().WithCapabilities(granted).WithStrict(true).WithDefaultRegoVersion(ast.RegoV2)
	if c.Compile(map[string]*ast.Module{moduleFile: m}); c.Failed() {
		return nil, c.Errors
	}
	return &Program{compiler: c, pkg: m.Package.Path}, nil
}

func problemsOf(err error) []Problem {
	var errs ast.Errors
	if !errors.As(err, &errs) {
		return []Problem{{Message: err.Error()}}
	}
	var out []Problem
	seen := map[Problem]bool{}
	for _, e := range errs {
		p := Problem{Message: e.Message}
		if e.Location != nil {
			p.Line, p.Column = e.Location.Row, e.Location.Col
		}
		if name, ok := strings.CutPrefix(p.Message, "undefined function "); ok && ast.BuiltinMap[name] != nil {
			p.Message = name + " is not available to policies"
		}
		if !seen[p] {
			seen[p] = true
			out = append(out, p)
		}
	}
	return clip(out)
}

func clip(p []Problem) []Problem { return p[:min(len(p), maxProblems)] }

func locate(loc *ast.Location, format string, args ...any) Problem {
	p := Problem{Message: fmt.Sprintf(format, args...)}
	if loc != nil {
		p.Line, p.Column = loc.Row, loc.Col
	}
	return p
}

// check refuses what compiles but must not run: another package, other
// documents than input, mocks, oversized rules, and values that grow by sharing.
func check(pkg string, m *ast.Module) (out []Problem) {
	if got := strings.TrimPrefix(m.Package.Path.String(), "data."); got != pkg {
		out = append(out, locate(m.Package.Location, "package must be %s, not %s", pkg, got))
	}
	for _, imp := range m.Imports {
		path := imp.Path.String()
		if path != "rego.v1" && path != "rego.v2" && path != "input" && !strings.HasPrefix(path, "input.") {
			out = append(out, locate(imp.Location, "import of %s is not allowed: a policy sees only its input", path))
		}
	}
	if len(m.Rules) > maxRules {
		out = append(out, locate(m.Rules[maxRules].Location, "module has %d rules, at most %d are allowed", len(m.Rules), maxRules))
	}
	for _, r := range m.Rules {
		ast.WalkNodes(r, func(n ast.Node) bool {
			switch n := n.(type) {
			case ast.Body:
				if len(n) > maxBody {
					out = append(out, locate(n.Loc(), "body has %d expressions, at most %d are allowed", len(n), maxBody))
				}
			case *ast.Expr:
				if n.IsEquality() {
					out = append(out, locate(n.Location, "use := to assign or == to compare, not ="))
				}
				if len(n.With) > 0 {
					out = append(out, locate(n.With[0].Location, "with is not allowed in a policy"))
				}
			case *ast.Term:
				if v, ok := n.Value.(ast.Var); ok && ast.DefaultRootDocument.Equal(ast.NewTerm(v)) {
					out = append(out, locate(n.Location, "data is not available: a policy sees only its input and its own rules"))
				}
			}
			return len(out) >= maxProblems
		})
	}
	if len(out) == 0 {
		out = bound(m)
	}
	return out
}
