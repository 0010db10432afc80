package policyfile

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"

	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
)

// tested is the end of the name of a file with tests: refunds.tests.yaml has
// those of refunds.yaml or refunds.rego.
const tested = ".tests.yaml"

// withTests adds the tests that are beside a policy's file.
func withTests(f File, err error) (File, error) {
	if err != nil {
		return f, err
	}
	path := testsBeside(f.Path)
	tests, err := readTests(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return f, nil
	case err != nil:
		return f, err
	case len(f.Policy.GetTests()) > 0:
		return f, fmt.Errorf("%s: has tests, and so has %s: keep one of them", f.Path, filepath.Base(path))
	}
	f.Policy.Tests = tests
	return f, nil
}

func testsBeside(path string) string { return strings.TrimSuffix(path, filepath.Ext(path)) + tested }

func readTests(path string) ([]*policyv1.PolicyTest, error) {
	text, err := load(path)
	if err != nil {
		return nil, err
	}
	document, raw, err := Document(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	var tree map[string]any
	if err := json.Unmarshal(raw, &tree); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	for key := range tree {
		if key != "tests" {
			return nil, fmt.Errorf("%s: has %q: a file of tests has only tests", path, key)
		}
	}
	if raw, err = json.Marshal(Lengthen("", tree)); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	var p policyv1.Policy
	if err := protojson.Unmarshal(raw, &p); err != nil {
		return nil, fmt.Errorf("%s: %w", path, explain(err, document))
	}
	return p.GetTests(), nil
}

// writeTests makes the file beside path hold tests; without any there is none.
func writeTests(path string, tests []*policyv1.PolicyTest) error {
	path = testsBeside(path)
	if len(tests) == 0 {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	text, err := YAML(&policyv1.Policy{Tests: tests})
	if err != nil {
		return err
	}
	return replace(path, text)
}
