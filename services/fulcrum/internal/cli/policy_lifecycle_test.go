package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fulcrum-io/fulcrum/services/fulcrum/internal/policytemplate"
)

const noDropTests = `tests:
  - name: dropping is denied
    input: {action: {kind: TOOL_CALL, name: drop_table}}
    want: {decision: DENY, rules: [deny-drop], message: destroys}
  - name: another tool is not looked at
    input: {action: {kind: TOOL_CALL, name: search}}
    want: {undecided: true}
`

const sloppyRego = `package fulcrum.policy
deny contains "x" if { input.tool.nmae == "drop_table" }
`

func TestAFolderIsLintedTestedAndPushed(t *testing.T) {
	t.Parallel()
	acme := newTenant(t)
	dir := write(t, map[string]string{"no-drop.yaml": noDrop, "no-drop.tests.yaml": noDropTests, "refunds.yaml": refunds, "mail.rego": mail})

	acme.types("policy test "+dir).exits(exitOK).shows("no-drop", "pass", "2/2", "100 %").says("next: fulcrum policy simulate")
	acme.types("policy test "+dir+" --min-coverage 50").exits(exitFailure).shows("refunds", "FAIL", "less than 50 %")
	acme.types("policy push "+dir).exits(exitOK).shows("no-drop", "done")
	acme.types("policy diff " + dir).exits(exitOK).says("no difference")
	pulled := t.TempDir()
	acme.types("policy pull " + pulled).exits(exitOK)
	if text, err := os.ReadFile(filepath.Join(pulled, "no-drop.tests.yaml")); err != nil || !strings.Contains(string(text), "dropping is denied") {
		t.Errorf("the tests were not pulled: %s %v", text, err)
	}
	acme.types("policy activate no-drop --reason reviewed").exits(exitOK).says("2 tests passed")

	wrong := strings.Replace(noDropTests, "decision: DENY", "decision: WARN", 1)
	if err := os.WriteFile(filepath.Join(dir, "no-drop.tests.yaml"), []byte(wrong), 0o600); err != nil {
		t.Fatal(err)
	}
	acme.types("policy test " + dir).exits(exitFailure).shows(`no-drop: test "dropping is denied": the decision is DENY, wanted WARN`)
	acme.types("policy push "+dir).exits(exitFailure).says(`test "dropping is denied"`, "nothing was pushed")
	acme.types("policy diff " + dir).exits(exitFailure)

	sloppy := write(t, map[string]string{"sloppy.rego": sloppyRego})
	acme.types("policy lint "+sloppy).exits(exitOK).shows("sloppy.rego:2:24", "unknown-field", "input.tool.nmae does not exist")
	acme.types("policy lint " + sloppy + " --strict").exits(exitFailure)
	acme.types("policy lint " + dir + " -o json").exits(exitOK).shows(`"findings"`)
	acme.types("policy fmt " + sloppy + " --check").exits(exitFailure).shows("sloppy.rego")
	acme.types("policy fmt " + sloppy).exits(exitOK).shows("sloppy.rego")
	acme.types("policy fmt " + sloppy + " --check").exits(exitOK)
	if text, err := os.ReadFile(filepath.Join(sloppy, "sloppy.rego")); err != nil || !strings.Contains(string(text), "\n\ndeny contains \"x\" if ") {
		t.Errorf("formatted: %s %v", text, err)
	}
}

