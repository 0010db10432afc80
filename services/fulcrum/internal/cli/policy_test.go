package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/fulcrum-io/fulcrum/pkg/config"
	"github.com/fulcrum-io/fulcrum/pkg/fault"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	"github.com/fulcrum-io/fulcrum/services/fulcrum/internal/policyfile"
)

const noDrop = `name: no-drop
rules:
  - rule_id: deny-drop
    name: dropping is forbidden
    enabled: true
    conditions:
      - {condition_type: CONDITION_TYPE_FIELD_MATCH, field: tool.name, operator: CONDITION_OPERATOR_EQUALS, string_value: drop_table}
    actions:
      - {action_type: ACTION_TYPE_DENY, message: this destroys data}
`

const refunds = `name: refunds
status: POLICY_STATUS_ACTIVE
scope: {tool_names: [issue_refund]}
rules:
  - rule_id: large
    enabled: true
    conditions:
      - {condition_type: CONDITION_TYPE_RANGE, field: action.args.order.amount, operator: CONDITION_OPERATOR_GREATER_THAN, int_value: 100}
    actions:
      - {action_type: ACTION_TYPE_REQUIRE_APPROVAL, message: a person must agree, parameters: {roles: finance-lead}}
`

const mail = `package fulcrum.policy

import rego.v1

warn contains {"rule_id": "external-mail", "message": "mail leaves the company"} if {
	input.tool.name == "send_email"
}
`

func TestPoliciesOneByOne(t *testing.T) {
	t.Parallel()
	acme := newTenant(t)
	dir := write(t, map[string]string{"no-drop.yaml": noDrop, "mail.rego": mail, "typo.yaml": "name: x\nrulez: []\n", "broken.rego": "package fulcrum.policy\n\nnonsense {{{\n"})

	acme.types("policy list").exits(exitOK).says("no policies")
	acme.types("policy create -f " + filepath.Join(dir, "no-drop.yaml")).exits(exitOK).says("next: fulcrum policy activate ").golden(`
NAME     STATUS  ENFORCEMENT  PRIORITY  VERSION  FORM    ID
no-drop  DRAFT   BLOCK               0        1  1 rule  UUID
`)
	acme.types("policy create --activate -f "+filepath.Join(dir, "mail.rego")).exits(exitOK).shows("mail", "ACTIVE", "rego").says("next: fulcrum policy evaluate")
	acme.in = "name: from-stdin\n"
	acme.types("policy create -f -").exits(exitOK).shows("from-stdin")
	acme.types("policy create").exits(exitUsage).says("needs -f FILE")
	acme.types("policy create -f "+filepath.Join(dir, "typo.yaml")).exits(exitUsage).says("typo.yaml: line 2", `unknown field "rulez"`)
	acme.types("policy create -f "+filepath.Join(dir, "broken.rego")).exits(exitFailure).says("INVALID_ARGUMENT", "rego")
	acme.types("policy create -f " + filepath.Join(dir, "absent.yaml")).exits(exitUsage).says("no such file")

	acme.types("policy activate no-drop").exits(exitOK).shows("no-drop", "ACTIVE")
	acme.types("policy activate no-drop").exits(exitOK).says("was ACTIVE already")
	acme.types("policy list --status active -o json").exits(exitOK).shows(`"total_count": 2`)
	acme.types("policy get no-drop").exits(exitOK).shows("name: no-drop\n", "      - condition_type: CONDITION_TYPE_FIELD_MATCH\n")
	acme.types("policy get no-dorp").exits(exitFailure).says("NOT_FOUND", `did you mean "no-drop"?`, "next: fulcrum policy list")
	acme.types("policy get 01a1fded-d2d8-7cf5-a33a-12f85d2852f1").exits(exitFailure).says("NOT_FOUND")

	acme.eventually(exited(exitDenied), "policy evaluate --tool drop_table").says("policy set", "dry run").golden(`
DENY  denied: this destroys data

RULE                   SAYS  POLICY   VERSION  MESSAGE
dropping is forbidden  DENY  no-drop        1  this destroys data
`)
	acme.types("policy evaluate --tool send_email").exits(exitOK).shows("WARN", "mail leaves the company")
	acme.types("policy evaluate --tool look").exits(exitOK).golden("ALLOW  allowed\n")
	acme.types("policy evaluate").exits(exitUsage).says("--tool NAME")
	acme.types("policy evaluate --tool x --arg novalue").exits(exitUsage).says("name=value")

	acme.types("policy deactivate no-drop").exits(exitOK).shows("INACTIVE")
	acme.eventually(exited(exitOK), "policy evaluate --tool drop_table")
	acme.types("policy delete no-drop").exits(exitUsage).says(`Delete the policy "no-drop" (INACTIVE, version 1) for good?`, "--yes")
	acme.types("policy delete no-drop --yes").exits(exitOK).says("deleted")
	acme.types("policy get no-drop").exits(exitFailure)
}

