package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	lifecyclev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policylifecycle/v1"
	"github.com/fulcrum-io/fulcrum/services/fulcrum/internal/policyfile"
	"github.com/fulcrum-io/fulcrum/services/fulcrum/internal/terminal"
)

func (o *operator) policySimulate() *cobra.Command {
	var days float64
	var most, samples int32
	var prune bool
	cmd := &cobra.Command{
		Use: "simulate DIR|FILE|NAME[@VERSION]", Short: "Show what changed policies would have decided", Args: arguments("DIR, FILE or NAME"),
		Long: `Judge recorded decisions again, as they were asked: by the policies in force, and
by those with the changes applied. Changes are what a folder or a file says
otherwise than the server, as if it were in force; or a stored policy by its name.

Nothing is changed and nothing is recorded. Live decisions go first.`,
		Example: "  fulcrum policy simulate policies --days 30\n  fulcrum policy simulate refunds@3",
	}
	cmd.Flags().Float64Var(&days, "days", 7, "how far to look back")
	cmd.Flags().Int32Var(&most, "max", 0, "at most so many decisions, the newest (default 10,000)")
	cmd.Flags().Int32Var(&samples, "samples", 0, "samples of each kind of difference (default 10)")
	cmd.Flags().BoolVar(&prune, "prune", false, "as if policies that are not in the folder were deleted")
	cmd.RunE = o.ask(func(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
		req, err := o.simulated(ctx, cmd, c, args[0], prune)
		if err != nil {
			return err
		}
		if req == nil {
			o.say(cmd, "no change: the server has what %s says", args[0])
			return nil
		}
		req.MaxDecisions, req.Samples = most, samples
		req.StartTime = timestamppb.New(time.Now().Add(-time.Duration(days * 24 * float64(time.Hour))))
		report, err := o.simulate(ctx, cmd, c, req)
		if err != nil {
			return err
		}
		if err := o.answer(cmd, report, func(out io.Writer, color bool) error { return writeReport(out, color, report) }); err != nil {
			return err
		}
		o.next(cmd, "fulcrum policy push, or fulcrum policy shadow start")
		return nil
	})
	return cmd
}

// simulated is what an argument would change; nil for nothing.
func (o *operator) simulated(ctx context.Context, cmd *cobra.Command, c *client, arg string, prune bool) (*lifecyclev1.SimulatePoliciesRequest, error) {
	req := &lifecyclev1.SimulatePoliciesRequest{}
	if _, err := os.Stat(arg); errors.Is(err, os.ErrNotExist) {
		name, version, _ := strings.Cut(arg, "@")
		p, err := o.findPolicy(ctx, cmd, c, name)
		if err != nil {
			return nil, err
		}
		ref := &lifecyclev1.PolicyVersionRef{PolicyId: p.GetPolicyId()}
		if version != "" {
			if ref.Version, err = strconv.ParseInt(version, 10, 64); err != nil || ref.GetVersion() < 1 {
				return nil, usagef("%q is no version", version)
			}
		}
		req.Versions = append(req.Versions, ref)
		return req, nil
	}
	files, err := o.policiesAt(cmd, arg)
	if err != nil {
		return nil, err
	}
	live, err := o.livePolicies(ctx, cmd, c, 0)
	if err != nil {
		return nil, err
	}
	steps, err := policyfile.Plan(files, live)
	if err != nil {
		return nil, usageError{err}
	}
	info, err := os.Stat(arg)
	if err != nil {
		return nil, err
	}
	for _, s := range steps {
		switch {
		case s.Action != policyfile.Delete:
			req.Policies = append(req.Policies, s.Want)
		case prune && info.IsDir():
			req.Without = append(req.Without, s.Have.GetPolicyId())
		}
	}
	// What is on the server already and not in force is a change as well: to
	// simulate is to ask what it would do.
	for _, f := range files {
		for _, p := range live {
			same := p.GetName() == strings.TrimSpace(f.Policy.GetName()) || p.GetPolicyId() == f.Policy.GetPolicyId()
			if same && p.GetStatus() != policyv1.PolicyStatus_POLICY_STATUS_ACTIVE && !planned(steps, p) {
				req.Versions = append(req.Versions, &lifecyclev1.PolicyVersionRef{PolicyId: p.GetPolicyId()})
			}
		}
	}
	if len(req.GetPolicies())+len(req.GetVersions())+len(req.GetWithout()) == 0 {
		return nil, nil
	}
	return req, nil
}

