package sandbox

import (
	"errors"
	"fmt"
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// What a guarded built-in accepts. Longer operands are an error, and an error
// fails the evaluation: nothing is cut short silently.
const (
	maxBuildBytes = 256 << 10 // strings that a function grows, splits or rewrites
	maxMatchBytes = 1 << 20   // strings that a function only searches
	maxNodes      = 20_000    // values inside an operand, counted as a tree
	maxDigits     = 100       // of a number
)

// searching functions read their operands once and return something small.
var searching = map[string]bool{
	"contains": true, "startswith": true, "endswith": true, "indexof": true,
	"regex.match": true, "strings.any_prefix_match": true, "strings.any_suffix_match": true,
	"crypto.md5": true, "crypto.sha1": true, "crypto.sha256": true, "glob.match": true,
}

// constant functions do work that does not depend on the size of their operands.
var constant = map[string]bool{
	"object.get": true, "count": true, "type_name": true, "assign": true,
	"is_array": true, "is_boolean": true, "is_null": true, "is_number": true,
	"is_object": true, "is_set": true, "is_string": true,
}

// comparing functions stop at the first difference, so the smaller operand
// bounds them.
var comparing = map[string]bool{
	"eq": true, "equal": true, "neq": true, "gt": true, "gte": true, "lt": true, "lte": true,
}

// install puts a guard around every allowed built-in, once per process: OPA
// keeps built-ins in a process-wide table, and per-query ones do not override it.
var install = sync.OnceFunc(func() {
	registerFacts()
	registerRows()
	for _, name := range allowed {
		f := topdown.GetBuiltin(name)
		switch {
		case f == nil || constant[name]:
			continue
		case name == "regex.match":
			f = match
		}
		topdown.RegisterBuiltinFunc(name, guard(name, f))
	}
})

func guard(name string, f topdown.BuiltinFunc) topdown.BuiltinFunc {
	limit := maxBuildBytes
	if searching[name] {
		limit = maxMatchBytes
	}
	check := func(args []*ast.Term) error {
		left := maxNodes
		for _, a := range args {
			if err := measure(a.Value, limit, &left); err != nil {
				return err
			}
		}
		return nil
	}
	switch {
	case comparing[name]:
		check = checkSmaller
	case name == "internal.member_2":
		// Looked up by hash, or compared until the first difference.
		check = func(args []*ast.Term) error { return checkSmaller(args[:1]) }
	}
	return func(b topdown.BuiltinContext, args []*ast.Term, yield func(*ast.Term) error) error {
		if err := check(args); err != nil {
			return halt(b, fmt.Sprintf("%s: %s", name, err))
		}
		// What builds or searches something large asks for the time itself: few
		// expressions may lie between two such calls, and each is work for many.
		if c, ok := b.Cancel.(*clock); ok && weighs(args) && c.expired(someWork/10) {
			return errExpired
		}
		return f(b, args, yield)
	}
}

// halt fails the evaluation, whatever the expression around the call makes of
// errors.
func halt(b topdown.BuiltinContext, message string) error {
	return topdown.Halt{Err: &topdown.Error{Code: topdown.BuiltinErr, Message: message, Location: b.Location}}
}

// weighs reports whether an operand is long enough for a call to take a while.
func weighs(args []*ast.Term) bool {
	for _, a := range args {
		switch v := a.Value.(type) {
		case ast.String:
			if len(v) > 4<<10 {
				return true
			}
		case *ast.Array:
			if v.Len() > 256 {
				return true
			}
		}
	}
	return false
}

func checkSmaller(args []*ast.Term) error {
	var err error
	for _, a := range args[:min(2, len(args))] {
		left := maxNodes
		if err = measure(a.Value, maxMatchBytes, &left); err == nil {
			return nil
		}
	}
	return err
}

var (
	errLong = errors.New("operand is too long")
	errBig  = errors.New("operand has too many values")
	errWide = errors.New("number has too many digits")
)

// measure counts v as the tree a function would walk, and stops early: values
// that share parts can be small in memory and endless to walk.
func measure(v ast.Value, maxBytes int, left *int) error {
	if *left--; *left < 0 {
		return errBig
	}
	switch v := v.(type) {
	case ast.String:
		if len(v) > maxBytes {
			return errLong
		}
	case ast.Number:
		if len(v) > maxDigits {
			return errWide
		}
	case *ast.Array:
		for i := range v.Len() {
			if err := measure(v.Elem(i).Value, maxBytes, left); err != nil {
				return err
			}
		}
	case ast.Object:
		return v.Iter(func(k, e *ast.Term) error {
			if err := measure(k.Value, maxBytes, left); err != nil {
				return err
			}
			return measure(e.Value, maxBytes, left)
		})
	case ast.Set:
		return v.Iter(func(e *ast.Term) error { return measure(e.Value, maxBytes, left) })
	}
	return nil
}
