// Package policyfile keeps a tenant's policies as files that people edit,
// review and version: one YAML (or JSON) file of fulcrum.policy.v1.Policy by
// its .proto names for each, and a .rego file of the same name beside it where
// the policy is written in Rego.
package policyfile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/encoding/protojson"

	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
)

// File is one policy as a file has it.
type File struct {
	Path     string // of the YAML or JSON file; of the .rego if there is no other
	Policy   *policyv1.Policy
	Warnings []string // what is legal and most likely not meant
}

const (
	maxBytes = 1 << 20
	rego     = ".rego"
)

var described = []string{".yaml", ".yml", ".json"}

// Read reads one policy: a description with the .rego beside it, or a .rego
// with the description beside it, and the tests in .tests.yaml. A .rego alone is
// a policy of that name.
func Read(path string) (File, error) {
	if strings.HasSuffix(path, tested) {
		return File{}, fmt.Errorf("%s: has tests of a policy: name the policy's file", path)
	}
	return withTests(find(path))
}

func find(path string) (File, error) {
	ext := filepath.Ext(path)
	base := strings.TrimSuffix(path, ext)
	switch {
	case slices.Contains(described, ext):
		return read(path, base+rego)
	case ext == rego:
		for _, other := range described {
			if _, err := os.Stat(base + other); err == nil {
				return read(base+other, path)
			}
		}
		module, err := load(path)
		if err != nil {
			return File{}, err
		}
		return File{Path: path, Policy: &policyv1.Policy{Name: filepath.Base(base), Rego: module}}, nil
	}
	return File{}, fmt.Errorf("%s: a policy is in a .yaml, .json or .rego file", path)
}

func read(path, beside string) (File, error) {
	text, err := load(path)
	if err != nil {
		return File{}, err
	}
	f, err := Parse(path, text)
	if err != nil {
		return f, err
	}
	module, err := load(beside)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return f, nil
	case err != nil:
		return f, err
	case f.Policy.GetRego() != "":
		return f, fmt.Errorf("%s: has rego, and so has %s: keep one of them", path, filepath.Base(beside))
	case len(f.Policy.GetRules()) > 0:
		return f, fmt.Errorf("%s: has rules, and %s has Rego: a policy is one or the other", path, filepath.Base(beside))
	}
	f.Policy.Rego = module
	return f, nil
}

// load reads a text file with its line ends as Unix has them.
func load(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxBytes+1))
	switch {
	case err != nil:
		return "", err
	case len(b) > maxBytes:
		return "", fmt.Errorf("%s: is larger than 1 MB", path)
	}
	return unix(string(b)), nil
}

func unix(text string) string { return strings.ReplaceAll(text, "\r\n", "\n") }

// Parse reads a description, YAML or JSON, which is YAML too.
func Parse(path, text string) (File, error) {
	f := File{Path: path, Policy: new(policyv1.Policy)}
	document, raw, err := Document(text)
	if err != nil {
		return f, fmt.Errorf("%s: %w", path, err)
	}
	if err := protojson.Unmarshal(raw, f.Policy); err != nil {
		return f, fmt.Errorf("%s: %w", path, explain(err, document))
	}
	if strings.TrimSpace(f.Policy.GetName()) == "" {
		return f, fmt.Errorf("%s: the policy has no name", path)
	}
	f.Policy.Rego = unix(f.Policy.GetRego())
	f.Warnings = silent(document)
	return f, nil
}

// Document reads a file of exactly one YAML document, and returns its tree and
// the same as JSON.
func Document(text string) (*yaml.Node, []byte, error) {
	decoder := yaml.NewDecoder(strings.NewReader(text))
	var document yaml.Node
	if err := decoder.Decode(&document); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, nil, errors.New("is empty")
		}
		return nil, nil, plain(err)
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, nil, errors.New("has more than one document: put each into a file of its own")
	}
	var value map[string]any
	if err := document.Decode(&value); err != nil {
		return nil, nil, plain(err)
	}
	var raw bytes.Buffer
	if err := json.NewEncoder(&raw).Encode(value); err != nil {
		return nil, nil, fmt.Errorf("cannot be read as JSON: %w", err)
	}
	return &document, raw.Bytes(), nil
}

// plain takes the library's name off its errors.
func plain(err error) error {
	return errors.New(strings.TrimPrefix(strings.ReplaceAll(err.Error(), "unmarshal errors:\n  ", ""), "yaml: "))
}

var (
	position = regexp.MustCompile(`^proto:[\s\x{a0}]*(\([^)]*\):[\s\x{a0}]*)?`)
	field    = regexp.MustCompile(`field "?([A-Za-z_]+)"?`)
)

// explain says where in the file an error of the decoder is, by the field that
// it names, and names the field as files do.
func explain(err error, document *yaml.Node) error {
	text := position.ReplaceAllString(err.Error(), "")
	m := field.FindStringSubmatch(text)
	if m == nil {
		return errors.New(text)
	}
	name := snake(m[1])
	text = strings.Replace(text, m[1], name, 1)
	if at := keyed(document, name); at != nil {
		text = fmt.Sprintf("line %d: %s", at.Line, text)
	}
	return errors.New(text)
}

// snake is a field's name in the .proto: the decoder says ruleId for rule_id.
func snake(name string) string {
	var b strings.Builder
	for _, r := range name {
		if unicode.IsUpper(r) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// keyed is the first key of that name.
func keyed(n *yaml.Node, name string) *yaml.Node {
	for i, child := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 0 && child.Value == name {
			return child
		}
		if found := keyed(child, name); found != nil {
			return found
		}
	}
	return nil
}

// silent finds rules that do not say whether they are enabled, and so are not.
func silent(document *yaml.Node) (warnings []string) {
	rules := keyed(document, "rules")
	if rules == nil || len(document.Content) == 0 {
		return nil
	}
	top := document.Content[0]
	for i := 0; i+1 < len(top.Content); i += 2 {
		if top.Content[i] != rules {
			continue
		}
		for n, rule := range top.Content[i+1].Content {
			if rule.Kind == yaml.MappingNode && keyed(rule, "enabled") == nil {
				warnings = append(warnings, fmt.Sprintf("line %d: rules[%d] does not say \"enabled: true\", so it never matches", rule.Line, n))
			}
		}
	}
	return warnings
}
