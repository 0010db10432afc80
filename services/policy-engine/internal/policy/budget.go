package policy

import (
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

const (
	usedSuffix = ".used_percent"
	leftSuffix = ".remaining_usd"
	// maxBudgets is how many names a tenant's policies may ask about as budgets;
	// the standing of others stays unknown.
	maxBudgets = 256
	// maxBudgetName is how long the name of a budget can be.
	maxBudgetName = 256
)

// budgetNames are the budgets that policies ask about, those in the shadow too.
func (s *Set) budgetNames(t *translator) (names []string) {
	add := func(more ...string) {
		for _, name := range more {
			if !slices.Contains(names, name) && len(names) < maxBudgets {
				names = append(names, name)
			}
		}
	}
	add(budgetsOf(t.needs)...)
	policies := slices.Clone(s.policies)
	for _, h := range s.shadows {
		add(h.budgets...)
		policies = append(policies, h.alone.policies...)
	}
	for _, p := range policies {
		if p.rego != nil {
			add(p.rego.budgets...)
		}
	}
	return names
}

func budgetsOf(needs []need) (names []string) {
	for _, n := range needs {
		if n.field.source == budgetUsed || n.field.source == budgetLeft {
			names = append(names, n.field.key)
		}
	}
	return names
}

// literalBudgets are the names that a module may look up among the budgets: if it
// looks there at all, every text in it. What it computes is not found, and is
// unknown to it.
func literalBudgets(rules []*ast.Rule) (names []string) {
	looks, seen := false, map[string]bool{}
	add := func(name string) {
		if name != "" && len(name) <= maxBudgetName && len(names) < maxBudgets && !seen[name] {
			names, seen[name] = append(names, name), true
		}
	}
	for _, r := range rules {
		ast.WalkTerms(r, func(t *ast.Term) bool {
			text, ok := t.Value.(ast.String)
			if !ok {
				return false
			}
			looks = looks || text == "budget"
			if path, ok := strings.CutPrefix(string(text), "budget."); ok {
				looks = true
				path, _ = strings.CutSuffix(path, usedSuffix)
				path, _ = strings.CutSuffix(path, leftSuffix)
				add(path)
				return false
			}
			add(string(text))
			return false
		})
	}
	if !looks {
		return nil
	}
	return slices.DeleteFunc(names, func(name string) bool { return name == "budget" || "."+name == usedSuffix || "."+name == leftSuffix })
}
