package deploycheck

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

const semantics = "docs/policy-semantics.md"

// What the map of semantics names as a case is one.
func TestTheCasesThatAreNamedExist(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join(root, "services/policy-engine/internal/policy/testdata/cases/*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var cases, suites []string
	for _, path := range files {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var file struct {
			Cases []struct{ Name string }
		}
		if err := yaml.Unmarshal(b, &file); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		suite := strings.TrimSuffix(filepath.Base(path), ".yaml")
		suites = append(suites, suite)
		for _, c := range file.Cases {
			cases = append(cases, suite+"/"+c.Name)
		}
	}
	named := all(t, semantics, "`((?:"+strings.Join(suites, "|")+")/[^`]+)`")
	if len(named) < 150 {
		t.Errorf("%s names %d cases", semantics, len(named))
	}
	for _, name := range named {
		if !slices.Contains(cases, name) {
			t.Errorf("%s names the case %q, which does not exist", semantics, name)
		}
	}
}

// The map has every value of the contract's policy enums, and every field of its
// messages that policies are written in.
func TestTheMapOfSemanticsIsWhole(t *testing.T) {
	t.Parallel()
	const contract = "proto/fulcrum/policy/v1/policy.proto"
	page := text(t, semantics)
	says := func(word string) bool {
		return regexp.MustCompile(`\b` + regexp.QuoteMeta(word) + `\b`).MatchString(page)
	}
	block := regexp.MustCompile(`(?ms)^(enum|message) (\w+) \{(.*?)^\}`)
	value, field := regexp.MustCompile(`(?m)^  ([A-Z_]+) = \d+;`), regexp.MustCompile(`(?m)^  (?:repeated )?(?:map<[^>]+>|[\w.]+) (\w+) = \d+`)
	enums := map[string]string{
		"PolicyStatus": "POLICY_STATUS_", "EnforcementLevel": "ENFORCEMENT_LEVEL_", "FailureMode": "FAILURE_MODE_", "RuleType": "RULE_TYPE_",
		"ConditionType": "CONDITION_TYPE_", "ConditionOperator": "CONDITION_OPERATOR_", "LogicalOperator": "LOGICAL_OPERATOR_",
		"ActionType": "ACTION_TYPE_", "SeverityLevel": "SEVERITY_LEVEL_", "ExecutionPhase": "EXECUTION_PHASE_",
	}
	messages := []string{"Policy", "PolicyRule", "PolicyScope", "PolicyCondition", "PolicyAction"}
	seen := 0
	for _, m := range block.FindAllStringSubmatch(text(t, contract), -1) {
		prefix, isEnum := enums[m[2]]
		switch {
		case isEnum:
			for _, v := range value.FindAllStringSubmatch(m[3], -1) {
				if seen++; !says(strings.TrimPrefix(v[1], prefix)) {
					t.Errorf("%s does not speak of %s", semantics, v[1])
				}
			}
		case m[1] == "message" && slices.Contains(messages, m[2]):
			for _, f := range field.FindAllStringSubmatch(m[3], -1) {
				if seen++; !says(f[1]) {
					t.Errorf("%s does not speak of %s.%s", semantics, m[2], f[1])
				}
			}
		}
	}
	if seen < 110 {
		t.Errorf("found only %d values and fields in %s", seen, contract)
	}
}
