package jail_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fulcrum-io/fulcrum/services/policy-engine/internal/jail"
)

func pool(t *testing.T, l jail.Limits) *jail.Pool {
	t.Helper()
	p := jail.New(l)
	t.Cleanup(p.Close)
	return p
}

func TestAModuleThatPassesHasNoProblems(t *testing.T) {
	t.Parallel()
	p := pool(t, jail.Limits{})
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			problems, err := p.Check("p", "package p\ndeny contains \"no\" if input.x == 1\n", []string{"deny"})
			if err != nil || len(problems) != 0 {
				t.Errorf("Check: %v, %v", problems, err)
			}
		})
	}
	all.Wait()
}

func TestAMistakeIsReportedWithItsPlace(t *testing.T) {
	t.Parallel()
	problems, err := pool(t, jail.Limits{}).Check("p", "package p\n\ndeny contains x if http.send({})\n", nil)
	if err != nil || len(problems) == 0 || problems[0].Line != 3 {
		t.Errorf("Check: %v, %v", problems, err)
	}
}

// Whatever limit a module breaks, it is refused with a reason, and the next one
// is compiled as if nothing had been.
func TestALimitThatIsBrokenIsAProblemOfTheModule(t *testing.T) {
	t.Parallel()
	attack := attack()
	for _, tt := range []struct {
		name   string
		limits jail.Limits
		want   string
	}{
		{"wall clock", jail.Limits{Wall: time.Millisecond}, "takes more than 1ms"},
		{"memory", jail.Limits{Memory: 16 << 20, CPU: time.Hour, Wall: time.Hour}, "more than 16 MiB of memory"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := pool(t, tt.limits)
			for range 2 {
				problems, err := p.Check("p", attack, []string{"deny"})
				if err != nil || len(problems) != 1 || problems[0].Line != 1 || !strings.Contains(problems[0].Message, tt.want) {
					t.Errorf("Check: %v, %v", problems, err)
				}
			}
		})
	}
}

// attack is a module that passes every check of its text and makes the compiler
// work as hard as one can: it takes most of a second and more than twenty megabytes.
func attack() string {
	var b strings.Builder
	b.WriteString("package p\n")
	for i := range 990 {
		fmt.Fprintf(&b, "deny contains \"no\" if { some x%[1]d in input.c; some y in x%[1]d; not y in input.d; every z in y { z == x%[1]d }; "+
			"count([q | q := input.e[_]; q > y]) == 3; [k | some k, v in input.f; v == y] == x%[1]d }\n", i)
	}
	return b.String()
}
