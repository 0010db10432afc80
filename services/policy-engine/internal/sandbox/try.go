package sandbox

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
)

// canaryDeadline is what a module gets for one of its sets on plain facts.
const canaryDeadline = 20 * time.Millisecond

// Try compiles a module and asks it for those of the named rules it has, on made
// up facts. It returns what is wrong, and as an error also what runs into its
// deadline on facts as plain as these. It is not bounded in time or memory.
func Try(pkg, text string, rules []string) []Problem {
	m, problems := Compile(pkg, text)
	if m == nil {
		return problems
	}
	for _, r := range m.Rules() {
		name := r.Head.Ref()[0].String()
		if i := slices.Index(rules, name); i >= 0 && len(r.Head.Args) == 0 {
			rules = slices.Delete(slices.Clone(rules), i, i+1)
			if err := m.canary(name); errors.Is(err, ErrTimeout) {
				problems = append(problems, locate(r.Location, "%s takes more than %v on plain facts", name, canaryDeadline))
			}
		}
	}
	return problems
}

// canary asks for one rule. Errors other than of time are the policy's own: facts
// are made up, so it may miss some.
func (m *Module) canary(rule string) error {
	q, err := m.Query(rule)
	if err != nil {
		return fmt.Errorf("prepare canary: %w", err)
	}
	for range 3 { // time may pass without any work
		_, err = q.Run(context.Background(), canaryFacts(), Limits{Deadline: canaryDeadline, Hard: 10 * canaryDeadline})
		if !errors.Is(err, ErrTimeout) {
			return err
		}
	}
	return err
}

// canaryFacts are a tool call with lists and texts of a usual size.
func canaryFacts() *ast.Term {
	words := make([]any, 16)
	for i := range words {
		words[i] = fmt.Sprintf("word-%d", i)
	}
	return ast.NewTerm(ast.MustInterfaceToValue(map[string]any{
		"tenant": map[string]any{"id": "t"}, "agent": map[string]any{"id": "a", "team": "team"},
		"user": map[string]any{"id": "u", "roles": []any{"analyst", "admin"}}, "workflow": map[string]any{"id": "w"},
		"envelope": map[string]any{"id": "e"}, "model": map[string]any{"id": "gpt-4o"}, "phase": map[string]any{"type": "PRE_TOOL_CALL"},
		"tool":   map[string]any{"name": "send_email", "names": []any{"send_email"}},
		"input":  map[string]any{"text": strings.Repeat("a plain sentence of words. ", 40)},
		"output": map[string]any{"text": strings.Repeat("and an answer. ", 40)}, "attribute": map[string]any{"region": "eu", "list": words},
		"action": map[string]any{"kind": "TOOL_CALL", "name": "send_email", "args": map[string]any{
			"to": "finance@example.com", "amount": 120, "query": "select 1", "items": words, "text": strings.Repeat("x", 1000)}},
		"estimate": map[string]any{"cost_usd": 0.01, "tokens": 900, "input_tokens": 600, "max_output_tokens": 300, "tool_calls": 1, "seconds": 1},
		"budget":   map[string]any{"monthly": map[string]any{"used_percent": 50}},
		"time":     map[string]any{"unix_ns": 1795000000000000000, "hour": 14, "weekday": "monday"},
	}))
}
