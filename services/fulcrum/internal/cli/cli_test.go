package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/fulcrum-io/fulcrum/pkg/config"
	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/services/fulcrum/internal/evidence"
)

func TestExitCodesAreWhatTheHelpSays(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		err  error
		want int
	}{
		{nil, exitOK},
		{errors.New("x"), exitFailure},
		{fault.New(fault.NotFound, "x"), exitFailure},
		{fault.New(fault.Denied, "x"), exitFailure}, // a missing right is no policy's decision
		{fault.New(fault.Exhausted, "x").WithReason("RATE_LIMITED"), exitFailure},
		{usagef("x"), exitUsage},
		{fmt.Errorf("y: %w", usagef("x")), exitUsage},
		{answered(exitDenied), exitDenied},
		{fault.New(fault.Exhausted, "x").WithReason("BUDGET_EXCEEDED"), exitOverBudget},
		{answered(exitApproval), exitApproval},
		{fmt.Errorf("file: %w", &evidence.Tampered{}), exitTampered},
		{fault.New(fault.Down, "x"), exitUnreachable},
		{fault.New(fault.Deadline, "x"), exitUnreachable},
		{context.DeadlineExceeded, exitUnreachable},
		{context.Canceled, exitFailure},
	} {
		if got := exitCode(tt.err); got != tt.want {
			t.Errorf("%v: exit %d, want %d", tt.err, got, tt.want)
		}
	}
}

func TestWrongCommandLinesAreExplained(t *testing.T) {
	t.Parallel()
	s := newShell(t, "none")
	for _, tt := range []struct{ line, want string }{
		{"plicy", `unknown command "plicy" for "fulcrum"; did you mean "policy"?`},
		{"policy lst", `unknown command "lst" for "fulcrum policy"; did you mean "list"?`},
		{"migrate sideways", `unknown command "sideways" for "fulcrum migrate"`},
		{"policy list extra", `takes no "extra"`},
		{"policy get", "needs NAME or ID"},
		{"policy list --outptu json", `did you mean "--output"?`},
		{"policy list --output yaml", "must be one of table, json"},
		{"policy list --api-key abc", "never given by flag"},
		{"policy list --server http://x:1", "must be host:port"},
		{"policy list --server x", "must be host:port"},
		{"up extra", "extra"},
		{"spend --since 5x", "is no time"},
	} {
		s.types(tt.line).exits(exitUsage).says("fulcrum: ", tt.want, "next: fulcrum")
	}
	s.types("policy list --server x -o json").exits(exitUsage)
}

func TestErrorsSayWhatToDo(t *testing.T) {
	t.Parallel()
	s := newShell(t, "none")
	s.types("policy list").exits(exitFailure).says("UNAUTHENTICATED", "hint: ", "next: export FULCRUM_API_KEY_FILE")
	s.types("policy list --server 127.0.0.1:1").exits(exitUnreachable).says("UNAVAILABLE: 127.0.0.1:1 cannot be reached", "cause: ", "connection refused", "next: ")
	s.types("policy list --key-file /does/not/exist").exits(exitFailure).says("--key-file")
	s.with("FULCRUM_API_KEY_FILE", "/does/not/exist").with("FULCRUM_API_KEY", "").types("policy list").exits(exitUsage).says("FULCRUM_API_KEY_FILE")

	var problem struct{ Code, Reason, Detail, Hint string }
	r := s.types("policy list -o json").exits(exitFailure)
	if err := json.Unmarshal([]byte(r.err), &problem); err != nil || problem.Code != "UNAUTHENTICATED" || problem.Hint == "" {
		t.Errorf("%v: %s", err, r.err)
	}
	// A server that is beyond this machine gets the key over TLS, or a warning.
	s.types("policy list --timeout 50ms --server 192.0.2.1:443 --plaintext").exits(exitUnreachable).says("warning: the API key goes to 192.0.2.1:443 unencrypted")
	s.types("policy list --ca-file /does/not/exist --server 192.0.2.1:443").exits(exitFailure).says("--ca-file")
}

// Every request ends, also at a server that accepts and never answers.
func TestEveryRequestHasADeadline(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	newShell(t, "none").types("policy list --timeout 200ms --server " + ln.Addr().String()).exits(exitUnreachable).says("next: ")
	newShell(t, "none").types("event tail --timeout 200ms --server " + ln.Addr().String()).exits(exitUnreachable)
}

// Walks every command there is, so that a new one is noticed.
func TestEveryCommandExplainsItself(t *testing.T) {
	t.Parallel()
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Hidden || c.Name() == "help" || c.Name() == "completion" {
			return
		}
		if c.Short == "" || strings.HasSuffix(c.Short, ".") {
			t.Errorf("%s: summary %q", c.CommandPath(), c.Short)
		}
		if !c.HasSubCommands() && c.GroupID != "deploy" && c.Parent().GroupID != "deploy" && !strings.Contains(c.Example, c.CommandPath()) {
			t.Errorf("%s has no example", c.CommandPath())
		}
		for _, line := range strings.Split(c.Long+"\n"+c.Example, "\n") {
			if len([]rune(line)) > 160 {
				t.Errorf("%s: a line of its help has %d characters", c.CommandPath(), len(line))
			}
		}
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if f.Usage == "" {
				t.Errorf("%s --%s says nothing", c.CommandPath(), f.Name)
			}
		})
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(rootCommand(newOperator(config.Map(nil))))
	s := newShell(t, "")
	s.types("").exits(exitOK).shows("Exit codes: 0 done", "Operate it")
	s.types("policy").exits(exitOK).shows("push")
	s.types("policy push --help").exits(exitOK).shows("--prune", "Examples:")
	s.types("--version").exits(exitOK).shows("fulcrum version")
}

