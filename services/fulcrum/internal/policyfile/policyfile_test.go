package policyfile

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
)

const (
	draft    = policyv1.PolicyStatus_POLICY_STATUS_DRAFT
	active   = policyv1.PolicyStatus_POLICY_STATUS_ACTIVE
	inactive = policyv1.PolicyStatus_POLICY_STATUS_INACTIVE
	archived = policyv1.PolicyStatus_POLICY_STATUS_ARCHIVED
)

// full has every kind of field that YAML could spoil.
func full() *policyv1.Policy {
	return &policyv1.Policy{
		PolicyId: "01a1fdeb-faae-7745-8d7e-9d7106bc941f", Name: "Refunds: \"large\" # ones", Description: "line one\nline two: yes\n", Priority: -5,
		Tags:   map[string]string{"on": "off", "1": "2", "null": "~"},
		Status: active, Enforcement: policyv1.EnforcementLevel_ENFORCEMENT_LEVEL_BLOCK,
		EffectiveAt: &timestamppb.Timestamp{Seconds: 1800000000, Nanos: 5000},
		Scope:       &policyv1.PolicyScope{ToolNames: []string{"issue_refund", "true", "1e3", "- x"}},
		Rules: []*policyv1.PolicyRule{{
			RuleId: "r", Enabled: true,
			Conditions: []*policyv1.PolicyCondition{
				{Field: "action.args.amount", Value: &policyv1.PolicyCondition_IntValue{IntValue: 9007199254740993}},
				{Field: "a", Value: &policyv1.PolicyCondition_FloatValue{FloatValue: 0.1}},
				{Field: "b", Value: &policyv1.PolicyCondition_BoolValue{BoolValue: false}},
				{Field: "c", Value: &policyv1.PolicyCondition_ListValue{ListValue: &structpb.ListValue{Values: []*structpb.Value{
					structpb.NewNumberValue(1), structpb.NewStringValue("1"), structpb.NewNullValue()}}}},
			},
			Actions: []*policyv1.PolicyAction{{ActionType: policyv1.ActionType_ACTION_TYPE_DENY, Message: "no: \U0001F6D1 \ttab"}},
		}},
	}
}

func TestAPolicySurvivesItsFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	module := &policyv1.Policy{Name: "mail", Rego: "package fulcrum.policy\n\nimport rego.v1\n\n# tab\tand \"quotes\"\ndeny if false"}
	for _, ext := range []string{".yaml", ".json"} {
		for name, want := range map[string]*policyv1.Policy{"rules": full(), "rego": module} {
			path := filepath.Join(dir, name+ext)
			if err := Write(path, want); err != nil {
				t.Fatal(err)
			}
			got, err := Read(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got.Policy, protocmp.Transform()); diff != "" {
				t.Errorf("%s (-want +got):\n%s", path, diff)
			}
			if len(got.Warnings) > 0 {
				t.Errorf("%s: %v", path, got.Warnings)
			}
			if ext == ".json" {
				os.Remove(path)
				os.Remove(filepath.Join(dir, name+rego))
			}
		}
	}
	if b, err := os.ReadFile(filepath.Join(dir, "rego.rego")); err == nil && string(b) != module.GetRego() {
		t.Errorf("the module is %q", b)
	}
}

