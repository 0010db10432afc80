package policy

import (
	"context"
	"crypto/sha256"
	"fmt"
	"runtime"
	"sync"
	"time"
	"weak"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/fulcrum-io/fulcrum/services/policy-engine/internal/sandbox"
	"github.com/fulcrum-io/fulcrum/services/policy-engine/internal/toolschema"
)

// Compiler compiles bundles. Equal texts share one program, over the versions of
// a tenant and over tenants: a bundle that changes one Rego policy compiles one,
// and tenants on the same templates cost memory once. Programs that no Set uses
// any more go with the garbage. Safe for concurrent use.
type Compiler struct {
	check    Checker // nil: none
	backends Backends
	noRows   bool // every condition becomes Rego, to compare
	breakers shared[sandbox.Breaker]
	schemas  shared[toolschema.Schema]
	units    shared[unit]
	modules  shared[rulesProgram]
	regos    shared[regoProgram]
	test     func() (*rulesProgram, error)
	slots    chan struct{} // one for each compilation at a time: it costs what a thousand decisions do
}

// Checker looks at a tenant's Rego before it is compiled in this process, and
// tries those of the named rules that it has. It fails when it cannot look.
type Checker interface {
	Check(pkg, text string, rules []string) ([]sandbox.Problem, error)
}

// NewCompiler returns a Compiler that shares with no other. Rego compiles only
// after check has looked at it; nil trusts it, which is for tests and figures.
func NewCompiler(check Checker) *Compiler {
	return &Compiler{check: check, slots: make(chan struct{}, max(2, runtime.GOMAXPROCS(0)/2)), test: sync.OnceValues(func() (*rulesProgram, error) {
		return compileRules("package "+rulesPackage+"\n\nhit contains 0 if input.n0 == 1\nunsure contains 0 if input.g0\n", false)
	})}
}

// WithBackends returns c after telling it who can be asked. It is for setting c
// up: what was compiled before stays as it is.
func (c *Compiler) WithBackends(b Backends) *Compiler {
	c.backends = b
	return c
}

func (c *Compiler) translator() *translator {
	t := newTranslator(c.backends)
	t.noRows = c.noRows
	return t
}

// rulesProgram is a module of structured rules, ready to ask together with a
// table. both is nil when there is no rule in it.
type rulesProgram struct{ hit, both *sandbox.Query }

// take waits for a slot, and returns how to give it back.
func (c *Compiler) take() func() {
	c.slots <- struct{}{}
	return func() { <-c.slots }
}

// compileRules compiles what module returned. It has the sets, or is empty.
func compileRules(text string, empty bool) (*rulesProgram, error) {
	program, err := sandbox.Trusted(text)
	if err != nil {
		return nil, err
	}
	p, sets := &rulesProgram{}, []string{"hit"}
	if empty {
		sets = nil
	}
	if p.hit, err = program.TableQuery(sets...); err != nil {
		return nil, fmt.Errorf("compile rules: %w", err)
	}
	if !empty {
		if p.both, err = program.TableQuery("hit", "unsure"); err != nil {
			return nil, fmt.Errorf("compile rules: %w", err)
		}
	}
	program.Slim()
	return p, nil
}

// shared keeps programs by their text for as long as somebody holds them.
type shared[T any] struct {
	mu     sync.Mutex // guards byText
	byText map[[sha256.Size]byte]weak.Pointer[T]
}

// get returns the program of text, made by compile if there is none.
func (s *shared[T]) get(text string, compile func(string) (*T, error)) (*T, error) {
	key := sha256.Sum256([]byte(text))
	if p := s.find(key); p != nil {
		return p, nil
	}
	p, err := compile(text)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byText == nil {
		s.byText = map[[sha256.Size]byte]weak.Pointer[T]{}
	}
	s.byText[key] = weak.Make(p)
	if len(s.byText)%256 == 0 {
		for k, w := range s.byText {
			if w.Value() == nil {
				delete(s.byText, k)
			}
		}
	}
	return p, nil
}

func (s *shared[T]) find(key [sha256.Size]byte) *T {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.byText[key].Value()
}

// SelfTest judges something small: whether OPA works here at all.
func (c *Compiler) SelfTest() error {
	p, err := c.test()
	if err != nil {
		return err
	}
	in := ast.ObjectTerm(ast.Item(ast.StringTerm("n0"), ast.InternedTerm(1)))
	values, err := p.hit.Run(context.Background(), in, sandbox.Limits{Deadline: time.Second, Asked: &sandbox.Asked{Table: noTable}})
	if err != nil {
		return err
	}
	if set, ok := values[1].(ast.Set); !ok || set.Len() != 1 {
		return fmt.Errorf("a rule that holds did not match")
	}
	return nil
}