func TestLongWaitsAreSpokenOf(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		cmd := &cobra.Command{}
		cmd.SetErr(&locked{w: &out})
		o := newOperator(config.Map(nil))
		quick := o.pulse(cmd, "read")
		time.Sleep(longWait - time.Millisecond) // of the fake clock
		quick.end()
		if out.Len() > 0 {
			t.Errorf("said %q within two seconds", out.String())
		}
		slow := o.pulse(cmd, "read")
		slow.set(12345, 0)
		time.Sleep(longWait + time.Second)
		slow.set(50, 200)
		time.Sleep(10 * time.Second)
		slow.end()
		if got := out.String(); got != "read 12,345 …\nread 50 of 200 (25 %)\n" {
			t.Errorf("said %q", got)
		}
	})
}

// A page that is too large to send is asked for in parts, and one that came too
// fast is asked for again.
func TestListsAreReadWhole(t *testing.T) {
	t.Parallel()
	const size = 2500
	read := func(limit, fits int) ([]int, bool, error) {
		cmd := &cobra.Command{}
		cmd.SetContext(t.Context())
		cmd.SetErr(&bytes.Buffer{})
		hurried := false
		return pages(newOperator(config.Map(nil)), cmd, limit, func(token string, n int32) (some []int, next string, err error) {
			if int(n) > fits {
				return nil, "", fault.New(fault.Exhausted, "message too large")
			}
			if !hurried {
				hurried = true
				return nil, "", fault.New(fault.Exhausted, "slower").WithReason("RATE_LIMITED").WithRetry(time.Millisecond)
			}
			at, _ := strconv.Atoi(token)
			for len(some) < int(n) && at+len(some) < size {
				some = append(some, at+len(some))
			}
			if at += len(some); at < size {
				next = strconv.Itoa(at)
			}
			return some, next, nil
		})
	}
	for _, tt := range []struct {
		limit, fits, want int
		more              bool
	}{{0, 1000, size, false}, {0, 7, size, false}, {10, 1000, 10, true}, {size, 1000, size, false}, {1200, 300, 1200, true}} {
		all, more, err := read(tt.limit, tt.fits)
		if err != nil || len(all) != tt.want || more != tt.more {
			t.Errorf("%+v: %d, more %v, %v", tt, len(all), more, err)
		}
		for i, n := range all {
			if i != n {
				t.Fatalf("%+v: entry %d is %d", tt, i, n)
			}
		}
	}
	if _, _, err := read(0, 0); !fault.Is(err, fault.Exhausted) {
		t.Errorf("an entry that never fits: %v", err)
	}
}

// The key leaves this machine over TLS, unless the operator says otherwise.
func TestTheKeyTravelsEncrypted(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		addr      string
		plaintext bool
		want      bool
	}{
		{"127.0.0.1:1", false, false}, {"[::1]:1", false, false}, {"localhost:1", false, false},
		{"fulcrum.example.com:443", false, true}, {"10.0.0.1:50051", false, true}, {"10.0.0.1:50051", true, false},
	} {
		o := newOperator(config.Map(nil))
		o.plaintext = tt.plaintext
		got, err := o.transport(tt.addr)
		if err != nil || (got != nil) != tt.want {
			t.Errorf("%+v: %v, %v", tt, got, err)
		}
		if b := (bearer{secure: got != nil}); b.RequireTransportSecurity() != tt.want {
			t.Errorf("%+v: the key would go without", tt)
		}
	}
}

func TestValuesOnTheCommandLine(t *testing.T) {
	t.Parallel()
	s, err := structure("arg", []string{"n=5", "t=five", `q="5"`, "o.a.b=[1,2]", "o.c=true", "e="})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(s.AsMap())
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"e":"","n":5,"o":{"a":{"b":[1,2]},"c":true},"q":"5","t":"five"}`; string(raw) != want {
		t.Errorf("got %s", raw)
	}
	for text, want := range map[string]time.Duration{"90s": 90 * time.Second, "7d": 7 * 24 * time.Hour, "2w": 14 * 24 * time.Hour, "1h30m": 90 * time.Minute} {
		if got, err := span(text); err != nil || got != want {
			t.Errorf("span(%s) = %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "d", "-1d", "-5m", "1y", "x"} {
		if _, err := span(text); err == nil {
			t.Errorf("span(%q) is accepted", text)
		}
	}
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", -1234567: "-1,234,567"} {
		if got := count(n); got != want {
			t.Errorf("count(%d) = %s", n, got)
		}
	}
	for _, tt := range []struct {
		a, b string
		want int
	}{{"list", "list", 0}, {"lst", "list", 1}, {"lsit", "list", 1}, {"", "ab", 2}, {"dney", "deny", 1}} {
		if got := distance(tt.a, tt.b); got != tt.want {
			t.Errorf("distance(%q, %q) = %d, want %d", tt.a, tt.b, got, tt.want)
		}
	}
}
