package policyfile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
)

// YAML is a message by its .proto names, fields in their order there.
func YAML(m proto.Message) (string, error) {
	raw, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
	if err != nil {
		return "", fmt.Errorf("write as JSON: %w", err)
	}
	var document yaml.Node
	if err := yaml.Unmarshal(raw, &document); err != nil { // JSON is YAML, with its keys in order
		return "", err
	}
	readable(&document)
	var b bytes.Buffer
	encoder := yaml.NewEncoder(&b)
	encoder.SetIndent(2)
	if err := encoder.Encode(&document); err != nil {
		return "", err
	}
	return b.String(), encoder.Close()
}

// readable takes JSON's braces and quotes off, where YAML needs none.
func readable(n *yaml.Node) {
	n.Style = 0
	if n.Kind == yaml.ScalarNode && strings.Contains(n.Value, "\n") {
		n.Style = yaml.LiteralStyle
	}
	for _, child := range n.Content {
		readable(child)
	}
}

// Write makes path hold a policy, the .rego beside it its module if it has one,
// and the .tests.yaml its tests.
func Write(path string, p *policyv1.Policy) error {
	beside := strings.TrimSuffix(path, filepath.Ext(path)) + rego
	described := portable(p)
	module := described.GetRego()
	described.Rego, described.Tests = "", nil
	text, err := YAML(described)
	if err != nil {
		return err
	}
	if filepath.Ext(path) == ".json" {
		raw, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(described)
		if err != nil {
			return err
		}
		var b bytes.Buffer
		if err := json.Indent(&b, raw, "", "  "); err != nil {
			return err
		}
		text = b.String() + "\n"
	}
	if module == "" {
		if err := os.Remove(beside); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	} else if err := replace(beside, module); err != nil {
		return err
	}
	if err := writeTests(path, p.GetTests()); err != nil {
		return err
	}
	return replace(path, text)
}

// replace writes a file whole or not at all.
func replace(path, text string) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".policy-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }() // gone already when all went well
	_, err = f.WriteString(text)
	if err := errors.Join(err, f.Chmod(0o644), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// fileName is what a policy's file is called, without its ending.
func fileName(p *policyv1.Policy) string {
	var b strings.Builder
	for _, r := range strings.ToLower(p.GetName()) {
		switch {
		case r < unicode.MaxASCII && (unicode.IsLetter(r) || unicode.IsDigit(r)):
			b.WriteRune(r)
		case b.Len() > 0 && !strings.HasSuffix(b.String(), "-"):
			b.WriteByte('-')
		}
		if b.Len() >= 60 {
			break
		}
	}
	if name := strings.TrimSuffix(b.String(), "-"); name != "" {
		return name
	}
	return "policy"
}

// unique adds the end of the policy's id to a name that is taken.
func unique(p *policyv1.Policy, taken map[string]bool) string {
	name := fileName(p)
	if taken[name] {
		id := p.GetPolicyId()
		name += "-" + id[max(0, len(id)-8):]
	}
	taken[name] = true
	return name
}
