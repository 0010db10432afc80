package deploycheck

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write deploy/env.example")

const envExample = "deploy/env.example"

// deploy/env.example is what the services say of themselves, and nothing else.
func TestTheEnvExampleIsWhatServicesRead(t *testing.T) {
	t.Parallel()
	want := example()
	if *update {
		if err := os.WriteFile(filepath.Join(root, envExample), []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if text(t, envExample) != want {
		t.Errorf("%s is stale; run: go test ./services/fulcrum/internal/deploycheck -update", envExample)
	}
}

func example() string {
	var b strings.Builder
	b.WriteString(`# Every setting of every service: commented out, with its default.
# Generated; run: go test ./services/fulcrum/internal/deploycheck -update
#
# Nothing is needed for fulcrum up. For docker-compose and other deployments,
# fulcrum keygen makes the secrets. Each secret may also be read from the file
# that <NAME>_FILE names.
`)
	shared := everywhere()
	section(&b, "Every service", shared)
	for _, name := range services() {
		section(&b, name, slices.DeleteFunc(slices.Clone(settings()[name]), func(s setting) bool {
			return slices.Contains(shared, s)
		}))
	}
	b.WriteString("\n# The fulcrum command\n")
	for _, s := range []setting{
		{"FULCRUM_MIGRATE_CONN_STR", "(secret)", "fulcrum migrate: the database, as fulcrum_migrate"},
		{"FULCRUM_BOOTSTRAP_CONN_STR", "(secret)", "fulcrum bootstrap: the server, as a role that may create roles and databases"},
		{"FULCRUM_APP_PASSWORD", "(secret)", "fulcrum bootstrap: what fulcrum_app shall log in with"},
		{"FULCRUM_MIGRATE_PASSWORD", "(secret)", "fulcrum bootstrap: the same for fulcrum_migrate"},
		{"FULCRUM_RETENTION_PASSWORD", "(secret)", "fulcrum bootstrap: the same for fulcrum_retention, if it shall log in"},
		{"FULCRUM_BACKUP_PASSWORD", "(secret)", "fulcrum bootstrap: the same for fulcrum_backup, if it shall log in"},
		{"FULCRUM_SERVER", "127.0.0.1:50051", "commands that ask the gateway: its gRPC door, host:port"},
		{"FULCRUM_API_KEY", "(secret)", "the same: the API key, or for fulcrum tenant the platform's admin key"},
		{"FULCRUM_CA_FILE", "", "the same: PEM file of the authorities to trust instead of the system's"},
		{"FULCRUM_AUDIT_PUBLIC_KEY", "", "fulcrum audit prove and verify: the log's public key"},
	} {
		line(&b, s)
	}
	return b.String()
}

// everywhere are the settings that all services read alike.
func everywhere() (shared []setting) {
	for _, s := range settings()[services()[0]] {
		if !slices.ContainsFunc(services(), func(name string) bool { return !slices.Contains(settings()[name], s) }) {
			shared = append(shared, s)
		}
	}
	return shared
}

func section(b *strings.Builder, title string, all []setting) {
	fmt.Fprintf(b, "\n# %s\n", title)
	for _, s := range all {
		line(b, s)
	}
}

func line(b *strings.Builder, s setting) {
	note := ""
	value := s.note
	switch s.note {
	case "(required)":
		note, value = "required", ""
	case "(secret)":
		note, value = "secret", ""
	}
	switch {
	case s.doc != "" && note != "":
		fmt.Fprintf(b, "# %s (%s)\n", s.doc, note)
	case s.doc != "":
		fmt.Fprintf(b, "# %s\n", s.doc)
	case note != "":
		fmt.Fprintf(b, "# (%s)\n", note)
	}
	fmt.Fprintf(b, "#%s=%s\n", s.key, value)
}
