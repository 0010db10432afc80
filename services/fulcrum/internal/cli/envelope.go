package cli

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	envelopev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/envelope/v1"
	"github.com/fulcrum-io/fulcrum/services/fulcrum/internal/terminal"
)

func (o *operator) envelopeCommand() *cobra.Command {
	return o.remote(group("envelope", "See and end executions of agents", "", o.envelopeList(), o.envelopeGet(), o.envelopeTerminate()))
}

func upper(s string) string { return strings.ToUpper(strings.ReplaceAll(s, "-", "_")) }

func (o *operator) envelopeList() *cobra.Command {
	var r envelopev1.ListEnvelopesRequest
	var limit int
	cmd := &cobra.Command{
		Use: "list", Short: "List envelopes, newest first", Args: arguments(), Example: "  fulcrum envelope list --status running",
	}
	status := enumFlag[envelopev1.EnvelopeStatus](cmd, "status", "only those")
	cmd.Flags().StringVar(&r.AgentId, "agent", "", "only of this agent")
	cmd.Flags().StringVar(&r.WorkflowId, "workflow", "", "only of this workflow")
	cmd.Flags().IntVar(&limit, "limit", 50, "at most so many; 0: all")
	cmd.RunE = o.ask(func(ctx context.Context, cmd *cobra.Command, c *client, _ []string) error {
		all, more, err := pages(o, cmd, limit, func(token string, size int32) ([]*envelopev1.ExecutionEnvelope, string, error) {
			r.Status, r.PageSize, r.PageToken = status(), size, token
			resp, err := c.envelopes.ListEnvelopes(ctx, &r)
			return resp.GetEnvelopes(), resp.GetNextPageToken(), err
		})
		if err != nil {
			return err
		}
		if err := o.list(cmd, &envelopev1.ListEnvelopesResponse{Envelopes: all}, envelopeTable(all...), "no envelopes"); err != nil {
			return err
		}
		o.cut(cmd, more, len(all))
		return nil
	})
	return cmd
}

func envelopeTable(all ...*envelopev1.ExecutionEnvelope) *terminal.Table {
	t := terminal.NewTable("CREATED", "STATUS", "WORKFLOW", "AGENT", "PARENT", "ENDED", "ID")
	for _, e := range all {
		t.Row(when(e.GetCreatedAt()), terminal.Word(e.GetStatus()), e.GetWorkflowId(), e.GetMetadata()["fulcrum.agent_id"], e.GetParentEnvelopeId(),
			when(e.GetCompletedAt()), e.GetEnvelopeId())
	}
	return t
}

func (o *operator) envelopeGet() *cobra.Command {
	return &cobra.Command{
		Use: "get ID", Short: "Show one envelope, what it cost and what happened in it", Args: arguments("ID"), Example: "  fulcrum envelope get 6f7ad398-4160-800d-b834-f724ab12fe37",
		RunE: o.ask(func(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
			resp, err := c.envelopes.GetEnvelope(ctx, &envelopev1.GetEnvelopeRequest{EnvelopeId: args[0]})
			if err != nil {
				return err
			}
			e := resp.GetEnvelope()
			if err := o.answer(cmd, e, func(out io.Writer, color bool) error { return writeEnvelope(out, color, e) }); err != nil {
				return err
			}
			o.next(cmd, "fulcrum decision list --envelope %s, or fulcrum event list --execution %s", args[0], e.GetExecutionId())
			return nil
		}),
	}
}

func writeEnvelope(out io.Writer, color bool, e *envelopev1.ExecutionEnvelope) error {
	var f terminal.Facts
	f.Add("status", terminal.Word(e.GetStatus()))
	f.Add("envelope", e.GetEnvelopeId())
	f.Add("execution", e.GetExecutionId())
	f.Add("workflow", e.GetWorkflowId())
	f.Add("agent", e.GetMetadata()["fulcrum.agent_id"])
	f.Add("parent", e.GetParentEnvelopeId())
	f.Add("created", when(e.GetCreatedAt()))
	f.Add("updated", when(e.GetUpdatedAt()))
	f.Add("ended", when(e.GetCompletedAt()))
	if c := e.GetCost(); c != nil {
		f.Add("cost", fmt.Sprintf("%s, %s input and %s output tokens, %s model calls, %s tool calls", usd(c.GetTotalCostUsd()),
			count(c.GetTotalInputTokens()), count(c.GetTotalOutputTokens()), count(c.GetLlmCallCount()), count(c.GetToolCallCount())))
	}
	if err := f.Write(out, color); err != nil {
		return err
	}
	t := terminal.NewTable("TIME", "EVENT", "ID")
	for _, x := range e.GetEvents() {
		t.Row(when(x.GetTimestamp()), terminal.Word(x.GetEventType()), x.GetEventId())
	}
	if t.Len() == 0 {
		return nil
	}
	if _, err := fmt.Fprintln(out); err != nil {
		return err
	}
	return t.Write(out, color)
}

func (o *operator) envelopeTerminate() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use: "terminate ID", Short: "End an envelope and all its descendants", Args: arguments("ID"),
		Long:    "End an envelope and all its descendants, and give back what they hold of budgets.\nTheir agents may do nothing more.",
		Example: "  fulcrum envelope terminate 6f7ad398-4160-800d-b834-f724ab12fe37 --reason \"runaway loop\"",
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the record")
	cmd.RunE = o.ask(func(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
		if err := o.confirm(cmd, "End the envelope %s and all its descendants for good?", args[0]); err != nil {
			return err
		}
		resp, err := c.envelopes.TerminateEnvelope(ctx, &envelopev1.TerminateEnvelopeRequest{EnvelopeId: args[0], Reason: reason})
		if err != nil {
			return err
		}
		if err := o.list(cmd, resp, envelopeTable(resp.GetEnvelope()), ""); err != nil {
			return err
		}
		o.say(cmd, "%d descendants were ended with it", len(resp.GetTerminatedDescendantIds()))
		o.next(cmd, "fulcrum envelope get %s", args[0])
		return nil
	})
	return o.confirmed(cmd)
}
