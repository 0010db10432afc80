package sandbox

import (
	"context"
	"errors"
	"math"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
	"github.com/open-policy-agent/opa/v1/types"
)

// Every built-in of OPA has been looked at: it is allowed, or it is on the list
// of refused ones. An upgrade that brings new ones fails here until somebody did.
func TestEveryBuiltinWasReviewed(t *testing.T) {
	t.Parallel()
	granted := capabilities()
	raw, err := os.ReadFile("testdata/refused.txt")
	if err != nil {
		t.Fatal(err)
	}
	refused := strings.Fields(string(raw))
	for _, b := range ast.CapabilitiesForThisVersion().Builtins {
		if strings.HasPrefix(b.Name, "fulcrum.") {
			continue
		}
		if slices.Contains(allowed, b.Name) == slices.Contains(refused, b.Name) {
			t.Errorf("built-in %s must be either allowed or refused", b.Name)
		}
	}
	for _, name := range allowed {
		if ast.BuiltinMap[name] == nil {
			t.Errorf("%s is allowed and does not exist", name)
		}
	}
	if granted.AllowNet == nil || len(granted.AllowNet) != 0 {
		t.Error("AllowNet must be empty and not nil: nil is every host")
	}
}

// run evaluates the set "out" of a module body.
func run(t *testing.T, body string, input *ast.Term, l Limits) (ast.Value, error) {
	t.Helper()
	m, problems := Compile("p", "package p\n"+body)
	if m == nil {
		t.Fatalf("Compile: %v", problems)
	}
	q, err := m.Query("out")
	if err != nil {
		t.Fatal(err)
	}
	values, err := q.Run(t.Context(), input, l)
	if err != nil {
		return nil, err
	}
	return values[0], nil
}

func TestGuardsStopLargeOperands(t *testing.T) {
	t.Parallel()
	text := func(n int) *ast.Term { return ast.StringTerm(strings.Repeat("a", n)) }
	items := make([]*ast.Term, maxNodes+1)
	for i := range items {
		items[i] = ast.InternedTerm(i % 100)
	}
	list := ast.ArrayTerm(items...)
	for _, tt := range []struct {
		name, body string
		input      *ast.Term
		want       string // of the error; empty for none
	}{
		{"split a long string", `out contains count(split(input, "a"))`, text(maxBuildBytes + 1), "split: operand is too long"},
		{"split the longest string", `out contains count(split(input, "b"))`, text(maxBuildBytes), ""},
		{"search a longer one", `out contains contains(input, "b")`, text(maxMatchBytes), ""},
		{"search one that is too long", `out contains contains(input, "b")`, text(maxMatchBytes + 1), "contains: operand is too long"},
		{"match one that is too long", `out contains regex.match("b", input)`, text(maxMatchBytes + 1), "regex.match: operand is too long"},
		{"sort a large list", `out contains count(sort(input))`, list, "sort: operand has too many values"},
		{"count it", `out contains count(input)`, list, ""},
		{"look something up in it", `out contains 7 in input`, list, ""},
		{"compare it with a number", `out contains input == 7`, list, ""},
		{"compare it with itself by a function", `out contains neq(input, array.slice(input, 0, 20001))`, list, "too many values"},
		{"a number of many digits", `out contains x if { some i in numbers.range(1, 50); x := input * 10 }`, ast.NumberTerm("1" + "0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"), "too many digits"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := run(t, tt.body, tt.input, Limits{Deadline: 10 * time.Second})
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("Run: %v, want %q", err, tt.want)
			}
		})
	}
}

// A long text under a slow expression ends at the hard deadline, not after it.
func TestMatchingALongTextEndsAtTheDeadline(t *testing.T) {
	t.Parallel()
	began := time.Now()
	_, err := run(t, `out contains regex.match("(?i)(a+)+[x-z]{1,500}$", input)`, ast.StringTerm(strings.Repeat("a", 1<<20)), Limits{Deadline: 50 * time.Millisecond})
	if !errors.Is(err, ErrTimeout) {
		t.Errorf("Run: %v", err)
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("took %v", took)
	}
}

// Long texts are read in another way; the answer is the same.
func TestMatchingLongAndShortTextsAgree(t *testing.T) {
	t.Parallel()
	for _, pattern := range []string{"needle$", "^x", `\bneedle\b`, "(?i)NEEDLE", "ü+", "no such thing", "^x+ ü needle$", "x{3} "} {
		answers := map[int]string{}
		for _, n := range []int{10, longText} {
			v, err := run(t, `out contains regex.match(input[0], input[1])`,
				ast.ArrayTerm(ast.StringTerm(pattern), ast.StringTerm(strings.Repeat("x", n)+" ü needle")), Limits{Deadline: 10 * time.Second})
			if err != nil {
				t.Fatal(err)
			}
			answers[n] = v.String()
		}
		if answers[10] != answers[longText] {
			t.Errorf("%s: %v", pattern, answers)
		}
	}
}

