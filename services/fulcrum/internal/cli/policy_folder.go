package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	"github.com/fulcrum-io/fulcrum/services/fulcrum/internal/policyfile"
	"github.com/fulcrum-io/fulcrum/services/fulcrum/internal/terminal"
)

// change is one line of what pull, diff and push say to programs.
type change struct {
	Action   string `json:"action"` // created, updated, unchanged; create, update, delete
	Name     string `json:"name"`
	File     string `json:"file,omitempty"`
	PolicyID string `json:"policy_id,omitempty"`
	Diff     string `json:"diff,omitempty"`
	Applied  bool   `json:"applied,omitempty"`
}

// changes is the one document that they write.
type changes struct {
	Changes []change `json:"changes"`
}

func (o *operator) policyPull() *cobra.Command {
	return &cobra.Command{
		Use: "pull DIR", Short: "Write the tenant's policies into a folder", Args: arguments("DIR"),
		Long: `Write every policy into a folder: NAME.yaml, and NAME.rego beside it where the
policy is Rego. A file that says the same already is left as it is, comments and
all. Files of policies that the server does not have stay.`,
		Example: "  fulcrum policy pull policies && git -C policies diff",
		RunE: o.ask(func(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
			live, err := o.livePolicies(ctx, cmd, c, 0)
			if err != nil {
				return err
			}
			pulled, unmatched, err := policyfile.Pull(args[0], live)
			if err != nil {
				return err
			}
			doc := changes{Changes: []change{}}
			t := terminal.NewTable("FILE", "CHANGE", "POLICY")
			for _, p := range pulled {
				doc.Changes = append(doc.Changes, change{Action: p.Change, Name: p.Policy.GetName(), File: p.Path, PolicyID: p.Policy.GetPolicyId()})
				t.Row(filepath.Base(p.Path), p.Change, p.Policy.GetName())
			}
			if err := o.document(cmd, doc, t.Write); err != nil {
				return err
			}
			for _, f := range unmatched {
				o.say(cmd, "%s is only here: the server has no policy %q", f.Path, f.Policy.GetName())
			}
			o.next(cmd, "edit, then fulcrum policy diff %s", args[0])
			return nil
		}),
	}
}

// document shows v as JSON to programs, else as human does it.
func (o *operator) document(cmd *cobra.Command, v any, human func(io.Writer, bool) error) error {
	if o.json() {
		return terminal.Document(cmd.OutOrStdout(), v)
	}
	return human(cmd.OutOrStdout(), o.color(cmd.OutOrStdout()))
}

// planned is what a folder asks of the server, and how many policies it has.
func (o *operator) planned(ctx context.Context, cmd *cobra.Command, c *client, dir string) ([]policyfile.Step, int, error) {
	files, err := policyfile.ReadFolder(dir)
	if err != nil {
		return nil, 0, usageError{err}
	}
	for _, f := range files {
		for _, w := range f.Warnings {
			o.say(cmd, "warning: %s: %s", f.Path, w)
		}
	}
	live, err := o.livePolicies(ctx, cmd, c, 0)
	if err != nil {
		return nil, 0, err
	}
	steps, err := policyfile.Plan(files, live)
	if err != nil {
		return nil, 0, usageError{err}
	}
	return steps, len(files), nil
}

func (o *operator) policyDiff() *cobra.Command {
	return &cobra.Command{
		Use: "diff DIR", Short: "Show how a folder differs from the tenant's policies", Args: arguments("DIR"),
		Long: `Show, as a unified diff, what a push would change: "-" is what the server has,
"+" what the folder says. The exit code is 1 if there is a difference, else 0.`,
		Example: "  fulcrum policy diff policies",
		RunE: o.ask(func(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
			steps, _, err := o.planned(ctx, cmd, c, args[0])
			if err != nil {
				return err
			}
			doc, err := describe(steps)
			if err != nil {
				return err
			}
			if err := o.document(cmd, doc, func(out io.Writer, color bool) error { return writeDiff(out, color, doc) }); err != nil {
				return err
			}
			if len(steps) == 0 {
				o.say(cmd, "no difference")
				return nil
			}
			onlyThere := !slices.ContainsFunc(steps, func(s policyfile.Step) bool { return s.Action != policyfile.Delete })
			if onlyThere {
				o.next(cmd, "fulcrum policy pull %s, or fulcrum policy push --prune %s", args[0], args[0])
			} else {
				o.next(cmd, "fulcrum policy push %s", args[0])
			}
			return answered(exitFailure)
		}),
	}
}

func describe(steps []policyfile.Step) (changes, error) {
	doc := changes{Changes: []change{}}
	for _, s := range steps {
		diff, err := s.Diff()
		if err != nil {
			return doc, err
		}
		id := s.Want.GetPolicyId()
		if s.Have != nil {
			id = s.Have.GetPolicyId()
		}
		doc.Changes = append(doc.Changes, change{Action: string(s.Action), Name: s.Name(), File: s.Path, PolicyID: id, Diff: diff})
	}
	return doc, nil
}

func writeDiff(out io.Writer, color bool, doc changes) error {
	for _, c := range doc.Changes {
		was, is := "server "+c.Name, c.File
		if c.Action == string(policyfile.Create) {
			was = os.DevNull
		}
		if c.Action == string(policyfile.Delete) {
			is = os.DevNull
		}
		body := terminal.CleanLines(c.Diff)
		if color {
			body = terminal.Diff(body)
		}
		if _, err := fmt.Fprintf(out, "--- %s\n+++ %s\n%s", terminal.Clean(was), terminal.Clean(is), body); err != nil {
			return err
		}
	}
	return nil
}

