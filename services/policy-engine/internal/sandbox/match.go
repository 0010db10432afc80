package sandbox

import (
	"errors"
	"io"
	"regexp"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// OPA's regex.match cannot be interrupted, and a megabyte under an expression of
// a few hundred states takes most of a second. This one reads long texts
// through a reader that ends at the deadline.

const (
	longText     = 64 << 10
	maxPatterns  = 10_000
	askEveryRune = 1024
)

var errExpired = topdown.Halt{Err: &topdown.Error{Code: topdown.CancelErr, Message: "deadline passed while matching"}}

func match(b topdown.BuiltinContext, args []*ast.Term, yield func(*ast.Term) error) error {
	pattern, ok := args[0].Value.(ast.String)
	text, ok2 := args[1].Value.(ast.String)
	if !ok || !ok2 {
		return errors.New("operands must be strings")
	}
	deadline, _ := b.Cancel.(*clock)
	found, err := matches(deadline, string(pattern), string(text))
	if err != nil {
		return err
	}
	return yield(ast.InternedTerm(found))
}

// matches reports whether text matches, until the deadline if there is one.
func matches(deadline *clock, pattern, text string) (bool, error) {
	re, err := expressions.get(pattern)
	if err != nil {
		return false, err
	}
	if len(text) < longText || deadline == nil {
		return re.MatchString(text), nil
	}
	r := &expiring{text: text, deadline: deadline}
	found := re.MatchReader(r)
	if !found && deadline.fired {
		return false, errExpired
	}
	return found, nil
}

// expiring reads text rune by rune until the deadline.
type expiring struct {
	text     string
	at, read int
	deadline *clock
}

func (e *expiring) ReadRune() (r rune, size int, err error) {
	if e.read++; e.read%askEveryRune == 1 && e.deadline.expired(someWork/10) || e.at >= len(e.text) {
		return 0, 0, io.EOF
	}
	r, size = utf8.DecodeRuneInString(e.text[e.at:])
	e.at += size
	return r, size, nil
}

// expressions are compiled patterns, over all programs. When there are too many
// they are forgotten together: that costs a compilation each, once.
var expressions patternCache

type patternCache struct {
	mu       sync.RWMutex // guards compiled
	compiled map[string]*regexp.Regexp
}

func (c *patternCache) get(pattern string) (*regexp.Regexp, error) {
	c.mu.RLock()
	re, ok := c.compiled[pattern]
	c.mu.RUnlock()
	if ok {
		return re, nil
	}
	re, err := regexp.Compile(pattern)
	if err != nil {
		return nil, errors.New(strings.TrimPrefix(err.Error(), "error parsing regexp: "))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.compiled == nil || len(c.compiled) >= maxPatterns {
		c.compiled = map[string]*regexp.Regexp{}
	}
	c.compiled[pattern] = re
	return re, nil
}
