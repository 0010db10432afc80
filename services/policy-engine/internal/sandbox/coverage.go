package sandbox

import (
	"slices"
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/cover"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// Coverage notes which parts of one module are evaluated by the runs it is
// given to. Those runs take about twice as long.
type Coverage struct {
	lines *cover.Cover

	mu   sync.Mutex   // guards hits
	hits map[spot]int // rules that held, by the place of their head
	run  map[spot]bool
}

// spot is a place in a module.
type spot struct{ row, col int }

// NewCoverage returns an empty Coverage.
func NewCoverage() *Coverage {
	return &Coverage{lines: cover.New(), hits: map[spot]int{}, run: map[spot]bool{}}
}

// Enabled implements topdown.QueryTracer.
func (c *Coverage) Enabled() bool { return true }

// Config implements topdown.QueryTracer.
func (c *Coverage) Config() topdown.TraceConfig { return c.lines.Config() }

// TraceEvent implements topdown.QueryTracer.
func (c *Coverage) TraceEvent(e topdown.Event) {
	c.lines.TraceEvent(e)
	if r, ok := e.Node.(*ast.Rule); ok && e.Op == topdown.ExitOp && r.Head.Location != nil {
		c.mu.Lock()
		c.run[spot{r.Head.Location.Row, r.Head.Location.Col}] = true
		c.mu.Unlock()
	}
}

// Next ends a case: whatever held in it counts once.
func (c *Coverage) Next() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for at := range c.run {
		c.hits[at]++
	}
	clear(c.run)
}

// RuleHits is a rule and how many cases it held in.
type RuleHits struct {
	Name string
	Line int
	Hits int
}

// Report says how often each rule of the module held, the share of its lines
// that was evaluated in percent, and the lines that were not. The text must be
// that of the module the runs were of, and compile.
func (c *Coverage) Report(text string) (rules []RuleHits, percent float64, missed []int) {
	m, problems := parse(text)
	if len(problems) > 0 {
		return nil, 0, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range m.Rules {
		if at := r.Head.Location; !r.Default && at != nil {
			rules = append(rules, RuleHits{Name: r.Head.Ref()[0].String(), Line: at.Row, Hits: c.hits[spot{at.Row, at.Col}]})
		}
	}
	report := c.lines.Report(map[string]*ast.Module{moduleFile: m})
	if file := report.Files[moduleFile]; file != nil {
		for _, r := range file.NotCovered {
			for row := r.Start.Row; row <= r.End.Row; row++ {
				if !file.IsCovered(row) {
					missed = append(missed, row)
				}
			}
		}
	}
	slices.Sort(missed)
	return rules, report.Coverage, slices.Compact(missed)
}