// A folder pulled, edited and pushed is what the server has afterwards, and a
// second push has nothing to do.
func TestAFolderOfPoliciesGoesThereAndBack(t *testing.T) {
	t.Parallel()
	acme := newTenant(t)
	dir := write(t, map[string]string{
		"no-drop.yaml": "# agreed on Monday\nstatus: POLICY_STATUS_ACTIVE\n" + noDrop, "mail.rego": mail, "mail.yaml": "name: mail\nstatus: POLICY_STATUS_ACTIVE\n", "refunds.yaml": refunds})
	acme.types("policy push --dry-run " + dir).exits(exitOK).says("next: fulcrum policy push").golden(`
ACTION  POLICY   FILE          STATE
create  mail     mail.yaml     planned
create  no-drop  no-drop.yaml  planned
create  refunds  refunds.yaml  planned
`)
	acme.types("policy list").exits(exitOK).says("no policies")
	acme.types("policy diff "+dir).exits(exitFailure).shows("--- /dev/null\n", "+++ "+filepath.Join(dir, "refunds.yaml"), "+  \tinput.tool.name == \"send_email\"\n")
	acme.types("policy push " + dir).exits(exitOK).shows("done").says("next: fulcrum policy list")
	acme.types("policy push " + dir).exits(exitOK).says("no change")
	acme.types("policy diff " + dir).exits(exitOK).says("no difference")
	acme.types("policy diff -o json " + dir).exits(exitOK).golden("{\n  \"changes\": []\n}\n")
	acme.eventually(exited(exitApproval), "policy evaluate --tool issue_refund --arg order.amount=101").shows("REQUIRE_APPROVAL", "a person must agree")
	acme.types("policy evaluate --tool issue_refund --arg order.amount=99").exits(exitOK)

	// What the server has can be pulled anywhere, and says the same there.
	other := filepath.Join(t.TempDir(), "pulled")
	acme.types("policy pull " + other).exits(exitOK).says("next: edit").golden(`
FILE          CHANGE   POLICY
mail.yaml     created  mail
no-drop.yaml  created  no-drop
refunds.yaml  created  refunds
`)
	acme.types("policy diff " + other).exits(exitOK)
	if b, err := os.ReadFile(filepath.Join(other, "mail.rego")); err != nil || string(b) != mail {
		t.Errorf("pulled module: %q, %v", b, err)
	}
	globex := newTenant(t)
	globex.types("policy push " + other).exits(exitOK) // the ids are another tenant's: the names count
	globex.types("policy push " + other).exits(exitOK).says("no change")

	// A change here is an update there, with the version that it makes.
	put(t, dir, "no-drop.yaml", strings.Replace("# agreed on Monday\nstatus: POLICY_STATUS_ACTIVE\n"+noDrop, "this destroys data", "never", 1))
	acme.types("policy diff " + dir).exits(exitFailure).shows("-        message: this destroys data\n+        message: never\n")
	acme.types("policy push -o json "+dir).exits(exitOK).shows(`"action": "update"`, `"applied": true`)
	acme.types("policy get no-drop -o json").exits(exitOK).shows(`"version": "2"`)
	acme.types("policy pull " + dir).exits(exitOK).shows("no-drop.yaml  unchanged")
	if b, err := os.ReadFile(filepath.Join(dir, "no-drop.yaml")); err != nil || !strings.HasPrefix(string(b), "# agreed on Monday\n") {
		t.Errorf("the comment is gone: %q, %v", b, err)
	}

	// What only the server has stays, unless it is to go.
	if err := os.Remove(filepath.Join(dir, "refunds.yaml")); err != nil {
		t.Fatal(err)
	}
	acme.types("policy push "+dir).exits(exitOK).says(`only the server has "refunds"`, "no change")
	acme.types("policy push --prune "+dir).exits(exitUsage).says("This ends for good: refunds.", "--yes")
	acme.types("policy push --prune --yes " + dir).exits(exitOK).golden(`
ACTION  POLICY   FILE  STATE
delete  refunds  -     done
`)
	acme.types("policy diff " + dir).exits(exitOK)

	acme.types("policy push --prune --yes " + t.TempDir()).exits(exitUsage).says("is it the right folder?")

	// The first step that fails ends the push, and says how far it came.
	put(t, dir, "bad.rego", "package fulcrum.policy\n\nnonsense {{{\n")
	acme.types("policy push "+dir).exits(exitFailure).shows("create  bad", "not done").says(`create "bad" (0 of 1 done)`)
	put(t, dir, "worse.yaml", "name: [\n")
	acme.types("policy push " + dir).exits(exitUsage).says("worse.yaml: ")
	acme.types("policy diff " + filepath.Join(dir, "absent")).exits(exitUsage)
}

func put(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// What somebody changed since it was looked at is not overwritten or deleted.
func TestAPushLosesNobodysChange(t *testing.T) {
	t.Parallel()
	acme := newTenant(t)
	dir := write(t, map[string]string{"no-drop.yaml": noDrop})
	acme.types("policy push " + dir).exits(exitOK)

	o := newOperator(config.Map(acme.env))
	cmd := o.policyCommand()
	cmd.SetContext(t.Context())
	c, err := o.dial(cmd)
	if err != nil {
		t.Fatal(err)
	}
	defer c.conn.Close()
	seen, err := o.livePolicies(t.Context(), &cobra.Command{}, c, 0)
	if err != nil {
		t.Fatal(err)
	}
	acme.types("policy activate no-drop").exits(exitOK) // somebody else

	want := &policyv1.Policy{Name: "no-drop", PolicyId: seen[0].GetPolicyId(), Etag: seen[0].GetEtag()}
	for _, step := range []policyfile.Step{
		{Action: policyfile.Update, Want: want, Have: seen[0]},
		{Action: policyfile.Delete, Have: seen[0]},
	} {
		if _, err := c.take(t.Context(), step); !fault.Is(err, fault.Conflict) {
			t.Errorf("%s: %v", step.Action, err)
		}
	}
	acme.types("policy list").exits(exitOK).shows("no-drop", "ACTIVE")
}