// The soft deadline is for what works; what had no chance yet may go on.
func TestClockStopsWorkSoftAndEverythingHard(t *testing.T) {
	t.Parallel()
	past, future := time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	for _, tt := range []struct {
		name       string
		soft, hard time.Time
		asked      int
		want       bool
	}{
		{"in time", future, future, 100_000, false},
		{"soft, hardly begun", past, future, askEvery, false},
		{"soft, after some work", past, future, someWork + askEvery, true},
		{"hard", past, past, askEvery, true},
	} {
		c := &clock{soft: tt.soft, hard: tt.hard}
		got := false
		for range tt.asked {
			got = got || c.Cancelled()
		}
		if got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}

func TestBreakerOpensAfterThreeTimeoutsInAMinute(t *testing.T) {
	t.Parallel()
	now := time.Now()
	var b Breaker
	b.TimedOut(now)
	b.TimedOut(now.Add(30 * time.Second))
	b.TimedOut(now.Add(61 * time.Second)) // the first no longer counts
	if b.open(now.Add(61 * time.Second)) {
		t.Error("open after two in a minute")
	}
	b.TimedOut(now.Add(62 * time.Second))
	if !b.open(now.Add(63 * time.Second)) {
		t.Error("not open after three in a minute")
	}
	if b.open(now.Add(62*time.Second + window)) {
		t.Error("open for ever")
	}
}

// What cannot be stopped is counted and joined by nothing until it ends.
func TestTheWatchdogTakesAStuckProgramOutOfService(t *testing.T) {
	install()
	release := make(chan struct{})
	ast.RegisterBuiltin(&ast.Builtin{Name: "fulcrum.test_hang", Decl: types.NewFunction(types.Args(types.A), types.B)})
	topdown.RegisterBuiltinFunc("fulcrum.test_hang", func(_ topdown.BuiltinContext, _ []*ast.Term, yield func(*ast.Term) error) error {
		<-release
		return yield(ast.InternedTerm(true))
	})
	granted := *ownCapabilities()
	granted.Builtins = append(slices.Clone(granted.Builtins), ast.BuiltinMap["fulcrum.test_hang"])
	m, err := ast.ParseModuleWithOpts("p.rego", "package p\nout contains 1 if fulcrum.test_hang(1)\n", parsing(&granted))
	if err != nil {
		t.Fatal(err)
	}
	p, errs := link(m, &granted)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	q, err := p.Query("out")
	if err != nil {
		t.Fatal(err)
	}
	var b Breaker
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = q.Run(t.Context(), ast.NullTerm(), Limits{Deadline: time.Millisecond, Breaker: &b})
	}()
	for deadline := time.Now().Add(90 * time.Second); Stuck() == 0; {
		if time.Now().After(deadline) {
			t.Fatal("the watchdog did not notice")
		}
		runtime.Gosched()
	}
	if _, err := q.Run(t.Context(), ast.NullTerm(), Limits{Deadline: time.Second, Breaker: &b}); !errors.Is(err, ErrQuarantined) {
		t.Errorf("a second run: %v", err)
	}
	close(release)
	<-ended
	if n := Stuck(); n != 0 {
		t.Errorf("%d are still said to be stuck", n)
	}
}

// What has more memory in use than it may is said to be short of it, for as long
// as that is so. What is not limited never is.
func TestTheWatchOverMemorySaysWhenItIsShort(t *testing.T) {
	for _, tt := range []struct {
		limit int64
		want  bool
	}{{1, true}, {1 << 50, false}, {math.MaxInt64, false}} {
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- WatchMemory(ctx, tt.limit) }()
		for deadline := time.Now().Add(time.Minute); Short() != tt.want && time.Now().Before(deadline); {
			runtime.Gosched()
		}
		if Short() != tt.want {
			t.Errorf("with a limit of %d bytes it is short: %v", tt.limit, !tt.want)
		}
		stop()
		if err := <-ended; err != nil || Short() {
			t.Errorf("afterwards: %v, short %v", err, Short())
		}
	}
}

func TestAPanicIsAnError(t *testing.T) {
	t.Parallel()
	install() // OPA's own parser reads the table that this writes
	q := &Query{program: &Program{}, body: ast.MustParseBody("x = data.a.b"), vars: []ast.Var{"x"}}
	if _, err := q.Run(t.Context(), ast.NullTerm(), Limits{Deadline: time.Second}); err == nil || !strings.Contains(err.Error(), "panicked") {
		t.Errorf("Run: %v", err)
	}
}

// Whatever bytes a tenant sends, compiling them ends and does not panic, and
// what compiles runs within its deadline.
func FuzzCompile(f *testing.F) {
	for _, seed := range []string{
		"package p\nout contains 1", "package p\nimport rego.v1\nout contains x if { some x in input.a; x > 3 }",
		"package p\nf(x) := [x, x]\nout contains f(f(1))", "package p\nout contains 1 if { every x in [1] { x == 1 } }",
		"package p\nout contains {\"a\": [b | b := 1]} if not input.x or input.y", "package p\n# METADATA\n# title: x\nout contains 1",
		"package p\nout contains $\"{input.x}\"", "package p\ndefault a := 1\na := 2 if input.x else := 3", "package q", "",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		began := time.Now()
		m, problems := Compile("p", text)
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("compiling took %v", took)
		}
		if m == nil && len(problems) == 0 {
			t.Fatal("neither a module nor a problem")
		}
		if m == nil {
			return
		}
		q, err := m.Query("out")
		if err != nil {
			t.Fatal(err)
		}
		began = time.Now()
		_, err = q.Run(t.Context(), ast.ObjectTerm(ast.Item(ast.StringTerm("a"), ast.ArrayTerm(ast.InternedTerm(1)))), Limits{Deadline: 20 * time.Millisecond})
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("took %v: %v", took, err)
		}
	})
}