func TestAPolicyIsTriedBeforeItDecidesAndTakenBack(t *testing.T) {
	t.Parallel()
	acme := newTenant(t)
	dir := write(t, map[string]string{"no-drop.yaml": noDrop})
	acme.types("policy push " + dir).exits(exitOK)
	acme.types("policy activate no-drop").exits(exitOK)
	for range 3 {
		acme.types("policy evaluate --dry-run=false --tool send_mail --agent bot").exits(exitOK)
	}
	acme.eventually(exited(exitDenied), "policy evaluate --dry-run=false --tool drop_table --agent bot")

	stricter := strings.Replace(noDrop, "string_value: drop_table", "string_value: send_mail", 1)
	if err := os.WriteFile(filepath.Join(dir, "no-drop.yaml"), []byte(stricter), 0o600); err != nil {
		t.Fatal(err)
	}
	acme.types("policy simulate "+dir).exits(exitOK).shows("newly denied", "send_mail", "newly allowed", "drop_table", "this destroys data")
	acme.types("policy get no-drop").exits(exitOK).shows("string_value: drop_table")

	acme.types("policy stage " + filepath.Join(dir, "no-drop.yaml")).exits(exitOK).says("next: fulcrum policy shadow start no-drop")
	acme.types("policy simulate no-drop@2").exits(exitOK).shows("newly denied")
	acme.types("policy shadow start no-drop --percent 100").exits(exitOK).shows("no-drop", "100 %")
	acme.types("policy shadow list").exits(exitOK).shows("no-drop")
	acme.eventually(func(r result) bool { // the shadow reaches the engine soon, not at once
		acme.types("policy evaluate --dry-run=false --tool send_mail --agent bot").exits(exitOK)
		return strings.Contains(r.out, "send_mail")
	}, "policy shadow report no-drop").shows("newly denied")
	acme.types("policy shadow stop no-drop").exits(exitOK)
	acme.types("policy shadow list").exits(exitOK).says("no policy is in shadow")

	acme.types("policy activate no-drop --version 2", "--reason", "mail is out").exits(exitOK).shows("no-drop", "2")
	acme.eventually(exited(exitDenied), "policy evaluate --dry-run=false --tool send_mail --agent bot")
	acme.types("policy rollback no-drop", "--reason", "mail is needed").exits(exitOK).says("back at version 1")
	acme.eventually(exited(exitOK), "policy evaluate --dry-run=false --tool send_mail --agent bot")
	acme.types("policy history no-drop").exits(exitOK).shows("rollback", "mail is needed", "activate", "mail is out")
	acme.types("policy versions no-drop").exits(exitOK).shows("ACTIVE", "1 rule")
}

// The engine that enforces them runs each template's tests, and lets it into
// force.
func TestEveryTemplatePassesItsTests(t *testing.T) {
	t.Parallel()
	acme := newTenant(t)
	all, err := policytemplate.All()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, tpl := range all {
		acme.types("policy template show " + tpl.Name).exits(exitOK).shows("name: " + tpl.Name)
		acme.types("policy template apply " + tpl.Name + " --dir " + dir).exits(exitOK).says("wrote")
	}
	acme.types("policy template list").exits(exitOK).shows("cost-cap-per-request", "business-hours")
	acme.types("policy test " + dir).exits(exitOK).shows(fmt.Sprintf("%d/%d", 5, 5))
	acme.types("policy lint " + dir + " --strict").exits(exitOK).says("nothing to say")
	for _, tpl := range all {
		acme.types("policy template apply " + tpl.Name + " --activate").exits(exitOK).shows("ACTIVE")
	}
	acme.types("policy template apply high-value-approval --name other --set limit=5 --set tools=pay,send").exits(exitOK).shows("other", "DRAFT")
	acme.types("policy template apply high-value-approval --set limit=much").exits(exitUsage).says("must be a number")
	acme.types("policy template show high-valu-approval").exits(exitFailure).says("did you mean")
}

func TestABundleGoesFromOneTenantToAnother(t *testing.T) {
	t.Parallel()
	acme, globex := newTenant(t), newTenant(t)
	acme.types("policy template apply tool-deny-list --activate").exits(exitOK)
	file := filepath.Join(t.TempDir(), "policies.json")
	acme.types("policy export -f " + file).exits(exitOK).says("1 policies, signed by fulcrum.local/policies")
	globex.types("policy import -f "+file+" --dry-run").exits(exitOK).shows("tool-deny-list", "created")
	globex.types("policy list").exits(exitOK).says("no policies")
	globex.types("policy import -f "+file).exits(exitOK).shows("tool-deny-list", "created")
	globex.types("policy import -f " + file).exits(exitOK).shows("unchanged")
	globex.types("policy list").exits(exitOK).shows("tool-deny-list", "DRAFT")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(strings.Replace(string(text), "drop_table", "drop_tables", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	globex.types("policy import -f " + file).exits(exitFailure).says("was changed after fulcrum.local/policies signed it")
}
