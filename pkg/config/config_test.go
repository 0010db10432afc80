package config

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestValuesAndDefaults(t *testing.T) {
	t.Parallel()
	r := From(Map(map[string]string{
		"S": "text", "I": "42", "F": "0.5", "B": "yes", "D": "1m30s", "O": "b", "L": " a, b ,,c ", "A": "host:1", "U": "https://x.example/p",
	}))
	for _, tt := range []struct {
		name      string
		got, want any
	}{
		{"string", r.String("S", "d"), "text"},
		{"int", r.Int("I", 1), 42},
		{"float", r.Float("F", 1, 0, 1), 0.5},
		{"bool", r.Bool("B", false), true},
		{"duration", r.Duration("D", 0), 90 * time.Second},
		{"one of", r.OneOf("O", "a", "a", "b"), "b"},
		{"list", strings.Join(r.Strings("L"), "|"), "a|b|c"},
		{"addr", r.Addr("A", "d:1"), "host:1"},
		{"url", r.URL("U", "", "https"), "https://x.example/p"},
		{"listen", Listen(r, "NONE", ":1"), ":1"},
		{"default string", r.String("NONE", "d"), "d"},
		{"default int", r.Int("NONE", 7), 7},
		{"default float", r.Float("NONE", 0.25, 0, 1), 0.25},
		{"default bool", r.Bool("NONE", true), true},
		{"default duration", r.Duration("NONE", time.Second), time.Second},
		{"default list", strings.Join(r.Strings("NONE", "x", "y"), "|"), "x|y"},
		{"default addr", r.Addr("NONE", "d:1"), "d:1"},
		{"default url", r.URL("NONE", ""), ""},
	} {
		if tt.got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, tt.got, tt.want)
		}
	}
	if err := r.Err(); err != nil {
		t.Error(err)
	}
}

func TestEveryProblemIsReportedAtOnce(t *testing.T) {
	t.Parallel()
	r := From(Map(map[string]string{
		"I": "twelve", "BIG": "70000", "F": "NaN", "B": "maybe", "D": "-1s", "O": "c", "A": "nohost", "LN": "x:99999",
		"U": "ftp://user:hunter2@x.example", "BADU": "http://user:hunter2@[", "LONG": strings.Repeat("x", 5000),
	}))
	r.String("MISSING")
	r.Secret("TOKEN")
	r.Int("I", 1)
	r.IntBetween("BIG", 1, 1, 65535)
	r.Float("F", 1, 0, 1)
	r.Bool("B", false)
	r.Duration("D", time.Second)
	r.OneOf("O", "a", "a", "b")
	r.Addr("A", "d:1")
	Listen(r, "LN", ":1")
	r.URL("U", "", "https", "http")
	r.URL("BADU", "")
	r.Int("LONG", 1)
	r.Problem("SELF", "must be %s", "prime")

	err := r.Err()
	if err == nil {
		t.Fatal("no problem at all")
	}
	text := err.Error()
	for _, want := range []string{
		"14 settings are wrong",
		"MISSING: is required",
		"TOKEN: is required: set it, or TOKEN_FILE",
		`I: "twelve" is not a whole number from 0`,
		`BIG: "70000" is not a whole number from 1 to 65535`,
		`F: "NaN" is not a number from 0 to 1`,
		`B: "maybe" is not true or false`,
		`D: "-1s" is not a duration like 1.5s or 10m, from 0s`,
		`O: "c" is not one of a, b`,
		`A: "nohost" is not host:port`,
		`LN: "x:99999" is not host:port or :port`,
		`U: "ftp://user:xxxxx@x.example" is not an absolute URL starting with https:// or http://`,
		`BADU: is not an absolute URL`,
		"SELF: must be prime",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	if strings.Contains(text, "hunter2") {
		t.Error("a password is in the message")
	}
	if len(text) > 2000 {
		t.Errorf("the message has %d bytes", len(text))
	}
}

func TestOneProblemIsOneLine(t *testing.T) {
	t.Parallel()
	r := From(Map(nil))
	r.String("K")
	if got := r.Err().Error(); got != "K: is required" {
		t.Error(got)
	}
}

func TestSecretsComeFromAVariableOrAFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	vars := map[string]string{
		"PLAIN": "p1", "FROM_FILE": write("good", "p2\r\n"), "EMPTY_FILE": write("empty", "\n"),
		"LOST_FILE": filepath.Join(dir, "nothing"), "BOTH": "hunter2", "BOTH_FILE": write("both", "hunter3"),
	}
	r := From(Map(vars))
	for key, want := range map[string]string{"PLAIN": "p1", "FROM": "p2", "UNSET": ""} {
		if got := r.Secret(key, "").Reveal(); got != want {
			t.Errorf("%s = %q, want %q", key, got, want)
		}
	}
	if err := r.Err(); err != nil {
		t.Fatal(err)
	}
	if s := r.Secret("UNSET", "dev"); !s.IsDefault() || s.Reveal() != "dev" {
		t.Error("a default secret does not know that it is one")
	}
	for _, key := range []string{"EMPTY", "LOST", "BOTH"} {
		r := From(Map(vars))
		r.Secret(key)
		if err := r.Err(); err == nil || !strings.HasPrefix(err.Error(), key) || strings.Contains(err.Error(), "hunter") {
			t.Errorf("%s: %v", key, err)
		}
	}
}

func TestPortWinsWhereToldTo(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		vars map[string]string
		want string
		bad  bool
	}{
		{nil, "127.0.0.1:8080", false},
		{map[string]string{"HTTP": "127.0.0.1:9"}, "127.0.0.1:9", false},
		{map[string]string{"HTTP": "127.0.0.1:9", "PORT": "3000"}, ":3000", false},
		{map[string]string{"PORT": "http"}, "127.0.0.1:8080", true},
		{map[string]string{"PORT": "70000"}, "127.0.0.1:8080", true},
	} {
		r := From(Map(tt.vars))
		if got := ListenPort(r, "HTTP", "127.0.0.1:8080"); got != tt.want || (r.Err() != nil) != tt.bad {
			t.Errorf("%v: %q, %v", tt.vars, got, r.Err())
		}
		if got := Listen(r, "OTHER", ":1"); got != ":1" {
			t.Errorf("PORT changed a listener that did not ask: %q", got)
		}
	}
}

func TestSeenDescribesEverythingOnce(t *testing.T) {
	t.Parallel()
	r := From(Map(map[string]string{"B": "x"}))
	r.String("A")
	r.String("B", "def")
	r.Secret("C", "dev-secret")
	r.Int("D", 5)
	r.Doc("D", "how many")
	r.Int("D", 5)
	want := []Setting{
		{Key: "A", Required: true},
		{Key: "B", Default: "def", Set: true},
		{Key: "C", Secret: true},
		{Key: "D", Default: "5", Doc: "how many"},
	}
	if got := r.Seen(); !slices.Equal(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestASecretIsASecret(t *testing.T) {
	t.Parallel()
	s := From(Map(map[string]string{"K": "v"})).Secret("K")
	if s.String() != "[secret]" || s.IsDefault() {
		t.Error(s)
	}
}
