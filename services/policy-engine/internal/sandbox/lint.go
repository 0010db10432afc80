package sandbox

import (
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/format"
)

// Format writes a module as OPA's formatter does; "" if it does not parse.
func Format(text string) string {
	if _, problems := parse(text); len(problems) > 0 {
		return ""
	}
	options := parsing(capabilities())
	out, err := format.SourceWithOpts(moduleFile, []byte(text), format.Opts{RegoVersion: ast.RegoV2, ParserOptions: &options})
	if err != nil {
		return ""
	}
	return string(out)
}

// Answers are the rules that a caller asks for; others are of use only to them.
type Answers []string

func (a Answers) has(name string) bool {
	for _, n := range a {
		if n == name {
			return true
		}
	}
	return false
}

// Lint warns of what is allowed but likely not meant. Known says whether a path
// of the input, such as tool.name, can exist.
func (m *Module) Lint(answers Answers, known func(path []string) bool) (out []Problem) {
	warn := func(at *ast.Location, check, format string, args ...any) {
		p := locate(at, format, args...)
		p.Warning, p.Check = true, check
		out = append(out, p)
	}
	used := m.used(answers)
	for _, r := range m.parsed.Rules {
		name := r.Head.Ref()[0].String()
		if !answers.has(name) && !used[name] {
			warn(r.Loc(), "unused-rule", "%s is used by no answer: it decides nothing", name)
		}
		ast.WalkBodies(r, func(b ast.Body) bool {
			contradiction(b, warn)
			return false
		})
		ast.WalkRefs(r, func(ref ast.Ref) bool {
			if !ref[0].Equal(ast.InputRootDocument) {
				return false
			}
			path := texts(ref[1:])
			if len(path) > 0 && !known(path) {
				warn(ref[0].Location, "unknown-field", "input.%s does not exist: it is always undefined, and the rule then does not fire", strings.Join(path, "."))
			}
			if len(ref) > 3 && is(ref[1], "action") && is(ref[2], "args") {
				warn(ref[0].Location, "undefined-argument", "%s is undefined when the argument is missing or of another type, and the rule then does not fire; "+
					"fulcrum.num, fulcrum.text, fulcrum.bool and fulcrum.list fail closed instead", ref)
			}
			return false
		})
	}
	return clip(out)
}

// used are the names of rules that answers come from.
func (m *Module) used(answers Answers) map[string]bool {
	calls := map[string]map[string]bool{}
	for _, r := range m.parsed.Rules {
		name := r.Head.Ref()[0].String()
		if calls[name] == nil {
			calls[name] = map[string]bool{}
		}
		ast.WalkVars(r, func(v ast.Var) bool {
			calls[name][string(v)] = true
			return false
		})
	}
	used := map[string]bool{}
	next := slices.Clone([]string(answers)) // the caller's is shared
	for len(next) > 0 {
		name := next[0]
		next = next[1:]
		for other := range calls[name] {
			if _, rule := calls[other]; rule && !used[other] {
				used[other] = true
				next = append(next, other)
			}
		}
	}
	return used
}

// contradiction finds a body that cannot hold: a constant false, or one input
// compared with two different constants.
func contradiction(b ast.Body, warn func(*ast.Location, string, string, ...any)) {
	equal := map[string]*ast.Term{}
	for _, e := range b {
		if t, ok := e.Terms.(*ast.Term); ok && t.Equal(ast.InternedTerm(false)) != e.Negated && isBool(t) {
			warn(e.Location, "never-matches", "this is always false: the rule can never match")
			return
		}
		if e.Negated || !e.IsCall() || e.Operator().String() != ast.Equal.Name || len(e.Operands()) != 2 {
			continue
		}
		ref, value := e.Operand(0), e.Operand(1)
		if !fromInput(ref) {
			ref, value = value, ref
		}
		if !fromInput(ref) || !literal(value) {
			continue
		}
		if other, ok := equal[ref.String()]; ok && !other.Equal(value) {
			warn(e.Location, "never-matches", "%s cannot be both %s and %s: the rule can never match", ref, other, value)
			return
		}
		equal[ref.String()] = value
	}
}

func isBool(t *ast.Term) bool {
	_, ok := t.Value.(ast.Boolean)
	return ok
}

func fromInput(t *ast.Term) bool {
	ref, ok := t.Value.(ast.Ref)
	return ok && ref.IsGround() && ref[0].Equal(ast.InputRootDocument)
}

func literal(t *ast.Term) bool {
	switch t.Value.(type) {
	case ast.String, ast.Number, ast.Boolean, ast.Null:
		return true
	}
	return false
}

// texts are the leading constant strings of a path.
func texts(ref ast.Ref) (out []string) {
	for _, t := range ref {
		s, ok := t.Value.(ast.String)
		if !ok {
			break
		}
		out = append(out, string(s))
	}
	return out
}

func is(t *ast.Term, s string) bool {
	v, ok := t.Value.(ast.String)
	return ok && string(v) == s
}