func (o *operator) policyPush() *cobra.Command {
	var dry, prune bool
	cmd := &cobra.Command{
		Use: "push DIR", Short: "Make the tenant's policies what a folder says", Args: arguments("DIR"),
		Long: `Make the tenant's policies what a folder says: first new ones, then changed ones,
then, with --prune, an end to those that only the server has, so that there is no
moment with less protection than before or after. A policy that somebody changed
since it was read is not overwritten: the push stops there and says so.

The tests beside changed policies are run first; if one fails, nothing is pushed.

A policy is found by its policy_id, else by its name. A file without a status
leaves the status as it is, and makes new policies as DRAFT.`,
		Example: "  fulcrum policy push policies --dry-run\n  fulcrum policy push policies --prune --yes",
	}
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only show what would be done")
	cmd.Flags().BoolVar(&prune, "prune", false, "delete policies that are not in the folder")
	cmd.RunE = o.ask(func(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
		steps, files, err := o.planned(ctx, cmd, c, args[0])
		if err != nil {
			return err
		}
		if prune && files == 0 {
			return usagef("%s has no policy: --prune would end all there are; is it the right folder?", args[0])
		}
		var todo []policyfile.Step
		var ended []string
		for _, s := range steps {
			switch {
			case s.Action != policyfile.Delete:
			case !prune:
				o.say(cmd, "only the server has %q; --prune deletes it", s.Name())
				continue
			default:
				ended = append(ended, s.Name())
			}
			todo = append(todo, s)
		}
		doc, err := describe(todo)
		if err != nil {
			return err
		}
		if len(ended) > 0 && !dry {
			if err := o.confirm(cmd, "This ends for good: %s.", strings.Join(ended, ", ")); err != nil {
				return err
			}
		}
		if err := o.tested(ctx, cmd, c, todo); err != nil {
			return err
		}
		failed := o.apply(ctx, cmd, c, todo, &doc, dry)
		if err := o.document(cmd, doc, pushTable(doc, dry).Write); err != nil {
			return err
		}
		if failed != nil {
			return failed
		}
		switch {
		case len(todo) == 0:
			o.say(cmd, "no change")
		case dry:
			o.next(cmd, "fulcrum policy push %s", args[0])
		default:
			o.next(cmd, "fulcrum policy list")
		}
		return nil
	})
	return o.confirmed(cmd)
}

// tested refuses to push policies whose tests fail, before the first is pushed.
func (o *operator) tested(ctx context.Context, cmd *cobra.Command, c *client, todo []policyfile.Step) error {
	var files []policyfile.File
	for _, s := range todo {
		if s.Want != nil && len(s.Want.GetTests()) > 0 {
			files = append(files, policyfile.File{Path: s.Path, Policy: s.Want})
		}
	}
	doc, err := c.try(ctx, files, 0)
	if err != nil || doc.Passed {
		return err
	}
	for _, p := range doc.Policies {
		for _, problem := range p.Problems {
			o.say(cmd, "%s: %s", p.Name, problem)
		}
		for _, t := range p.Tests {
			for _, failure := range t.Failures {
				o.say(cmd, "%s: test %q: %s", p.Name, t.Name, failure)
			}
		}
	}
	return fault.New(fault.Precondition, "tests fail, and nothing was pushed").WithReason("POLICY_TESTS_FAILED")
}

// apply takes the steps in order and stops at the first that fails.
func (o *operator) apply(ctx context.Context, cmd *cobra.Command, c *client, todo []policyfile.Step, doc *changes, dry bool) error {
	if dry {
		return nil
	}
	p := o.pulse(cmd, "pushed")
	defer p.end()
	for i, s := range todo {
		id, err := c.take(ctx, s)
		if err != nil {
			return fmt.Errorf("%s %q (%d of %d done): %w", s.Action, s.Name(), i, len(todo), err)
		}
		doc.Changes[i].Applied, doc.Changes[i].PolicyID = true, id
		p.set(int64(i+1), int64(len(todo)))
	}
	return nil
}

// take does one step and returns the policy's id.
func (c *client) take(ctx context.Context, s policyfile.Step) (string, error) {
	switch s.Action {
	case policyfile.Create:
		resp, err := c.policies.CreatePolicy(once(ctx), &policyv1.CreatePolicyRequest{Policy: s.Want})
		return resp.GetPolicy().GetPolicyId(), err
	case policyfile.Update:
		resp, err := c.policies.UpdatePolicy(ctx, &policyv1.UpdatePolicyRequest{Policy: s.Want, UpdateMask: []string{"*"}})
		return resp.GetPolicy().GetPolicyId(), err
	}
	// Deleting takes no etag, so the look comes right before it.
	resp, err := c.policies.GetPolicy(ctx, &policyv1.GetPolicyRequest{PolicyId: s.Have.GetPolicyId()})
	if err != nil {
		return "", err
	}
	if resp.GetPolicy().GetEtag() != s.Have.GetEtag() {
		return "", fault.New(fault.Conflict, "the policy has changed since it was read").WithReason("ETAG_MISMATCH")
	}
	_, err = c.policies.DeletePolicy(ctx, &policyv1.DeletePolicyRequest{PolicyId: s.Have.GetPolicyId()})
	return s.Have.GetPolicyId(), err
}

func pushTable(doc changes, dry bool) *terminal.Table {
	t := terminal.NewTable("ACTION", "POLICY", "FILE", "STATE")
	for _, c := range doc.Changes {
		state := "not done"
		switch {
		case c.Applied:
			state = "done"
		case dry:
			state = "planned"
		}
		file := ""
		if c.File != "" {
			file = filepath.Base(c.File)
		}
		t.Row(c.Action, c.Name, file, state)
	}
	return t
}
