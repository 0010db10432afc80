package policyfile

import (
	"os"
	"path/filepath"
	"testing"

	"google.golang.org/protobuf/proto"
)

// Whatever is in a policy's file: it is a policy or an error, and a policy that is
// written again is the same policy.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"name: a\nrules:\n  - rule_id: r\n    enabled: true\n    conditions: [{field: tool.name, string_value: x}]\n    actions: [{action_type: ACTION_TYPE_DENY}]\n",
		"name: a\nrego: |\n  package fulcrum.policy\n  deny contains \"x\"\n", `{"name": "a", "priority": 3}`,
		"a: &a [x]\nb: [*a, *a]\n", "name: a\n---\nname: b\n", "", "name: 1e400\n", "? [a]\n: b\n",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		one, err := Parse("p.yaml", text)
		if err != nil {
			return
		}
		written, err := YAML(one.Policy)
		if err != nil {
			t.Fatalf("write what was read: %v", err)
		}
		again, err := Parse("p.yaml", written)
		if err != nil || !proto.Equal(one.Policy, again.Policy) {
			t.Errorf("%v\nwas written as\n%s\nand read as %v, %v", one.Policy, written, again.Policy, err)
		}
	})
}

// Whatever is in a file of tests: it is tests or an error.
func FuzzTests(f *testing.F) {
	f.Add("tests:\n  - name: it\n    facts: {action: {kind: TOOL_CALL, name: x}}\n    want: {decision: DENY}\n")
	f.Add("tests: 3\n")
	f.Add("others: []\n")
	f.Fuzz(func(t *testing.T, text string) {
		path := filepath.Join(t.TempDir(), "p_test.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if tests, err := readTests(path); err != nil && tests != nil {
			t.Errorf("both %v and %v", tests, err)
		}
	})
}
