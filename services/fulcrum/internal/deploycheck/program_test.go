package deploycheck

import (
	"context"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/fulcrum-io/fulcrum/pkg/service"
	audit "github.com/fulcrum-io/fulcrum/services/audit/app"
	budget "github.com/fulcrum-io/fulcrum/services/budget/app"
	controlplane "github.com/fulcrum-io/fulcrum/services/control-plane/app"
	eventprocessor "github.com/fulcrum-io/fulcrum/services/event-processor/app"
	"github.com/fulcrum-io/fulcrum/services/fulcrum/internal/cli"
	gateway "github.com/fulcrum-io/fulcrum/services/gateway/app"
	policyengine "github.com/fulcrum-io/fulcrum/services/policy-engine/app"
)

// The services, as their main.go start them.
var programs = map[string]func(context.Context, service.Env) error{
	"gateway": gateway.Run, "policy-engine": policyengine.Run, "budget": budget.Run,
	"control-plane": controlplane.Run, "event-processor": eventprocessor.Run, "audit": audit.Run,
}

// program names which of our programs this test binary shall be.
const program = "DEPLOYCHECK_PROGRAM"

func TestMain(m *testing.M) {
	name := os.Getenv(program)
	switch run, ok := programs[name]; {
	case ok:
		service.Main(name, run)
	case name == "fulcrum":
		cli.Main()
	}
	os.Exit(m.Run())
}

// output is what a program of ours prints. Its environment is empty.
func output(t *testing.T, name string, args ...string) (out string, ok bool) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, args...)
	cmd.Env = []string{program + "=" + name}
	b, err := cmd.CombinedOutput()
	return string(b), err == nil
}

// setting is a line of what "<service> settings" prints.
type setting struct{ key, note, doc string }

// settings are what each service reads, by its own word.
var settings = sync.OnceValue(func() map[string][]setting {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	all := make(map[string][]setting)
	for _, name := range services() {
		cmd := exec.Command(self, "settings")
		cmd.Env = []string{program + "=" + name}
		out, err := cmd.Output()
		if err != nil {
			panic(name + " settings: " + err.Error())
		}
		all[name] = table(string(out))
	}
	return all
})

// table reads aligned columns: a key, a note that may be empty and has no
// spaces, a text.
func table(out string) (lines []setting) {
	width := 0
	for line := range strings.Lines(out) {
		key, _, _ := strings.Cut(line, " ")
		width = max(width, len(key)+2)
	}
	for line := range strings.Lines(out) {
		line = strings.TrimRight(line, "\n")
		key, _, _ := strings.Cut(line, " ")
		note, doc, _ := strings.Cut(line[min(width, len(line)):], " ")
		lines = append(lines, setting{key, note, strings.TrimSpace(doc)})
	}
	return lines
}

func services() []string {
	var names []string
	for name := range programs {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// reads reports whether a service reads a variable, or its _FILE form. Go's own
// runtime reads GOMEMLIMIT.
func reads(name, key string) bool {
	return key == "GOMEMLIMIT" || slices.ContainsFunc(settings()[name], func(s setting) bool {
		return s.key == key || s.key+"_FILE" == key && s.secret()
	})
}

func (s setting) secret() bool {
	if s.note == "(secret)" {
		return true
	}
	return s.note == "(required)" && slices.ContainsFunc([]string{"KEY", "TOKEN", "PEPPER", "PASSWORD"}, func(part string) bool {
		return strings.Contains(s.key, part)
	})
}
