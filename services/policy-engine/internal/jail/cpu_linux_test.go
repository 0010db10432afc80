package jail_test

import (
	"strings"
	"testing"
	"time"

	"github.com/fulcrum-io/fulcrum/services/policy-engine/internal/jail"
)

// The kernel counts a child's CPU time in whole seconds, over all its modules: a
// limit of a millisecond is reached when the next second is full.
func TestAModuleThatTakesTooMuchCPUIsRefused(t *testing.T) {
	t.Parallel()
	p := pool(t, jail.Limits{CPU: time.Millisecond, Wall: time.Hour, Memory: 4 << 30})
	for range 200 { // at most, on a machine a hundred times as fast
		problems, err := p.Check("p", attack(), []string{"deny"})
		switch {
		case err != nil:
			t.Fatal(err)
		case len(problems) == 0:
			continue
		case len(problems) != 1 || problems[0].Line != 1 || !strings.Contains(problems[0].Message, "takes more than 1ms of CPU time"):
			t.Fatalf("refused for %v", problems)
		}
		problems, err = p.Check("p", "package p\ndeny contains \"no\" if input.x == 1\n", []string{"deny"})
		if err != nil || len(problems) != 0 {
			t.Errorf("the next module: %v, %v", problems, err)
		}
		return
	}
	t.Error("never refused")
}
