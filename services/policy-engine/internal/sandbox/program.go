package sandbox

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/metrics"
	"github.com/open-policy-agent/opa/v1/topdown"
	"github.com/open-policy-agent/opa/v1/topdown/cache"
)

// ErrTimeout says that an evaluation was stopped at its deadline.
var ErrTimeout = errors.New("evaluation took too long")

// ErrQuarantined says that a program is not run for now, because it kept
// running into its deadline.
var ErrQuarantined = errors.New("policy is quarantined after repeated timeouts")

// Program is compiled Rego, immutable and safe for concurrent use.
type Program struct {
	compiler  *ast.Compiler
	pkg       ast.Ref
	generated bool // by this service: its errors are ours, and nobody asks for their line
}

// Query asks a Program for some of its rules.
type Query struct {
	program *Program
	body    ast.Body
	vars    []ast.Var
}

// Query prepares asking for the named rules of p's package.
func (p *Program) Query(rules ...string) (*Query, error) {
	terms := make([]*ast.Term, len(rules))
	for i, rule := range rules {
		terms[i] = ast.NewTerm(p.pkg.Append(ast.StringTerm(rule)))
	}
	return p.query(terms)
}

// TableQuery prepares asking for the lines of a table, as Rows returns them, and
// for the named rules of p's package.
func (p *Program) TableQuery(rules ...string) (*Query, error) {
	terms := []*ast.Term{ast.CallTerm(ast.NewTerm(ast.MustParseRef(Rows)))}
	for _, rule := range rules {
		terms = append(terms, ast.NewTerm(p.pkg.Append(ast.StringTerm(rule))))
	}
	return p.query(terms)
}

func (p *Program) query(terms []*ast.Term) (*Query, error) {
	q := &Query{program: p}
	for i, t := range terms {
		v := ast.Var(fmt.Sprintf("r%d", i))
		q.vars = append(q.vars, v)
		q.body.Append(ast.Equality.Expr(ast.NewTerm(v), t))
	}
	body, err := p.compiler.QueryCompiler().Compile(q.body)
	if err != nil {
		return nil, fmt.Errorf("prepare query of %s: %w", p.pkg, err)
	}
	q.body = body
	return q, nil
}

// Limits of one run. Deadline stops a run that has done some work; Hard, if it
// is later, stops one that has not had the chance.
type Limits struct {
	Deadline time.Duration
	Hard     time.Duration
	// Breaker may refuse to run tenant-written code; nil for our own.
	Breaker *Breaker
	// Asked is what fulcrum.rows answers; nil where nothing asks.
	Asked *Asked
	// Coverage, if there is one, is told what is evaluated.
	Coverage *Coverage
}

// Run evaluates q and returns the value of each rule in the order asked for,
// nil for one that is undefined. It fails with ErrTimeout, ErrQuarantined, or an
// error of the evaluation; a panic inside OPA is such an error. It does not
// watch ctx.
func (q *Query) Run(ctx context.Context, input *ast.Term, l Limits) (values []ast.Value, err error) {
	hard := max(l.Deadline, l.Hard)
	now := time.Now()
	c := &clock{soft: now.Add(l.Deadline), hard: now.Add(hard), asks: l.Asked}
	if l.Breaker != nil {
		if l.Breaker.open(now) {
			return nil, ErrQuarantined
		}
		// OPA looks at the deadline between expressions only. Whatever still runs
		// long after it cannot be stopped in Go; at least nothing joins it.
		barked := make(chan struct{})
		watchdog := time.AfterFunc(hard+stuckAfter, func() {
			defer close(barked)
			l.Breaker.trip(time.Now())
			stuck.Add(1)
		})
		defer func() {
			if !watchdog.Stop() {
				<-barked
				stuck.Add(-1)
			}
		}()
	}
	defer func() {
		if r := recover(); r != nil {
			values, err = nil, fmt.Errorf("evaluation panicked: %v at %s", r, frame(debug.Stack()))
		}
	}()

	query := topdown.NewQuery(q.body).
		WithCompiler(q.program.compiler).
		WithInput(input).
		WithCancel(c).
		WithTime(epoch).
		WithMetrics(metrics.NoOp()).
		WithBaseCache(noBase{}).
		WithStrictBuiltinErrors(true).
		WithInterQueryBuiltinValueCache(patterns())
	if l.Coverage != nil {
		// What an index skips or an early exit leaves out would count as missed.
		query = query.WithQueryTracer(l.Coverage).WithIndexing(false).WithEarlyExit(false)
	}
	err = query.Iter(ctx, func(r topdown.QueryResult) error {
		if values == nil {
			values = make([]ast.Value, len(q.vars))
		}
		for i, v := range q.vars {
			if t := r[v]; t != nil {
				values[i] = t.Value
			}
		}
		return nil
	})
	switch {
	case err != nil && (c.fired || topdown.IsCancel(err)):
		return nil, ErrTimeout
	case err != nil:
		return nil, clean(err)
	case values == nil:
		values = make([]ast.Value, len(q.vars))
	}
	return values, nil
}

// epoch is the engine's idea of now: none. Time comes with the facts.
var epoch = time.Unix(0, 1)

// maxMessage bounds the text of an error: OPA quotes whole operands.
const maxMessage = 500 // bytes

// clean keeps OPA's message and place, without its codes.
func clean(err error) error {
	var e *topdown.Error
	if !errors.As(err, &e) {
		return err
	}
	message := e.Message
	if len(message) > maxMessage {
		message = strings.ToValidUTF8(message[:maxMessage], "") + "…"
	}
	if e.Location == nil || e.Location.Row == 0 {
		return errors.New(message)
	}
	return fmt.Errorf("line %d: %s", e.Location.Row, message)
}

// frame names the place of a panic, without the whole stack.
func frame(stack []byte) string {
	lines := strings.Split(string(stack), "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, "panic(") && i+3 < len(lines) {
			return strings.TrimSpace(lines[i+3])
		}
	}
	return "an unknown place"
}

// noBase is a base cache that keeps nothing: there is no base data to cache.
type noBase struct{}

func (noBase) Get(ast.Ref) ast.Value  { return nil }
func (noBase) Put(ast.Ref, ast.Value) {}

// patterns caches compiled regular expressions and globs over all programs.
var patterns = sync.OnceValue(func() cache.InterQueryValueCache {
	entries := 10_000
	return cache.NewInterQueryValueCache(context.Background(), &cache.Config{
		InterQueryBuiltinValueCache: cache.InterQueryBuiltinValueCacheConfig{MaxNumEntries: &entries},
	})
})
