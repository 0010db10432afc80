package sandbox

import (
	"fmt"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
	"github.com/open-policy-agent/opa/v1/types"
)

// In Rego a missing or mistyped value makes a condition undefined, so a deny
// rule quietly does not fire. These functions make it an error instead:
//
//	fulcrum.num(input, "action.args.amount") > 1000
func registerFacts() {
	for _, f := range []struct {
		name string
		out  types.Type
		is   func(ast.Value) bool
		want string
	}{
		{"fulcrum.num", types.N, isA[ast.Number], "a number"},
		{"fulcrum.text", types.S, isA[ast.String], "a string"},
		{"fulcrum.bool", types.B, isA[ast.Boolean], "a boolean"},
		{"fulcrum.list", types.NewArray(nil, types.A), isA[*ast.Array], "a list"},
	} {
		ast.RegisterBuiltin(&ast.Builtin{
			Name: f.name,
			Description: "Returns the value at a dotted path if it is " + f.want +
				"; anything else fails the evaluation.",
			Decl: types.NewFunction(types.Args(types.A, types.S), f.out),
		})
		topdown.RegisterBuiltinFunc(f.name, func(b topdown.BuiltinContext, args []*ast.Term, yield func(*ast.Term) error) error {
			path, ok := args[1].Value.(ast.String)
			if !ok {
				return fmt.Errorf("the path must be a string")
			}
			v := find(args[0], string(path))
			if v == nil {
				return fmt.Errorf("%s is missing", string(path))
			}
			if !f.is(v.Value) {
				return fmt.Errorf("%s is not %s", string(path), f.want)
			}
			return yield(v)
		})
	}
}

func isA[T ast.Value](v ast.Value) bool { _, ok := v.(T); return ok }

// find follows a dotted path through objects; nil when it leads nowhere.
func find(t *ast.Term, path string) *ast.Term {
	for path != "" {
		var key string
		key, path, _ = strings.Cut(path, ".")
		o, ok := t.Value.(ast.Object)
		if !ok {
			return nil
		}
		if t = o.Get(ast.StringTerm(key)); t == nil {
			return nil
		}
	}
	return t
}
