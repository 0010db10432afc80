package policy

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"

	"github.com/fulcrum-io/fulcrum/services/policy-engine/internal/sandbox"
)

// unit is structured rules compiled together.
type unit struct {
	program *rulesProgram
	table   *sandbox.Table // of the lines that are rows
	lines   []line
	scopes  []*policyv1.PolicyScope
	needs   []need
	gaps    []gap
	perTool bool   // some line asks for tool.name
	inRego  []bool // the needs that rules ask for, and so the input has

	needKeys, scopeKeys, gapKeys []*ast.Term
}

// noTable has no rows.
var noTable = &sandbox.Table{}

// unit compiles what t has. Tenants whose rules say the same in all but the
// policies' names share one.
func (c *Compiler) unit(t *translator) (*unit, error) {
	module := t.module()
	return c.units.get(module+t.signature(), func(string) (*unit, error) { return c.newUnit(module, t) })
}

// signature tells units of one module apart: what they answer, and what their
// facts are.
func (t *translator) signature() string {
	var b strings.Builder
	for _, l := range t.lines {
		m := l.match
		fmt.Fprintf(&b, "%d %v %v %q %q %d %q\n", l.rule, l.needs, l.spikes, m.GetRuleId(), m.GetRuleName(), m.GetPriority(), m.GetMatchedConditions())
	}
	fmt.Fprintf(&b, "%d %#v %v\n", t.rules, t.needs, t.gaps)
	for _, s := range t.scopes {
		fmt.Fprintln(&b, scopeKey(s))
	}
	for _, r := range t.rows {
		fmt.Fprint(&b, r.Line, " ", r.Scope)
		for _, one := range r.Tests {
			fmt.Fprint(&b, " ", one.Fact, " ", one.Op, " ", one.Not, len(one.With))
			for _, v := range one.With {
				fmt.Fprintf(&b, " %T %q", v, v.String()) // 5 is not "5"
			}
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func (c *Compiler) newUnit(module string, t *translator) (*unit, error) {
	p, err := c.modules.get(module, func(text string) (*rulesProgram, error) { return compileRules(text, t.hit.Len() == 0) })
	if err != nil {
		return nil, err
	}
	u := &unit{
		program: p, inRego: make([]bool, len(t.needs)), lines: t.lines, scopes: t.scopes, needs: t.needs, gaps: t.gaps,
		needKeys: keys("n", len(t.needs)), scopeKeys: keys("s", len(t.scopes)), gapKeys: keys("g", len(t.gaps)),
	}
	for _, n := range t.needs {
		u.perTool = u.perTool || n.field.source == toolName && n.kinds != 0
	}
	for no := range t.inRego {
		u.inRego[no] = true
	}
	if u.table, err = sandbox.NewTable(t.rows); err != nil {
		return nil, fmt.Errorf("lay out rules: %w", err)
	}
	return u, nil
}

func keys(prefix string, n int) []*ast.Term {
	terms := make([]*ast.Term, n)
	for i := range terms {
		terms[i] = ast.StringTerm(prefix + strconv.Itoa(i))
	}
	return terms
}

// verdict is what is known of the rules of a unit after a run: those that hold
// or are unsure, by their number.
type verdict struct {
	found map[int]finding
	view  *view // what was judged
}

type finding struct {
	truth truth
	line  int    // the first that holds, or is unsure
	lacks string // what an unsure one lacks
}

type truth uint8

const (
	no truth = iota
	unsure
	yes
)

// rulesDeadline bounds the structured rules of one request together. They hold no
// loops of a tenant's making; what takes long is regular expressions on long
// texts. What is left of the request's time goes to judging each policy alone.
const rulesDeadline = 40 * time.Millisecond

// run judges v. With several tools it judges each by itself and keeps the
// strongest truth, so that none hides behind another.
func (u *unit) run(ctx context.Context, v *view, soft time.Duration, end time.Time) (*verdict, error) {
	out := &verdict{view: v}
	if !u.perTool || len(v.tools) < 2 {
		tool := ""
		if len(v.tools) > 0 {
			tool = v.tools[0]
		}
		return out, u.judge(ctx, v, tool, sandbox.Limits{Deadline: soft, Hard: time.Until(end)}, out)
	}
	stop := time.Now().Add(soft)
	for _, tool := range v.tools {
		if err := u.judge(ctx, v, tool, sandbox.Limits{Deadline: time.Until(stop), Hard: time.Until(end)}, out); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (u *unit) judge(ctx context.Context, v *view, tool string, limits sandbox.Limits, out *verdict) error {
	asked := &sandbox.Asked{Table: u.table, Facts: make([]sandbox.Fact, len(u.needs)), Scopes: make([]bool, len(u.scopes))}
	limits.Asked = asked
	var in ast.Object // for rules
	if u.program.both != nil {
		in = ast.NewObjectWithCapacity(len(u.needs) + len(u.scopes) + 2)
	}
	for i, s := range u.scopes {
		if asked.Scopes[i] = v.inScope(s); asked.Scopes[i] && in != nil {
			in.Insert(u.scopeKeys[i], ast.InternedTerm(true))
		}
	}
	var lacking, excluded []bool
	for i, n := range u.needs {
		t, state := v.value(n, tool)
		switch state {
		case known:
			asked.Facts[i] = sandbox.KnownFact(t.Value)
			if u.inRego[i] {
				in.Insert(u.needKeys[i], t)
			}
		case unknown:
			if lacking == nil {
				lacking = make([]bool, len(u.needs))
			}
			lacking[i] = true
		case inapplicable:
			asked.Facts[i] = sandbox.NoFact()
			if excluded == nil {
				excluded = make([]bool, len(u.needs))
			}
			excluded[i] = true
		}
	}
	q := u.program.hit
	var input *ast.Term
	if in != nil {
		if lacking != nil && u.openGaps(in, lacking, excluded) {
			q = u.program.both
		}
		input = ast.NewTerm(in)
	}
	values, err := q.Run(ctx, input, limits)
	if err != nil {
		return err
	}
	lacks := func(no int) string {
		for _, n := range u.lines[no].needs {
			if lacking[n] {
				return v.explain(u.needs[n], tool)
			}
		}
		return "a fact is unknown"
	}
	return u.read(out, values, lacks)
}

// read raises the rules whose lines hold, and then those whose lines are unsure.
func (u *unit) read(out *verdict, values []ast.Value, lacks func(int) string) error {
	rows, ok := values[0].(*ast.Array)
	if !ok || rows.Len() != 2 {
		return fmt.Errorf("the table gave no two lists of lines")
	}
	if err := u.mark(out, rows.Elem(0).Value, yes, nil); err != nil {
		return err
	}
	if err := u.mark(out, rows.Elem(1).Value, unsure, lacks); err != nil {
		return err
	}
	for i, v := range values[1:] {
		var err error
		if i == 0 {
			err = u.mark(out, v, yes, nil)
		} else {
			err = u.mark(out, v, unsure, lacks)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (u *unit) openGaps(in ast.Object, lacking, excluded []bool) (open bool) {
	for i, g := range u.gaps {
		if hasAny(lacking, g.any) && !hasAny(excluded, g.none) {
			in.Insert(u.gapKeys[i], ast.InternedTerm(true))
			open = true
		}
	}
	return open
}

func hasAny(set []bool, members []int) bool {
	if set == nil {
		return false
	}
	for _, m := range members {
		if set[m] {
			return true
		}
	}
	return false
}

// mark raises the rules of a set of lines to t. It leaves what is higher, and of
// several lines it keeps the first.
func (u *unit) mark(out *verdict, v ast.Value, t truth, lacks func(int) string) error {
	lines, ok := v.(interface{ Foreach(func(*ast.Term)) })
	if !ok {
		return fmt.Errorf("rules gave no set of lines")
	}
	var err error
	lines.Foreach(func(e *ast.Term) {
		n, ok := e.Value.(ast.Number)
		no, whole := n.Int()
		if !ok || !whole || no < 0 || no >= len(u.lines) {
			err = fmt.Errorf("rules gave a line that does not exist")
			return
		}
		f := out.found[u.lines[no].rule]
		if f.truth < t || f.truth == t && no < f.line {
			f = finding{truth: t, line: no}
			if lacks != nil {
				f.lacks = lacks(no)
			}
			if out.found == nil {
				out.found = map[int]finding{}
			}
			out.found[u.lines[no].rule] = f
		}
	})
	return err
}
