package policy

import (
	"fmt"

	"github.com/open-policy-agent/opa/v1/ast"
	"google.golang.org/protobuf/types/known/structpb"

	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
)

// document builds the facts as a Rego policy sees them, under the names that
// conditions use. What is unknown is absent. tool is the one that is judged.
func (v *view) document(tool string) (*ast.Term, error) {
	c := &converter{left: maxFacts}
	doc := ast.NewObjectWithCapacity(14)
	f := v.facts
	put(doc, "tenant", pair("id", textTerm(v.tenant)))
	put(doc, "workflow", pair("id", textTerm(f.GetWorkflowId())))
	put(doc, "envelope", pair("id", textTerm(f.GetEnvelopeId())))
	put(doc, "agent", pair("id", textTerm(f.GetAgentId())), pair("team", textTerm(f.GetAgentTeam())))
	put(doc, "user", pair("id", textTerm(f.GetUserId())), pair("roles", textsTerm(f.GetUserRoles())))
	put(doc, "model", pair("id", textTerm(v.model)))
	put(doc, "tool", pair("name", textTerm(tool)), pair("names", textsTerm(v.tools)))
	put(doc, "input", pair("text", givenText(f.InputText)))
	put(doc, "output", pair("text", givenText(f.OutputText)))
	if v.phase != policyv1.ExecutionPhase_EXECUTION_PHASE_UNSPECIFIED {
		put(doc, "phase", pair("type", textTerm(short(v.phase))))
	}
	doc.Insert(ast.StringTerm("attribute"), v.attributes(c))
	if a := f.GetAction(); a != nil {
		put(doc, "action",
			pair("kind", v.lookup(need{field: field{source: actionKind}, kinds: text}, tool)), pair("name", textTerm(a.GetName())),
			pair("model", textTerm(a.GetModel())), pair("resource", textTerm(a.GetResource())),
			pair("args", c.object(a.GetArguments(), 0)))
	}
	if e := f.GetEstimate(); e != nil {
		put(doc, "estimate",
			pair("cost_usd", estimateTerm(e, estimateCost)), pair("tokens", estimateTerm(e, estimateTokens)),
			pair("input_tokens", estimateTerm(e, estimateInput)), pair("max_output_tokens", estimateTerm(e, estimateOutput)),
			pair("tool_calls", estimateTerm(e, estimateCalls)), pair("seconds", estimateTerm(e, estimateSeconds)))
	}
	budgets := ast.NewObjectWithCapacity(len(f.GetBudgetUsedPercent()))
	for _, facts := range []map[string]float64{f.GetBudgetUsedPercent(), f.GetBudgetRemainingUsd()} {
		for name := range facts {
			used, left := v.lookup(need{field: field{source: budgetUsed, key: name}}, tool), v.lookup(need{field: field{source: budgetLeft, key: name}}, tool)
			put(budgets, name, pair("used_percent", used), pair("remaining_usd", left))
		}
	}
	doc.Insert(ast.StringTerm("budget"), ast.NewTerm(budgets))
	if len(f.GetHistory()) > 0 {
		counts := ast.NewObjectWithCapacity(len(f.GetHistory()))
		for name, n := range f.GetHistory() {
			if t, ok := floatTerm(n); ok {
				counts.Insert(ast.StringTerm(name), t)
			}
		}
		doc.Insert(ast.StringTerm("history"), ast.NewTerm(counts))
	}
	if !v.local.IsZero() {
		put(doc, "time",
			pair("unix_ns", intTerm(f.GetTimeUnixNano())), pair("hour", intTerm(int64(v.local.Hour()))),
			pair("weekday", weekdayTerm(v.local.Weekday(), need{kinds: text})))
	}
	return ast.NewTerm(doc), c.err
}

// attributes are the text ones over the structured ones.
func (v *view) attributes(c *converter) *ast.Term {
	all := ast.NewObjectWithCapacity(len(v.facts.GetAttributes()))
	for key, e := range v.facts.GetExtra().GetFields() {
		all.Insert(ast.StringTerm(key), c.value(e, 0))
	}
	for key, s := range v.facts.GetAttributes() {
		all.Insert(ast.StringTerm(key), ast.StringTerm(s))
	}
	return ast.NewTerm(all)
}

func pair(key string, t *ast.Term) [2]*ast.Term { return [2]*ast.Term{ast.StringTerm(key), t} }

// put adds an object of the pairs that have a value.
func put(doc ast.Object, key string, pairs ...[2]*ast.Term) {
	o := ast.NewObjectWithCapacity(len(pairs))
	for _, p := range pairs {
		if p[1] != nil {
			o.Insert(p[0], p[1])
		}
	}
	if o.Len() > 0 {
		doc.Insert(ast.StringTerm(key), ast.NewTerm(o))
	}
}

// Limits of the facts that are converted to Rego as a whole.
const (
	maxFacts      = 20_000 // values
	maxFactsDepth = 32
)

// converter turns protobuf values into Rego ones, within limits.
type converter struct {
	left int
	err  error
}

func (c *converter) value(v *structpb.Value, depth int) *ast.Term {
	if c.left--; c.left < 0 || depth > maxFactsDepth {
		c.err = fmt.Errorf("facts hold more than %d values or nest deeper than %d", maxFacts, maxFactsDepth)
		return ast.NullTerm()
	}
	switch k := v.GetKind().(type) {
	case *structpb.Value_StringValue:
		return ast.StringTerm(k.StringValue)
	case *structpb.Value_NumberValue:
		if t, ok := floatTerm(k.NumberValue); ok {
			return t
		}
		c.err = fmt.Errorf("facts hold a number that is not finite")
	case *structpb.Value_BoolValue:
		return ast.InternedTerm(k.BoolValue)
	case *structpb.Value_StructValue:
		return c.object(k.StructValue, depth)
	case *structpb.Value_ListValue:
		terms := make([]*ast.Term, 0, len(k.ListValue.GetValues()))
		for _, e := range k.ListValue.GetValues() {
			terms = append(terms, c.value(e, depth+1))
			if c.err != nil {
				break
			}
		}
		return ast.ArrayTerm(terms...)
	}
	return ast.NullTerm()
}

func (c *converter) object(s *structpb.Struct, depth int) *ast.Term {
	o := ast.NewObjectWithCapacity(len(s.GetFields()))
	for key, e := range s.GetFields() {
		if o.Insert(ast.StringTerm(key), c.value(e, depth+1)); c.err != nil {
			break
		}
	}
	return ast.NewTerm(o)
}
