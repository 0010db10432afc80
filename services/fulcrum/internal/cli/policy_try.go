package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	lifecyclev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policylifecycle/v1"
	"github.com/fulcrum-io/fulcrum/services/fulcrum/internal/policyfile"
	"github.com/fulcrum-io/fulcrum/services/fulcrum/internal/terminal"
)

// policiesAt are those of a folder, or the one of a file.
func (o *operator) policiesAt(cmd *cobra.Command, path string) ([]policyfile.File, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, usageError{err}
	}
	var files []policyfile.File
	if info.IsDir() {
		files, err = policyfile.ReadFolder(path)
	} else {
		var f policyfile.File
		f, err = policyfile.Read(filepath.Clean(path))
		files = append(files, f)
	}
	if err != nil {
		return nil, usageError{err}
	}
	for _, f := range files {
		for _, w := range f.Warnings {
			o.say(cmd, "warning: %s: %s", f.Path, w)
		}
	}
	return files, nil
}

// tried is what policy test says to programs.
type tried struct {
	Policies []triedPolicy `json:"policies"`
	Passed   bool          `json:"passed"`
}

type triedPolicy struct {
	Name     string      `json:"name"`
	File     string      `json:"file"`
	Passed   bool        `json:"passed"`
	Coverage float64     `json:"coverage_percent"`
	NotHit   []string    `json:"not_hit,omitempty"`
	Problems []string    `json:"problems,omitempty"`
	Tests    []triedTest `json:"tests"`
}

type triedTest struct {
	Name     string   `json:"name"`
	Passed   bool     `json:"passed"`
	Failures []string `json:"failures,omitempty"`
}

func (o *operator) policyTest() *cobra.Command {
	var least float64
	cmd := &cobra.Command{
		Use: "test DIR|FILE", Short: "Run the tests beside policy files", Args: arguments("DIR or FILE"),
		Long: `Run the tests of every policy in a folder, by the engine that will enforce them.
Nothing is stored. The tests of refunds.yaml or refunds.rego are in
refunds.tests.yaml:

  tests:
    - name: large refunds need a person
      input: {action: {kind: TOOL_CALL, name: issue_refund, arguments: {amount: 500}}}
      want: {decision: REQUIRE_APPROVAL, rules: [large]}

The exit code is 1 if a test fails, or reaches less of a policy than asked for.`,
		Example: "  fulcrum policy test policies --min-coverage 80",
	}
	cmd.Flags().Float64Var(&least, "min-coverage", 0, "percent of each policy with rules that its tests must reach")
	cmd.RunE = o.ask(func(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
		files, err := o.policiesAt(cmd, args[0])
		if err != nil {
			return err
		}
		doc, err := c.try(ctx, files, least)
		if err != nil {
			return err
		}
		if err := o.document(cmd, doc, func(out io.Writer, color bool) error { return writeTried(out, color, doc) }); err != nil {
			return err
		}
		if !doc.Passed {
			return answered(exitFailure)
		}
		o.next(cmd, "fulcrum policy simulate %s", args[0])
		return nil
	})
	return cmd
}

// try runs the tests of policies.
func (c *client) try(ctx context.Context, files []policyfile.File, least float64) (tried, error) {
	doc := tried{Policies: []triedPolicy{}, Passed: true}
	for _, f := range files {
		report, err := c.lifecycle.TestPolicy(ctx, &lifecyclev1.TestPolicyRequest{Policy: f.Policy})
		if err != nil {
			return doc, fmt.Errorf("test %s: %w", f.Path, err)
		}
		one := triedPolicy{Name: f.Policy.GetName(), File: f.Path, Passed: report.GetPassed(), Coverage: report.GetCoverage().GetPercent(), Tests: []triedTest{}}
		for _, p := range report.GetProblems() {
			one.Problems = append(one.Problems, problemText(p))
		}
		for _, r := range report.GetResults() {
			one.Tests = append(one.Tests, triedTest{Name: r.GetName(), Passed: r.GetPassed(), Failures: r.GetFailures()})
		}
		for _, r := range report.GetCoverage().GetRules() {
			if r.GetHits() == 0 {
				one.NotHit = append(one.NotHit, at(cmp.Or(r.GetRuleId(), r.GetName()), r.GetLine()))
			}
		}
		if least > 0 && one.Coverage < least {
			one.Passed = false
			one.Problems = append(one.Problems, fmt.Sprintf("the tests reach %.0f %% of it, less than %.0f %%", one.Coverage, least))
		}
		doc.Passed = doc.Passed && one.Passed
		doc.Policies = append(doc.Policies, one)
	}
	return doc, nil
}

func at(what string, line int32) string {
	if line == 0 {
		return what
	}
	return fmt.Sprintf("%s (line %d)", what, line)
}

func writeTried(out io.Writer, color bool, doc tried) error {
	t := terminal.NewTable("POLICY", "RESULT", ">TESTS", ">COVERAGE", "NOT REACHED")
	var details strings.Builder
	for _, p := range doc.Policies {
		result, passed := "pass", 0
		if !p.Passed {
			result = "FAIL"
		}
		for _, test := range p.Tests {
			if test.Passed {
				passed++
				continue
			}
			for _, failure := range test.Failures {
				fmt.Fprintf(&details, "\n%s: test %q: %s", p.Name, test.Name, failure)
			}
		}
		for _, problem := range p.Problems {
			fmt.Fprintf(&details, "\n%s: %s", p.Name, problem)
		}
		t.Row(p.Name, result, fmt.Sprintf("%d/%d", passed, len(p.Tests)), fmt.Sprintf("%.0f %%", p.Coverage), strings.Join(p.NotHit, ", "))
	}
	if err := t.Write(out, color); err != nil {
		return err
	}
	if details.Len() > 0 {
		_, err := io.WriteString(out, terminal.CleanLines(details.String())+"\n")
		return err
	}
	return nil
}

