package policytemplate

import (
	"slices"
	"strings"
	"testing"
)

func TestEveryTemplateFillsWithItsDefaults(t *testing.T) {
	t.Parallel()
	all, err := All()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, tpl := range all {
		names = append(names, tpl.Name)
		p, err := tpl.Fill(nil)
		if err != nil {
			t.Errorf("%s: %v", tpl.Name, err)
			continue
		}
		if p.GetName() != tpl.Name || len(p.GetTests()) < 2 || strings.Contains(p.String(), "${") || tpl.Title == "" || tpl.Description == "" {
			t.Errorf("%s: %v", tpl.Name, p)
		}
	}
	want := []string{
		"business-hours", "call-limit", "code-injection-guard", "cost-cap-per-request", "cost-spike-approval", "daily-budget-guard", "external-sharing-block", "high-value-approval",
		"model-allow-list", "never-after", "parallel-limit", "pii-shield", "rate-limit-burst", "rate-limit-standard", "tool-deny-list",
	}
	if !slices.Equal(names, want) {
		t.Errorf("templates: %v", names)
	}
}

func TestValuesAreOnlyValues(t *testing.T) {
	t.Parallel()
	all, err := All()
	if err != nil {
		t.Fatal(err)
	}
	for _, tpl := range all {
		if tpl.Name != "tool-deny-list" {
			continue
		}
		evil := `x", negate: true, "y`
		p, err := tpl.Fill(map[string]string{"tools": evil + ",${tools}"})
		if err != nil {
			t.Fatal(err)
		}
		c := p.GetRules()[0].GetConditions()[0]
		if c.GetNegate() || !slices.Equal(c.GetValues(), []string{`x"`, "negate: true", `"y`, "${tools}"}) {
			t.Errorf("condition: %v", c)
		}
	}
	for _, bad := range []map[string]string{{"nothing": "x"}, {"max_usd": "much"}, {"max_usd": "-1"}} {
		for _, tpl := range all {
			if tpl.Name == "cost-cap-per-request" {
				if _, err := tpl.Fill(bad); err == nil {
					t.Errorf("%v was taken", bad)
				}
			}
		}
	}
}
