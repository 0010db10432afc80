package policyfile

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
)

// ReadFolder reads every policy in a folder, by file name. Tests (*.tests.yaml,
// *_test.rego), hidden files and files of other kinds are not policies.
func ReadFolder(dir string) ([]File, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	paths := map[string]string{} // by name without ending: the description, else the .rego
	for _, e := range entries {
		ext := filepath.Ext(e.Name())
		base := strings.TrimSuffix(e.Name(), ext)
		if e.IsDir() || strings.HasPrefix(e.Name(), ".") || strings.HasSuffix(e.Name(), "_test.rego") || strings.HasSuffix(e.Name(), tested) {
			continue
		}
		other, twice := paths[base]
		switch {
		case ext == rego && !twice, slices.Contains(described, ext) && (!twice || filepath.Ext(other) == rego):
			paths[base] = filepath.Join(dir, e.Name())
		case slices.Contains(described, ext):
			return nil, fmt.Errorf("%s: %s describes a policy of that name already", filepath.Join(dir, e.Name()), filepath.Base(other))
		}
	}
	var files []File
	for _, path := range slices.Sorted(maps.Values(paths)) {
		f, err := Read(path)
		if err != nil {
			return nil, err
		}
		for _, other := range files {
			switch id := f.Policy.GetPolicyId(); {
			case strings.TrimSpace(other.Policy.GetName()) == strings.TrimSpace(f.Policy.GetName()):
				return nil, fmt.Errorf("%s: the policy %q is in %s already", f.Path, f.Policy.GetName(), filepath.Base(other.Path))
			case id != "" && other.Policy.GetPolicyId() == id:
				return nil, fmt.Errorf("%s: the policy_id is that of %s: a copy needs its own, or none", f.Path, filepath.Base(other.Path))
			}
		}
		files = append(files, f)
	}
	return files, nil
}

// Pulled is what became of one policy's file.
type Pulled struct {
	Path   string
	Policy *policyv1.Policy
	Change string // "created", "updated" or "unchanged"
}

// Pull makes a folder hold the policies of a server, and returns what became of
// each and the files of policies that the server does not have, which stay. A
// file that says the same already keeps its comments and its form.
func Pull(dir string, live []*policyv1.Policy) ([]Pulled, []File, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, nil, err
	}
	files, err := ReadFolder(dir)
	if err != nil {
		return nil, nil, err
	}
	pairs, unmatched, only, err := match(files, live)
	if err != nil {
		return nil, nil, err
	}
	taken := map[string]bool{}
	for _, f := range files {
		base := filepath.Base(f.Path)
		taken[strings.TrimSuffix(base, filepath.Ext(base))] = true
	}
	var all []Pulled
	for _, p := range pairs {
		one := Pulled{Path: p.file.Path, Policy: p.live, Change: "unchanged"}
		if !same(p.file.Policy, p.live) {
			one.Change = "updated"
			if filepath.Ext(one.Path) == rego {
				one.Path = strings.TrimSuffix(one.Path, rego) + ".yaml"
			}
			if err := Write(one.Path, p.live); err != nil {
				return nil, nil, err
			}
		}
		all = append(all, one)
	}
	for _, p := range only {
		one := Pulled{Path: filepath.Join(dir, unique(p, taken)+".yaml"), Policy: p, Change: "created"}
		if err := Write(one.Path, p); err != nil {
			return nil, nil, err
		}
		all = append(all, one)
	}
	slices.SortFunc(all, func(a, b Pulled) int { return strings.Compare(a.Path, b.Path) })
	return all, unmatched, nil
}

// Add writes a policy into a folder under a name that is free, and returns the
// path. It refuses a policy whose name a file has already.
func Add(dir string, p *policyv1.Policy) (string, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	files, err := ReadFolder(dir)
	if err != nil {
		return "", err
	}
	taken := map[string]bool{}
	for _, f := range files {
		if strings.TrimSpace(f.Policy.GetName()) == p.GetName() {
			return "", fmt.Errorf("%s has the policy %q already", f.Path, p.GetName())
		}
		base := filepath.Base(f.Path)
		taken[strings.TrimSuffix(base, filepath.Ext(base))] = true
	}
	path := filepath.Join(dir, unique(p, taken)+".yaml")
	return path, Write(path, p)
}