func planned(steps []policyfile.Step, p *policyv1.Policy) bool {
	for _, s := range steps {
		if s.Have.GetPolicyId() == p.GetPolicyId() {
			return true
		}
	}
	return false
}

// simulate follows a simulation to its report.
func (o *operator) simulate(ctx context.Context, cmd *cobra.Command, c *client, req *lifecyclev1.SimulatePoliciesRequest) (*lifecyclev1.DifferenceReport, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	stream, err := c.lifecycle.SimulatePolicies(ctx, req)
	if err != nil {
		return nil, err
	}
	p := o.pulse(cmd, "judged")
	defer p.end()
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil, errors.New("the simulation ended without a report")
		}
		if err != nil {
			return nil, err
		}
		p.set(m.GetJudged(), 0)
		if m.GetReport() != nil {
			return m.GetReport(), nil
		}
	}
}

// writeReport shows people what differs.
func writeReport(out io.Writer, color bool, r *lifecyclev1.DifferenceReport) error {
	t := terminal.NewTable("DIFFERENCE", ">DECISIONS", ">MONEY")
	for _, row := range []struct {
		name string
		d    *lifecyclev1.Difference
	}{
		{"newly denied", r.GetNewlyDenied()}, {"newly held up", r.GetNewlyHeldUp()}, {"newly allowed", r.GetNewlyAllowed()}, {"changed", r.GetChanged()},
	} {
		t.Row(row.name, row.d.GetDecisions(), inUSD(row.d.GetCostNano()))
	}
	t.Row("of", r.GetJudged(), "")
	if err := t.Write(out, color); err != nil {
		return err
	}
	for _, group := range []struct {
		heading string
		by      []*lifecyclev1.DifferenceBy
	}{{"TOOL", r.GetByTool()}, {"AGENT", r.GetByAgent()}} {
		t := terminal.NewTable(group.heading, ">DENIED", ">HELD UP", ">ALLOWED", ">CHANGED", ">MONEY")
		for _, d := range group.by {
			t.Row(d.GetName(), d.GetNewlyDenied(), d.GetNewlyHeldUp(), d.GetNewlyAllowed(), d.GetChanged(), inUSD(d.GetCostNano()))
		}
		if t.Len() > 0 {
			fmt.Fprintln(out)
			if err := t.Write(out, color); err != nil {
				return err
			}
		}
	}
	t = terminal.NewTable("SAMPLE", "KIND", "BEFORE", "AFTER", "ACTION", "AGENT", "WHY")
	for _, s := range r.GetSamples() {
		why := ""
		if len(s.GetReasons()) > 0 {
			why = s.GetReasons()[0].GetMessage()
		}
		t.Row(s.GetDecisionId(), strings.ReplaceAll(s.GetKind(), "_", " "), terminal.Word(s.GetBefore()), terminal.Word(s.GetAfter()), s.GetActionName(), s.GetAgentId(), why)
	}
	if t.Len() > 0 {
		fmt.Fprintln(out)
		if err := t.Write(out, color); err != nil {
			return err
		}
	}
	var notes []string
	if r.GetNewFailures() > 0 {
		notes = append(notes, fmt.Sprintf("on %d of them a policy fails that did not", r.GetNewFailures()))
	}
	if r.GetDrifted() > 0 {
		notes = append(notes, fmt.Sprintf("%d were decided otherwise then: the policies in force have changed", r.GetDrifted()))
	}
	if r.GetTruncated() {
		notes = append(notes, "there are more decisions than were judged")
	}
	if r.GetJudged() > 0 {
		notes = append(notes, fmt.Sprintf("judging took %d µs at the median, %d µs at the 99th percentile", r.GetP50Us(), r.GetP99Us()))
	}
	for i, n := range notes {
		if i == 0 {
			fmt.Fprintln(out)
		}
		if _, err := fmt.Fprintln(out, n); err != nil {
			return err
		}
	}
	return nil
}

func inUSD(nano int64) string {
	if nano == 0 {
		return ""
	}
	return fmt.Sprintf("$%.4f", float64(nano)/1e9)
}
