package cli

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"

	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	"github.com/fulcrum-io/fulcrum/services/fulcrum/internal/terminal"
)

func (o *operator) decisionCommand() *cobra.Command {
	return o.remote(group("decision", "See what was decided, and why", "", o.decisionList(), o.decisionGet(), o.decisionTail()))
}

func (o *operator) decisionList() *cobra.Command {
	var r governancev1.ListDecisionsRequest
	var since, until moment
	var limit int
	cmd := &cobra.Command{
		Use: "list", Short: "List decisions, newest first", Args: arguments(),
		Example: "  fulcrum decision list --decision deny --since 24h\n  fulcrum decision list --agent 01a1… -o json",
	}
	decision := enumFlag[governancev1.Decision](cmd, "decision", "only those")
	f := cmd.Flags()
	f.StringVar(&r.AgentId, "agent", "", "only of this agent")
	f.StringVar(&r.EnvelopeId, "envelope", "", "only in this envelope")
	f.Var(&since, "since", "from then on")
	f.Var(&until, "until", "until then")
	f.IntVar(&limit, "limit", 50, "at most so many; 0: all")
	cmd.RunE = o.ask(func(ctx context.Context, cmd *cobra.Command, c *client, _ []string) error {
		r.Decision, r.StartTime, r.EndTime = decision(), since.stamp(), until.stamp()
		all, more, err := pages(o, cmd, limit, func(token string, size int32) ([]*governancev1.DecisionRecord, string, error) {
			r.PageSize, r.PageToken = size, token
			resp, err := c.governance.ListDecisions(ctx, &r)
			return resp.GetDecisions(), resp.GetNextPageToken(), err
		})
		if err != nil {
			return err
		}
		t := terminal.NewTable(decisionColumns...)
		for _, d := range all {
			t.Row(decisionRow(d)...)
		}
		if err := o.list(cmd, &governancev1.ListDecisionsResponse{Decisions: all}, t, "no decisions"); err != nil {
			return err
		}
		o.cut(cmd, more, len(all))
		return nil
	})
	return cmd
}

var decisionColumns = []string{"TIME", "DECISION", "ACTION", "AGENT", "WORKFLOW", "ID", "WHY"}

func decisionRow(d *governancev1.DecisionRecord) []any {
	r := d.GetResponse()
	agent := d.GetAgentId()
	if agent == "" {
		agent = "key:" + d.GetKeyId()
	}
	return []any{when(d.GetDecidedAt()), terminal.Word(r.GetDecision()), actionOf(d.GetAction()), agent, d.GetWorkflowId(), r.GetDecisionId(), r.GetMessage()}
}

func actionOf(a *governancev1.Action) string {
	if a == nil {
		return ""
	}
	name := a.GetName()
	if m := a.GetModel(); m != "" && m != name {
		name += " (" + m + ")"
	}
	return strings.ToLower(terminal.Word(a.GetKind())) + " " + name
}

func (o *operator) decisionGet() *cobra.Command {
	return &cobra.Command{
		Use: "get ID", Short: "Show one decision with everything that explains it", Args: arguments("ID"), Example: "  fulcrum decision get 01a1fded-d2d8-7cf5-a33a-12f85d2852f1",
		RunE: o.ask(func(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
			resp, err := c.governance.GetDecision(ctx, &governancev1.GetDecisionRequest{DecisionId: args[0]})
			if err != nil {
				return err
			}
			d := resp.GetDecision()
			if r := d.GetResponse(); r != nil {
				r.Reasons = distinct(r.GetReasons())
			}
			if err := o.answer(cmd, d, func(out io.Writer, color bool) error { return writeRecord(out, color, d) }); err != nil {
				return err
			}
			o.next(cmd, "fulcrum audit prove %s", args[0])
			return nil
		}),
	}
}

func writeRecord(out io.Writer, color bool, d *governancev1.DecisionRecord) error {
	r := d.GetResponse()
	if err := writeDecision(out, color, r); err != nil {
		return err
	}
	var f terminal.Facts
	f.Add("decision", r.GetDecisionId())
	f.Add("decided", when(d.GetDecidedAt()))
	f.Add("action", actionOf(d.GetAction()))
	if args := d.GetAction().GetArguments(); args != nil {
		raw, err := protojson.Marshal(args)
		if err != nil {
			return err
		}
		f.Add("arguments", string(raw))
	}
	f.Add("resource", d.GetAction().GetResource())
	f.Add("agent", d.GetAgentId())
	f.Add("key", d.GetKeyId())
	f.Add("user", d.GetUserId())
	f.Add("workflow", d.GetWorkflowId())
	f.Add("envelope", r.GetEnvelopeId())
	f.Add("attributes", sorted(d.GetAttributes()))
	f.Add("approval", r.GetApproval().GetApprovalId())
	f.Add("hold", r.GetHold().GetReservationId())
	f.Add("policy set", r.GetPolicySetVersion())
	f.Add("prices", r.GetPriceVersion())
	f.Add("took", fmt.Sprintf("%d µs", r.GetEvaluatedUs()))
	if r.GetDegraded() {
		f.Add("degraded", "yes: a dependency was away")
	}
	if _, err := fmt.Fprintln(out); err != nil {
		return err
	}
	return f.Write(out, color)
}
