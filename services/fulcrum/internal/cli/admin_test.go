package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTenantsKeysAndAgents(t *testing.T) {
	t.Parallel()
	acme := newTenant(t)
	admin(t).types("tenant list").exits(exitOK).shows("NAME", "ACTIVE", "UTC", acme.id)
	admin(t).types("tenant create berlin --time-zone Europe/Berlin --default-decision deny").exits(exitOK).
		shows("berlin", "DENY", "Europe/Berlin").says("next: fulcrum key create --tenant ")
	admin(t).types("tenant create nowhere --time-zone Europe/Nowhere").exits(exitFailure).says("INVALID_ARGUMENT", "time_zone", "next: fulcrum tenant create --help")

	// A key is the only data of the command, so that it can be captured.
	made := acme.types("key create --name ci --scope policy:read --expires 90d").exits(exitOK).says("made key", "only time")
	if key := strings.TrimSpace(made.out); !strings.HasPrefix(key, "flcrm_sk_") || strings.Contains(made.err, key) {
		t.Errorf("output %q, messages %q", made.out, made.err)
	}
	file := filepath.Join(t.TempDir(), "ci.key")
	saved := acme.types("key create --name ci2 --scope policy:read --save " + file).exits(exitOK).says("next: fulcrum policy list --key-file " + file)
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 || saved.out != "" {
		t.Errorf("%v, %v, output %q", info, err, saved.out)
	}
	acme.types("key create --name ci3 --scope policy:read --save "+file).exits(exitFailure).says("--save", "exists")
	keyless := newShell(t, "")
	keyless.types("policy list --key-file " + file).exits(exitOK)
	keyless.with("FULCRUM_API_KEY_FILE", file).types("policy list").exits(exitOK)
	keyless.types("policy list").exits(exitUsage).says("FULCRUM_API_KEY", "--key-file")
	keyless.types("budget list --key-file "+file).exits(exitFailure).says("PERMISSION_DENIED SCOPE_MISSING", "cost:read", "hint: ", "next: fulcrum key create --name NAME --scope cost:read")
	admin(t).types("policy list").exits(exitFailure).says("ADMIN_HAS_NO_TENANT", "next: fulcrum key create --tenant")
	acme.types("tenant list").exits(exitFailure).says("admin key")
	acme.types("key create --name x --scope everything").exits(exitFailure).says("INVALID_ARGUMENT", "is not a scope")
	acme.types("key create --name x").exits(exitUsage).says("--scope")
	acme.types("key create --name x --scope * --user dana").exits(exitUsage).says("--tenant")

	var list struct{ Keys []struct{ ID, Name string } }
	acme.types("key list -o json").exits(exitOK).json(&list)
	if len(list.Keys) != 3 || list.Keys[0].Name != "ci2" {
		t.Fatalf("keys: %+v", list.Keys)
	}
	acme.types("key revoke "+list.Keys[0].ID).exits(exitUsage).says("Revoke the key", "--yes")
	acme.types("key revoke --yes "+list.Keys[0].ID).exits(exitOK).says("revoked key", "next: fulcrum key list")
	keyless.eventually(exited(exitFailure), "policy list --key-file "+file).says("UNAUTHENTICATED API_KEY_INVALID", "next: export FULCRUM_API_KEY_FILE")

	acme.types("agent list").exits(exitOK).says("no agents")
	acme.types("agent create research-bot --team growth --model gpt-4o --environment production").exits(exitOK).says("next: fulcrum key create").golden(`
NAME          STATUS  TEAM    MODEL   ENVIRONMENT  CREATED               ID
research-bot  active  growth  gpt-4o  production   TIME                  UUID
`)
	acme.types("agent list --team other -o json").exits(exitOK).golden("{\n  \"agents\": [],\n  \"next_page_token\": \"\",\n  \"total_count\": 0\n}\n")
}

func TestBudgetsAndSpend(t *testing.T) {
	t.Parallel()
	acme := newTenant(t)
	acme.types("budget list").exits(exitOK).says("no budgets")
	acme.types("budget create growth --workflow growth --cost 50 --tool-calls 1000 --period weekly").exits(exitOK).says("next: fulcrum budget status").golden(`
NAME    PERIOD  MODE  LIMITS                         SCOPE            ID
growth  WEEKLY  HARD  $50.00 cost, 1,000 tool calls  workflow=growth  UUID
`)
	file := filepath.Join(write(t, map[string]string{
		"b.yaml": "name: soft\nlimits: {max_tokens: 5000}\nmode: BUDGET_MODE_SOFT\nperiod: {period_type: BUDGET_PERIOD_TYPE_CUSTOM, duration_seconds: 3600}\n"}), "b.yaml")
	acme.types("budget create -f "+file).exits(exitOK).shows("CUSTOM 3,600 s", "SOFT", "5,000 tokens", "tenant")
	acme.types("budget create unlimited").exits(exitUsage).says("needs a limit")
	acme.types("budget create bad --cost 1 --time-zone Mars/Base").exits(exitFailure).says("budget.time_zone")

	acme.eventually(exited(exitOverBudget), "policy evaluate --tool x --cost 0.01 --tool-calls 1001 --workflow growth").shows("DENY", "growth", "tool_calls")
}
