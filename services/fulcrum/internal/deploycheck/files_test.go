package deploycheck

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// root is the repository's, seen from here.
const root = "../../../.."

func text(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// decode reads YAML or JSON, by the file's name. An unknown field of a JSON file
// is an error.
func decode(t *testing.T, path string, into any) {
	t.Helper()
	var err error
	if strings.HasSuffix(path, ".json") {
		d := json.NewDecoder(strings.NewReader(text(t, path)))
		d.DisallowUnknownFields()
		err = d.Decode(into)
	} else {
		err = yaml.Unmarshal([]byte(text(t, path)), into)
	}
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

// workspace is every module of go.work, as a path from the root.
func workspace(t *testing.T) (modules []string) {
	t.Helper()
	for line := range strings.Lines(text(t, "go.work")) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "./"); ok {
			modules = append(modules, path)
		}
	}
	return modules
}

// serviceModules are the modules below services/ that serve.
func serviceModules(t *testing.T) (names []string) {
	t.Helper()
	for _, m := range workspace(t) {
		if name, ok := strings.CutPrefix(m, "services/"); ok && name != "fulcrum" {
			names = append(names, name)
		}
	}
	return names
}
