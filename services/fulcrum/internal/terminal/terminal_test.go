package terminal

import (
	"strings"
	"testing"

	costv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/cost/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
)

func TestTablesAreAligned(t *testing.T) {
	t.Parallel()
	table := NewTable("NAME", ">COST", "STATUS")
	table.Row("größer", "$1.00", "ACTIVE")
	table.Row("x", "$100.25", "")
	var b strings.Builder
	if err := table.Write(&b, false); err != nil {
		t.Fatal(err)
	}
	want := "" +
		"NAME       COST  STATUS\n" +
		"größer    $1.00  ACTIVE\n" +
		"x       $100.25  -\n"
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
	b.Reset()
	if err := table.Write(&b, true); err != nil {
		t.Fatal(err)
	}
	if got := b.String(); !strings.Contains(got, green+"ACTIVE"+reset) || strings.Contains(got, green+"x") {
		t.Errorf("colours: %q", got)
	}
}

func TestAnEmptyTableIsSilent(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	if err := NewTable("NAME").Write(&b, false); err != nil || b.Len() > 0 {
		t.Errorf("wrote %q, %v", b.String(), err)
	}
}

func TestTextCannotSteerTheTerminal(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"plain äöü 漢字":           "plain äöü 漢字",
		"red \x1b[31m":           `red \x1b[31m`,
		"two\nlines\r\x07":       `two\nlines\r\a`,
		"turned \u202e":          `turned \u202e`,
		"hidden \u200b":          `hidden \u200b`,
		"bad \xff bytes":         `bad \xff bytes`,
		"c1 \u009b31m":           `c1 \u009b31m`,
		"replacement \ufffd yes": "replacement \ufffd yes",
	} {
		if got := Clean(in); got != want {
			t.Errorf("Clean(%q) = %q, want %q", in, got, want)
		}
	}
	if got := CleanLines("a:\n\tb\x1b"); got != "a:\n\tb\\x1b" {
		t.Errorf("CleanLines = %q", got)
	}
}

func TestEnumsAreShortWords(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ got, want string }{
		{Word(policyv1.PolicyStatus_POLICY_STATUS_ACTIVE), "ACTIVE"},
		{Word(policyv1.PolicyStatus_POLICY_STATUS_UNSPECIFIED), ""},
		{Word(costv1.BudgetStatusType_BUDGET_STATUS_TYPE_EXCEEDED), "EXCEEDED"},
		{Word(costv1.SpendGroupBy_SPEND_GROUP_BY_API_KEY), "API_KEY"},
		{Word(policyv1.PolicyStatus(77)), "77"},
	} {
		if tt.got != tt.want {
			t.Errorf("%q, want %q", tt.got, tt.want)
		}
	}
}

func TestJSONIsStableAndComplete(t *testing.T) {
	t.Parallel()
	var a, b strings.Builder
	p := &policyv1.Policy{Name: "<p>", Rules: []*policyv1.PolicyRule{{RuleId: "r"}}}
	if err := JSON(&a, p); err != nil {
		t.Fatal(err)
	}
	if err := JSON(&b, p); err != nil {
		t.Fatal(err)
	}
	if a.String() != b.String() || !strings.Contains(a.String(), "\n  \"policy_id\": \"\",\n") || !strings.Contains(a.String(), `"<p>"`) {
		t.Errorf("got %s", a.String())
	}
}