func TestFilesReadLikeTheContract(t *testing.T) {
	t.Parallel()
	p := &policyv1.Policy{Name: "no-shell", Status: active, Rules: []*policyv1.PolicyRule{{RuleId: "r1", Enabled: true,
		Actions: []*policyv1.PolicyAction{{ActionType: policyv1.ActionType_ACTION_TYPE_DENY}}}}}
	got, err := YAML(p)
	if err != nil {
		t.Fatal(err)
	}
	want := `name: no-shell
rules:
  - rule_id: r1
    actions:
      - action_type: ACTION_TYPE_DENY
    enabled: true
status: POLICY_STATUS_ACTIVE
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestWhatIsWrongWithAFileIsNamed(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, text, want string }{
		{"empty", "", "is empty"},
		{"two documents", "name: a\n---\nname: b\n", "more than one document"},
		{"unknown field", "name: a\nrules:\n  - rule_id: x\n    enabeld: true\n", `line 4: unknown field "enabeld"`},
		{"key twice", "name: a\nname: b\n", `mapping key "name" already defined`},
		{"no map", "- a\n", "cannot unmarshal"},
		{"no name", "priority: 3\n", "has no name"},
		{"wrong enum", "name: a\nstatus: ACTIVE\n", "ACTIVE"},
		{"broken", "name: [\n", "line 1"},
		{"number for text", "name: a\nrules: [{rule_id: 7}]\n", "rule_id"},
		{"key that is no text", "name: a\ntags: {1: {2: 3}}\n", ""},
	} {
		_, err := Parse("p.yaml", tt.text)
		if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.HasPrefix(err.Error(), "p.yaml: ") || strings.Contains(err.Error(), "proto:") {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}

func TestARuleThatNeverMatchesIsPointedOut(t *testing.T) {
	t.Parallel()
	f, err := Parse("p.yaml", "name: a\nrules:\n  - rule_id: one\n  - rule_id: two\n    enabled: false\n  - rule_id: three\n    enabled: true\n")
	if err != nil {
		t.Fatal(err)
	}
	if len(f.Warnings) != 1 || !strings.Contains(f.Warnings[0], "line 3: rules[0]") {
		t.Errorf("warnings: %q", f.Warnings)
	}
}

func put(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAFolderIsItsPolicies(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	put(t, dir, map[string]string{
		"b.yaml": "name: b\n", "a.json": `{"name": "a", "priority": 4}`, "mail.rego": "package a\r\n", "mail.yml": "name: mail policy\npriority: 2\n",
		"alone.rego": "package alone\n", "alone_test.rego": "package alone_test\n", ".hidden.yaml": "no", "README.md": "# x",
	})
	if err := os.Mkdir(filepath.Join(dir, "sub.yaml"), 0o700); err != nil {
		t.Fatal(err)
	}
	files, err := ReadFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range files {
		got = append(got, filepath.Base(f.Path)+" "+f.Policy.GetName()+" "+f.Policy.GetRego())
	}
	want := []string{"a.json a ", "alone.rego alone package alone\n", "b.yaml b ", "mail.yml mail policy package a\n"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for name, extra := range map[string]map[string]string{
		"two of a name":          {"c.yaml": "name: b\n"},
		"two descriptions":       {"b.json": `{"name": "bb"}`},
		"rules and rego":         {"x.yaml": "name: x\nrules: [{rule_id: r}]\n", "x.rego": "package x\n"},
		"rego twice":             {"y.yaml": "name: y\nrego: package y\n", "y.rego": "package y\n"},
		"the same id":            {"i.yaml": "name: i\npolicy_id: p\n", "j.yaml": "name: j\npolicy_id: p\n"},
		"larger than a megabyte": {"big.yaml": strings.Repeat("#", maxBytes+1)},
	} {
		put(t, dir, extra)
		if _, err := ReadFolder(dir); err == nil {
			t.Errorf("%s: no error", name)
		}
		for file := range extra {
			os.Remove(filepath.Join(dir, file))
		}
	}
}

func live(id, name string, status policyv1.PolicyStatus, priority int32) *policyv1.Policy {
	return &policyv1.Policy{
		PolicyId: id, Name: name, Status: status, Priority: priority, TenantId: "t", Etag: "r1", Version: 3, CreatedBy: "key:x",
		CreatedAt: timestamppb.Now(), Enforcement: policyv1.EnforcementLevel_ENFORCEMENT_LEVEL_BLOCK,
	}
}

func TestPlanIsWhatDiffers(t *testing.T) {
	t.Parallel()
	server := []*policyv1.Policy{
		live("1", "same", active, 1), live("2", "changed", active, 1), live("3", "old name", active, 1),
		live("4", "only there", inactive, 1), live("5", "gone", archived, 1), live("6", "off", inactive, 1), live("7", "never on", draft, 1),
	}
	files := []File{
		{Path: "same.yaml", Policy: &policyv1.Policy{Name: " same ", Priority: 1, Scope: &policyv1.PolicyScope{}}}, // all the rest is the server's to fill in
		{Path: "changed.yaml", Policy: &policyv1.Policy{Name: "changed", Priority: 2}},
		{Path: "renamed.yaml", Policy: &policyv1.Policy{PolicyId: "3", Name: "new name", Priority: 1}},
		{Path: "new.yaml", Policy: &policyv1.Policy{Name: "new", Status: inactive}},
		{Path: "gone.yaml", Policy: &policyv1.Policy{PolicyId: "5", Name: "gone"}},
		{Path: "off.yaml", Policy: &policyv1.Policy{Name: "off", Priority: 1, Status: draft}},
		{Path: "never.yaml", Policy: &policyv1.Policy{Name: "never on", Priority: 1, Status: inactive}},
	}
	steps, err := Plan(files, server)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range steps {
		got = append(got, string(s.Action)+" "+s.Path+" "+s.Name()+" "+s.Want.GetPolicyId()+" "+s.Want.GetEtag())
	}
	want := []string{
		"create new.yaml new  ", "create gone.yaml gone 5 ",
		"update changed.yaml changed 2 r1", "update renamed.yaml new name 3 r1", "delete  only there  ",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if steps[0].Want.GetStatus() != draft {
		t.Error("a new policy cannot be INACTIVE")
	}
	diff, err := steps[2].Diff()
	if err != nil {
		t.Fatal(err)
	}
	if want := "@@ -1,4 +1,4 @@\n name: changed\n status: POLICY_STATUS_ACTIVE\n enforcement: ENFORCEMENT_LEVEL_BLOCK\n-priority: 1\n+priority: 2\n"; diff != want {
		t.Errorf("diff:\n%s", diff)
	}

	server = append(server, live("8", "changed", active, 9))
	if _, err := Plan(files, server); err == nil || !strings.Contains(err.Error(), "several policies") {
		t.Errorf("two of a name: %v", err)
	}
	if _, err := Plan([]File{{Path: "x", Policy: live("", "x", archived, 0)}}, nil); err == nil {
		t.Error("a file cannot archive")
	}
}

func TestPullKeepsWhatPeopleWrote(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "policies")
	server := []*policyv1.Policy{live("aaaaaaaa-1111-7111-8111-000000000001", "No Shell!", active, 1), live("aaaaaaaa-1111-7111-8111-000000000002", "no shell", active, 2), full()}
	server = append(server, live("x", "past", archived, 1))
	changes := func() []string {
		t.Helper()
		pulled, _, err := Pull(dir, server)
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, p := range pulled {
			all = append(all, filepath.Base(p.Path)+" "+p.Change)
		}
		return all
	}
	if diff := cmp.Diff([]string{"no-shell-00000002.yaml created", "no-shell.yaml created", "refunds-large-ones.yaml created"}, changes()); diff != "" {
		t.Fatalf("first pull (-want +got):\n%s", diff)
	}
	// A comment, another form and another name of the file are the people's.
	path := filepath.Join(dir, "no-shell.yaml")
	put(t, dir, map[string]string{"shell.yml": "# why: incident 7\nname: No Shell!\nstatus: POLICY_STATUS_ACTIVE\npriority: 1\n"})
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"no-shell-00000002.yaml unchanged", "refunds-large-ones.yaml unchanged", "shell.yml unchanged"}, changes()); diff != "" {
		t.Fatalf("second pull (-want +got):\n%s", diff)
	}
	// A policy that becomes Rego gets a module, and loses it again.
	server[0] = proto.CloneOf(server[0])
	server[0].Rego = "package x\n"
	if got := changes(); got[2] != "shell.yml updated" {
		t.Fatalf("third pull: %v", got)
	}
	if _, err := os.Stat(filepath.Join(dir, "shell.rego")); err != nil {
		t.Fatal(err)
	}
	server[0].Rego = ""
	changes()
	if _, err := os.Stat(filepath.Join(dir, "shell.rego")); err == nil {
		t.Fatal("the module is still there")
	}
	files, err := ReadFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	if steps, err := Plan(files, server); err != nil || len(steps) != 0 {
		t.Errorf("after a pull there is nothing to push: %v, %v", steps, err)
	}
}

func TestDiffsAreUnified(t *testing.T) {
	t.Parallel()
	text := func(lines ...string) string { return strings.Join(lines, "\n") + "\n" }
	for _, tt := range []struct{ name, a, b, want string }{
		{"same", "a\n", "a\n", ""},
		{"from nothing", "", "a\nb\n", "@@ -0,0 +1,2 @@\n+a\n+b\n"},
		{"to nothing", "a\n", "", "@@ -1 +0,0 @@\n-a\n"},
		{"middle", text("1", "2", "3", "4", "5", "6", "7", "8", "9"), text("1", "2", "3", "4", "x", "6", "7", "8", "9"),
			"@@ -2,7 +2,7 @@\n 2\n 3\n 4\n-5\n+x\n 6\n 7\n 8\n"},
		{"two hunks", text("a", "1", "2", "3", "4", "5", "6", "7", "b"), text("A", "1", "2", "3", "4", "5", "6", "7", "B"),
			"@@ -1,4 +1,4 @@\n-a\n+A\n 1\n 2\n 3\n@@ -6,4 +6,4 @@\n 5\n 6\n 7\n-b\n+B\n"},
		{"near changes share a hunk", text("a", "1", "2", "b"), text("1", "2", "B"), "@@ -1,4 +1,3 @@\n-a\n 1\n 2\n-b\n+B\n"},
	} {
		if got := unified(tt.a, tt.b); got != tt.want {
			t.Errorf("%s: got\n%s", tt.name, got)
		}
	}
}
