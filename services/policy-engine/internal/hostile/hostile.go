// Package hostile is a corpus of policies that attack the engine: cross products,
// trees and texts that double, regular expressions, reaches out of the sandbox,
// compilers' worst cases, and facts too large or too deep. Tests and the
// benchmark use it.
package hostile

import (
	"embed"
	"fmt"
	"path"
	"regexp"
	"strings"
	"text/template"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	policyenginev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policyengine/v1"
	"github.com/fulcrum-io/fulcrum/services/policy-engine/internal/workload"
)

//go:embed corpus/*.rego.tmpl
var files embed.FS

// Policy is one policy of the corpus: a file whose first lines say whether it is
// to be refused at upload ("refused") or to end in time ("ends"), and on what
// facts.
type Policy struct{ Name, Text, Expect, Input string }

var header = regexp.MustCompile(`(?m)^# (expect|input): (\w+)$`)

// Corpus returns all of it.
func Corpus() ([]Policy, error) {
	names, err := files.ReadDir("corpus")
	if err != nil {
		return nil, err
	}
	var all []Policy
	for _, f := range names {
		raw, err := files.ReadFile(path.Join("corpus", f.Name()))
		if err != nil {
			return nil, err
		}
		h := Policy{Name: strings.TrimSuffix(f.Name(), ".rego.tmpl")}
		for _, m := range header.FindAllStringSubmatch(string(raw), -1) {
			switch m[1] {
			case "expect":
				h.Expect = m[2]
			case "input":
				h.Input = m[2]
			}
		}
		// Rego's own double braces are rare; they are written with a space between.
		tmpl, err := template.New(h.Name).Funcs(functions).Parse(string(raw))
		if err != nil {
			return nil, err
		}
		var text strings.Builder
		if err := tmpl.Execute(&text, nil); err != nil {
			return nil, err
		}
		h.Text = text.String()
		all = append(all, h)
	}
	return all, nil
}

var functions = template.FuncMap{
	"repeat": func(n int, s string) string { return strings.Repeat(s, n) },
	"add":    func(a, b int) int { return a + b },
	"seq": func(n int) []int {
		out := make([]int, n)
		for i := range out {
			out[i] = i
		}
		return out
	},
}

// Facts returns the facts of a kind that Policy.Input names: as large as the
// gateway lets them be, and larger.
func Facts(kind string) (*policyenginev1.Facts, error) {
	f := workload.Call()
	args := f.GetAction().GetArguments().GetFields()
	switch kind {
	case "plain":
	case "big":
		f.InputText = proto.String(strings.Repeat("a", 1<<20))
		args["text"] = structpb.NewStringValue(strings.Repeat("a", 64<<10))
		args["items"] = list(5000)
	case "huge":
		args["items"] = list(30_000)
	case "deep":
		v := structpb.NewStringValue("x")
		for range 200 {
			v = structpb.NewListValue(&structpb.ListValue{Values: []*structpb.Value{v}})
		}
		args["items"] = v
	default:
		return nil, fmt.Errorf("unknown facts %q", kind)
	}
	return f, nil
}

func list(n int) *structpb.Value {
	items := make([]*structpb.Value, n)
	for i := range items {
		items[i] = structpb.NewStringValue(strings.Repeat("a", i%40))
	}
	return structpb.NewListValue(&structpb.ListValue{Values: items})
}
