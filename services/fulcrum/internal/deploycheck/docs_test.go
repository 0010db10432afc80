package deploycheck

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/fulcrum-io/fulcrum/db/dbtest"
)

const (
	runbook      = "docs/runbook.md"
	failureModes = "docs/failure-modes.md"
	sandbox      = "docs/policy-sandbox.md"
)

func all(t *testing.T, path, pattern string) (found []string) {
	t.Helper()
	for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(text(t, path), -1) {
		found = append(found, m[len(m)-1])
	}
	slices.Sort(found)
	return slices.Compact(found)
}

// Whoever is woken by an alert finds it in the runbook, and the runbook knows
// no alert that never comes.
func TestEveryAlertHasItsSectionInTheRunbook(t *testing.T) {
	t.Parallel()
	alerts := all(t, "deploy/prometheus/alerts.yml", `(?m)- alert: (\w+)$`)
	sections := all(t, runbook, `(?m)^### (Fulcrum\w+)$`)
	if len(alerts) == 0 || !slices.Equal(alerts, sections) {
		t.Errorf("alerts   %v\nsections %v", alerts, sections)
	}
	for _, path := range []string{runbook, "deploy/grafana/dashboards/fulcrum.json"} {
		for _, name := range all(t, path, `\bFulcrum(?:[A-Z]\w+)\b`) {
			if !slices.Contains(alerts, name) {
				t.Errorf("%s speaks of alert %s, which there is not", path, name)
			}
		}
	}
}

