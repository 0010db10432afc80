// Package config reads a service's settings from its environment and reports
// everything that is wrong with them at once.
package config

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/fulcrum-io/fulcrum/pkg/secret"
)

// Reader reads settings one by one and collects problems instead of stopping
// at the first, so that an operator fixes a bad deployment once. An empty
// variable counts as unset. A Reader belongs to one goroutine.
type Reader struct {
	getenv   func(string) string
	problems []string
	seen     []Setting
}

// Setting is one variable that a program reads.
type Setting struct {
	Key      string
	Default  string // "" when Required, and for secrets
	Doc      string // what Doc said about it
	Required bool
	Secret   bool // may also come from the file named by <Key>_FILE
	Set      bool // the environment has it
}

// From returns a Reader over getenv.
func From(getenv func(string) string) *Reader { return &Reader{getenv: getenv} }

// Map is a getenv over a fixed set of variables, for tests and for programs
// that start other services.
func Map(vars map[string]string) func(string) string {
	return func(key string) string { return vars[key] }
}

// Getenv returns a variable as it is, for what has no method here.
func (r *Reader) Getenv(key string) string { return r.getenv(key) }

// Err reports everything that was wrong, one problem a line.
func (r *Reader) Err() error {
	switch len(r.problems) {
	case 0:
		return nil
	case 1:
		return errors.New(r.problems[0])
	}
	return fmt.Errorf("%d settings are wrong:\n  %s", len(r.problems), strings.Join(r.problems, "\n  "))
}

// Problem adds what a service found wrong with a setting by itself.
func (r *Reader) Problem(key, format string, a ...any) {
	r.problems = append(r.problems, key+": "+fmt.Sprintf(format, a...))
}

// Seen lists every variable read so far, in order, each once.
func (r *Reader) Seen() []Setting { return r.seen }

// Doc says what the variables are for, in a few words, for Seen.
func (r *Reader) Doc(key, doc string) {
	for i := range r.seen {
		if r.seen[i].Key == key {
			r.seen[i].Doc = doc
			return
		}
	}
	r.seen = append(r.seen, Setting{Key: key, Doc: doc})
}

// String returns the value of key, or def; with no def the key is required.
func (r *Reader) String(key string, def ...string) string {
	v, ok := r.lookup(key, def...)
	if !ok {
		return first(def)
	}
	return v
}

// OneOf returns the value of key if it is one of allowed, or def.
func (r *Reader) OneOf(key, def string, allowed ...string) string {
	v, ok := r.lookup(key, def)
	if !ok {
		return def
	}
	for _, a := range allowed {
		if v == a {
			return v
		}
	}
	r.bad(key, v, "one of "+strings.Join(allowed, ", "))
	return def
}

// Strings returns the comma-separated values of key, or def.
func (r *Reader) Strings(key string, def ...string) []string {
	v, ok := r.lookup(key, strings.Join(def, ","))
	if !ok {
		return def
	}
	var out []string
	for part := range strings.SplitSeq(v, ",") {
		if part = strings.TrimSpace(part); part != "" {
			out = append(out, part)
		}
	}
	return out
}

// Secret returns the value of key, or the content of the file that <key>_FILE
// names without its last line break, or def. With no def one of the two is
// required. The value never appears in a problem.
func (r *Reader) Secret(key string, def ...string) secret.Secret {
	v, path := r.getenv(key), r.getenv(key+"_FILE")
	r.note(Setting{Key: key, Required: len(def) == 0, Secret: true, Set: v != "" || path != ""})
	switch {
	case v != "" && path != "":
		r.Problem(key, "is set, and so is %s_FILE: keep one", key)
	case v != "":
		return secret.New(v)
	case path != "":
		content, err := os.ReadFile(path)
		text := strings.TrimRight(string(content), "\r\n")
		if err != nil {
			r.Problem(key+"_FILE", "%v", err)
		} else if text == "" {
			r.Problem(key+"_FILE", "%s is empty", path)
		}
		return secret.New(text)
	case len(def) == 0:
		r.Problem(key, "is required: set it, or %s_FILE to a file that holds it", key)
	case def[0] != "":
		return secret.Default(def[0])
	}
	return secret.Secret{}
}

// lookup returns the value and true, or false when the default holds.
func (r *Reader) lookup(key string, def ...string) (string, bool) {
	v := r.getenv(key)
	r.note(Setting{Key: key, Default: first(def), Required: len(def) == 0, Set: v != ""})
	if v == "" && len(def) == 0 {
		r.Problem(key, "is required")
	}
	return v, v != ""
}

func (r *Reader) note(s Setting) {
	for i := range r.seen {
		if r.seen[i].Key == s.Key {
			s.Doc = r.seen[i].Doc
			r.seen[i] = s
			return
		}
	}
	r.seen = append(r.seen, s)
}

// bad reports a value together with what was expected of it.
func (r *Reader) bad(key, value, want string) {
	if len(value) > 80 {
		value = value[:80] + "..."
	}
	r.Problem(key, "%q is not %s", value, want)
}

func first(def []string) string {
	if len(def) == 0 {
		return ""
	}
	return def[0]
}
