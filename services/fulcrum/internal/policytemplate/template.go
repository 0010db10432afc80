// Package policytemplate has policies that most deployments want, with a few
// values left open and with tests that show what they do.
package policytemplate

import (
	"embed"
	"encoding/json"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/encoding/protojson"

	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	"github.com/fulcrum-io/fulcrum/services/fulcrum/internal/policyfile"
)

//go:embed templates/*.yaml
var files embed.FS

// Template is one of them.
type Template struct {
	Name        string         `yaml:"name"`
	Title       string         `yaml:"title"`
	Description string         `yaml:"description"`
	Parameters  []Parameter    `yaml:"parameters"`
	Policy      map[string]any `yaml:"policy"`
}

// Parameter is a value left open: a number, a text, or a list of texts.
type Parameter struct {
	Name        string `yaml:"name"`
	Default     any    `yaml:"default"`
	Description string `yaml:"description"`
}

// All returns every template, by name.
func All() ([]Template, error) {
	names, err := files.ReadDir("templates")
	if err != nil {
		return nil, err
	}
	var all []Template
	for _, f := range names {
		raw, err := files.ReadFile(path.Join("templates", f.Name()))
		if err != nil {
			return nil, err
		}
		var t Template
		if err := yaml.Unmarshal(raw, &t); err != nil {
			return nil, fmt.Errorf("template %s: %w", f.Name(), err)
		}
		all = append(all, t)
	}
	return all, nil
}

// Fill returns the policy with values in the place of parameters; the others
// have their defaults. A list is given comma separated.
func (t Template) Fill(values map[string]string) (*policyv1.Policy, error) {
	filled := map[string]any{}
	for _, p := range t.Parameters {
		filled[p.Name] = p.Default
	}
	for name, text := range values {
		i := slices.IndexFunc(t.Parameters, func(p Parameter) bool { return p.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("template %s has no parameter %q", t.Name, name)
		}
		v, err := t.Parameters[i].read(text)
		if err != nil {
			return nil, err
		}
		filled[name] = v
	}
	raw, err := yaml.Marshal(t.Policy) // a copy that is ours to change
	if err != nil {
		return nil, err
	}
	var tree map[string]any
	if err := yaml.Unmarshal(raw, &tree); err != nil {
		return nil, err
	}
	done, err := fill(tree, filled)
	if err != nil {
		return nil, fmt.Errorf("template %s: %w", t.Name, err)
	}
	if raw, err = json.Marshal(policyfile.Lengthen("", done)); err != nil {
		return nil, fmt.Errorf("template %s: %w", t.Name, err)
	}
	p := &policyv1.Policy{}
	if err := protojson.Unmarshal(raw, p); err != nil {
		return nil, fmt.Errorf("template %s: %w", t.Name, err)
	}
	for _, r := range p.GetRules() {
		r.Enabled = true
	}
	return p, nil
}

// read takes a value in the type of the default.
func (p Parameter) read(text string) (any, error) {
	switch p.Default.(type) {
	case string:
		if strings.TrimSpace(text) == "" {
			return nil, fmt.Errorf("%s is empty", p.Name)
		}
		return text, nil
	case []any:
		var list []any
		for part := range strings.SplitSeq(text, ",") {
			if part = strings.TrimSpace(part); part != "" {
				list = append(list, part)
			}
		}
		if len(list) == 0 {
			return nil, fmt.Errorf("%s is empty", p.Name)
		}
		return list, nil
	}
	n, err := strconv.ParseFloat(text, 64)
	if err != nil || n < 0 {
		return nil, fmt.Errorf("%s is %q, but must be a number", p.Name, text)
	}
	return n, nil
}

// place is where a parameter goes: ${name}, ${name[0]} for the first of a list,
// ${name+1} and ${name-1} for a number near it.
var place = regexp.MustCompile(`\$\{([a-z_]+)(\[0\]|[+-]\d+)?\}`)

// fill replaces the places in a tree. One that is all of a text keeps the type of
// its value, so nothing in a value can be more than a value.
func fill(v any, values map[string]any) (any, error) {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, e := range v {
			key, err := fill(k, values)
			if err != nil {
				return nil, err
			}
			if out[fmt.Sprint(key)], err = fill(e, values); err != nil {
				return nil, err
			}
		}
		return out, nil
	case []any:
		for i, e := range v {
			f, err := fill(e, values)
			if err != nil {
				return nil, err
			}
			v[i] = f
		}
	case string:
		if whole := place.FindString(v); whole != "" && whole == v {
			return value(v, values)
		}
		var failed error
		text := place.ReplaceAllStringFunc(v, func(at string) string {
			x, err := value(at, values)
			if err != nil {
				failed = err
			}
			return fmt.Sprint(x)
		})
		return text, failed
	}
	return v, nil
}

func value(at string, values map[string]any) (any, error) {
	m := place.FindStringSubmatch(at)
	v, ok := values[m[1]]
	if !ok {
		return nil, fmt.Errorf("%s is no parameter", m[1])
	}
	switch m[2] {
	case "":
		return v, nil
	case "[0]":
		list, ok := v.([]any)
		if !ok {
			return nil, fmt.Errorf("%s is no list", m[1])
		}
		return list[0], nil
	}
	by, err := strconv.ParseFloat(m[2], 64)
	if err != nil {
		return nil, err
	}
	switch n := v.(type) {
	case int:
		return float64(n) + by, nil
	case float64:
		return n + by, nil
	}
	return nil, fmt.Errorf("%s is no number", m[1])
}