func problemText(p *lifecyclev1.Problem) string {
	where := p.GetField()
	if p.GetLine() > 0 {
		where = fmt.Sprintf("%s:%d:%d", where, p.GetLine(), p.GetColumn())
	}
	return where + ": " + p.GetMessage()
}

// finding is one line of what policy lint says.
type finding struct {
	File     string `json:"file"`
	Line     int32  `json:"line,omitempty"`
	Column   int32  `json:"column,omitempty"`
	Field    string `json:"field"`
	Rule     string `json:"rule_id,omitempty"`
	Check    string `json:"check,omitempty"`
	Severity string `json:"severity"`
	Message  string `json:"message"`
}

func (o *operator) policyLint() *cobra.Command {
	var strict bool
	cmd := &cobra.Command{
		Use: "lint DIR|FILE", Short: "Say what is wrong with policy files, and what is likely not meant", Args: arguments("DIR or FILE"),
		Long: `Say what does not compile, and what compiles and is likely not meant: rules that
are never reached, conditions that cannot hold together, fields that do not exist,
rules that nothing uses. Rego is named by line and column, structured rules by
their ids. The exit code is 1 if something does not compile; with --strict, also if
there is anything to say.`,
		Example: "  fulcrum policy lint policies --strict",
	}
	cmd.Flags().BoolVar(&strict, "strict", false, "warnings count as well")
	cmd.RunE = o.ask(func(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
		files, err := o.policiesAt(cmd, args[0])
		if err != nil {
			return err
		}
		all, wrong := []finding{}, false
		for _, f := range files {
			resp, err := c.lifecycle.LintPolicy(ctx, &lifecyclev1.LintPolicyRequest{Policy: f.Policy})
			if err != nil {
				return fmt.Errorf("lint %s: %w", f.Path, err)
			}
			for _, p := range resp.GetProblems() {
				path := f.Path
				if p.GetLine() > 0 {
					path = regoOf(f)
				}
				all = append(all, finding{
					File: path, Line: p.GetLine(), Column: p.GetColumn(), Field: p.GetField(), Rule: p.GetRuleId(), Check: p.GetCheck(),
					Severity: strings.ToLower(terminal.Word(p.GetSeverity())), Message: p.GetMessage(),
				})
				wrong = wrong || strict || p.GetSeverity() == lifecyclev1.Severity_SEVERITY_ERROR
			}
		}
		t := terminal.NewTable("WHERE", "RULE", "CHECK", "SEVERITY", "MESSAGE")
		for _, f := range all {
			where := filepath.Base(f.File) + ": " + f.Field
			if f.Line > 0 {
				where = fmt.Sprintf("%s:%d:%d", filepath.Base(f.File), f.Line, f.Column)
			}
			t.Row(where, f.Rule, f.Check, f.Severity, f.Message)
		}
		if err := o.document(cmd, map[string]any{"findings": all}, t.Write); err != nil {
			return err
		}
		if wrong {
			return answered(exitFailure)
		}
		if len(all) == 0 {
			o.say(cmd, "nothing to say")
		}
		return nil
	})
	return cmd
}

// regoOf is the file that a policy's Rego is in.
func regoOf(f policyfile.File) string {
	beside := strings.TrimSuffix(f.Path, filepath.Ext(f.Path)) + ".rego"
	if _, err := os.Stat(beside); err == nil {
		return beside
	}
	return f.Path
}

func (o *operator) policyFormat() *cobra.Command {
	var check bool
	cmd := &cobra.Command{
		Use: "fmt DIR|FILE", Short: "Format the Rego of policy files", Args: arguments("DIR or FILE"),
		Long: `Write .rego files as OPA's formatter does. With --check nothing is written, and the
exit code is 1 if something would be.`,
		Example: "  fulcrum policy fmt policies --check",
	}
	cmd.Flags().BoolVar(&check, "check", false, "only say which files would change")
	cmd.RunE = o.ask(func(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
		files, err := o.policiesAt(cmd, args[0])
		if err != nil {
			return err
		}
		doc := changes{Changes: []change{}}
		t := terminal.NewTable("FILE")
		for _, f := range files {
			path := regoOf(f)
			if f.Policy.GetRego() == "" || filepath.Ext(path) != ".rego" {
				continue
			}
			resp, err := c.lifecycle.LintPolicy(ctx, &lifecyclev1.LintPolicyRequest{Policy: f.Policy})
			if err != nil {
				return fmt.Errorf("format %s: %w", path, err)
			}
			text := resp.GetFormattedRego()
			if text == "" {
				o.say(cmd, "%s does not parse: fulcrum policy lint %s", path, args[0])
				continue
			}
			if text == f.Policy.GetRego() {
				continue
			}
			if !check {
				if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
					return err
				}
			}
			doc.Changes = append(doc.Changes, change{Action: "formatted", Name: f.Policy.GetName(), File: path, Applied: !check})
			t.Row(filepath.Base(path))
		}
		if err := o.document(cmd, doc, t.Write); err != nil {
			return err
		}
		if check && t.Len() > 0 {
			return answered(exitFailure)
		}
		return nil
	})
	return cmd
}