// A claim names the test that shows it, and the test is there.
func TestTheTestsThatAreNamedExist(t *testing.T) {
	t.Parallel()
	tests := map[string]bool{}
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() && (entry.Name() == ".git" || entry.Name() == "node_modules" || entry.Name() == ".data") {
			return fs.SkipDir
		}
		if !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		b, err := os.ReadFile(path)
		for _, m := range declared.FindAllSubmatch(b, -1) {
			tests[string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for path, fewest := range map[string]int{failureModes: 30, sandbox: 40, semantics: 25} {
		named := all(t, path, `\b(?:Test|Fuzz)[A-Z]\w+\b`)
		if len(named) < fewest {
			t.Errorf("%s names %d tests", path, len(named))
		}
		for _, name := range named {
			if !tests[name] {
				t.Errorf("%s names %s, which does not exist", path, name)
			}
		}
	}
}

// So is each hostile policy that is named.
func TestTheHostilePoliciesThatAreNamedExist(t *testing.T) {
	t.Parallel()
	named := all(t, sandbox, "`corpus/(\\w+)`")
	if len(named) < 30 {
		t.Errorf("%s names %d", sandbox, len(named))
	}
	for _, name := range named {
		if _, err := os.Stat(filepath.Join(root, "services/policy-engine/internal/hostile/corpus", name+".rego.tmpl")); err != nil {
			t.Errorf("%s names corpus/%s: %v", sandbox, name, err)
		}
	}
}

// What the runbook tells people to type must be understood, flags and all.
func TestTheRunbooksCommandsExist(t *testing.T) {
	t.Parallel()
	commands := all(t, runbook, "(?m)(?:`|^\\s*)fulcrum ([a-z][^`#\\n]*)")
	if len(commands) < 15 {
		t.Fatalf("found %v", commands)
	}
	path := regexp.MustCompile(`^(?:[a-z]+\b ?)+`)
	for _, c := range commands {
		args := strings.Fields(path.FindString(c))
		help, ok := output(t, "fulcrum", append(args, "--help")...)
		if !ok || !strings.Contains(help, "\n  fulcrum "+strings.Join(args, " ")) {
			t.Errorf("fulcrum %s: %s", c, help)
		}
		for _, flag := range regexp.MustCompile(`--[a-z-]+`).FindAllString(c, -1) {
			if !strings.Contains(help, flag+" ") {
				t.Errorf("fulcrum %s has no %s", strings.Join(args, " "), flag)
			}
		}
	}
}

// So must the paths that it calls.
func TestTheRunbooksPathsAreServed(t *testing.T) {
	t.Parallel()
	served := map[string]bool{"/health": true, "/readyz": true}
	blank := regexp.MustCompile(`\{[^}]*\}|\$[A-Z]+`)
	protos, err := filepath.Glob(filepath.Join(root, "proto/fulcrum/*/v1/*.proto"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range protos {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`(?:get|post|put|patch|delete): "([^"]+)"`).FindAllSubmatch(b, -1) {
			served[blank.ReplaceAllString(string(m[1]), "*")] = true
		}
		pkg := regexp.MustCompile(`(?m)^package ([\w.]+);`).FindSubmatch(b)
		service := ""
		for line := range strings.Lines(string(b)) {
			if m := regexp.MustCompile(`^service (\w+)`).FindStringSubmatch(line); m != nil {
				service = m[1]
			}
			if m := regexp.MustCompile(`^\s+rpc (\w+)`).FindStringSubmatch(line); m != nil {
				served["/"+string(pkg[1])+"."+service+"/"+m[1]] = true
			}
		}
	}
	paths := all(t, runbook, `\$URL(/[A-Za-z0-9_./:$]+)`)
	if len(paths) < 4 {
		t.Fatalf("found %v", paths)
	}
	for _, p := range paths {
		if !served[blank.ReplaceAllString(p, "*")] {
			t.Errorf("%s is not served", p)
		}
	}
}

// So must its SQL, as the superuser that it asks for.
func TestTheRunbooksSQLRuns(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	statistics := dbtest.Count(t, d, `select count(*) from pg_available_extensions where name = 'pg_stat_statements'`) > 0
	if statistics {
		dbtest.Admin(t, d, `create extension pg_stat_statements`)
	}
	fence := regexp.MustCompile("(?s)```sql\n(.*?)```")
	meta := regexp.MustCompile(`(?m)^\s*\\set.*$`)
	given := regexp.MustCompile(`:'\w+'`)
	statements := 0
	for _, m := range fence.FindAllStringSubmatch(text(t, runbook), -1) {
		block := given.ReplaceAllString(meta.ReplaceAllString(m[1], ""), `'01990000-0000-7000-8000-000000000000'`)
		for _, sql := range strings.SplitAfter(block, ";\n") {
			if strings.TrimSpace(sql) == "" {
				continue
			}
			if strings.Contains(sql, "pg_stat_statements") {
				if !statistics {
					continue
				}
				sql = "explain " + sql // to be read, its library must be preloaded
			}
			dbtest.Admin(t, d, sql)
			statements++
		}
	}
	if statements < 20 {
		t.Errorf("ran %d statements, which cannot be all", statements)
	}
}

// Every variable that operators are told of is one that somebody reads.
func TestTheVariablesThatAreNamedAreRead(t *testing.T) {
	t.Parallel()
	known := map[string]bool{}
	for _, key := range all(t, envExample, `(?m)^#([A-Z][A-Z0-9_]+)=`) {
		known[key], known[key+"_FILE"] = true, true
	}
	ours := regexp.MustCompile(`^(FULCRUM|GATEWAY|BUDGET|AUDIT|POLICY_ENGINE|CONTROL_PLANE|EVENT_PROCESSOR|POSTGRES|EVENTSTORE)_[A-Z_]+[A-Z]$`)
	for _, path := range []string{runbook, failureModes, "deploy/railway/README.md"} {
		for _, key := range all(t, path, `\b[A-Z]+_[A-Z_]+[A-Z]\b`) {
			if ours.MatchString(key) && !known[key] && !regexp.MustCompile(`^FULCRUM_(EVENTS|CONFIG|ADVISORIES)$`).MatchString(key) && !strings.HasSuffix(key, "_UNAVAILABLE") {
				t.Errorf("%s names %s, which nobody reads", path, key)
			}
		}
	}
}

func TestLinksLeadSomewhere(t *testing.T) {
	t.Parallel()
	for _, path := range []string{runbook, failureModes, "deploy/railway/README.md"} {
		for _, target := range all(t, path, `\]\(([^)#:]+)\)`) {
			if _, err := os.Stat(filepath.Join(root, filepath.Dir(path), target)); err != nil {
				t.Errorf("%s: %v", path, err)
			}
		}
	}
}
