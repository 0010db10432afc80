package cli

import (
	"context"

	"github.com/spf13/cobra"

	eventstorev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/eventstore/v1"
	"github.com/fulcrum-io/fulcrum/services/fulcrum/internal/terminal"
)

func (o *operator) eventCommand() *cobra.Command {
	return o.remote(group("event", "See what happened", "", o.eventList(), o.eventTail()))
}

func (o *operator) eventList() *cobra.Command {
	var r eventstorev1.QueryEventsRequest
	var since, until moment
	var labels []string
	var limit int
	var oldest bool
	cmd := &cobra.Command{
		Use: "list", Short: "List events, newest first", Args: arguments(),
		Example: "  fulcrum event list --type budget_exceeded --since 24h\n  fulcrum event list --execution run-17 --oldest-first",
	}
	f := cmd.Flags()
	f.StringVar(&r.EventType, "type", "", "only those, such as decision_made")
	f.StringVar(&r.ExecutionId, "execution", "", "only of this execution")
	f.StringVar(&r.WorkflowId, "workflow", "", "only of this workflow")
	f.StringArrayVar(&labels, "label", nil, "only with this label name=value (repeat)")
	f.Var(&since, "since", "from then on")
	f.Var(&until, "until", "until then")
	f.BoolVar(&oldest, "oldest-first", false, "in the order in which they were stored")
	f.IntVar(&limit, "limit", 50, "at most so many; 0: all")
	cmd.RunE = o.ask(func(ctx context.Context, cmd *cobra.Command, c *client, _ []string) (err error) {
		if r.Labels, err = pairs("label", labels); err != nil {
			return err
		}
		r.StartTime, r.EndTime = since.stamp(), until.stamp()
		if oldest {
			r.Order = eventstorev1.QueryEventsRequest_ORDER_DIRECTION_ASCENDING
		}
		all, more, err := pages(o, cmd, limit, func(token string, size int32) ([]*eventstorev1.StoredEvent, string, error) {
			r.Limit, r.PageToken = size, token
			resp, err := c.events.QueryEvents(ctx, &r)
			return resp.GetEvents(), resp.GetNextPageToken(), err
		})
		if err != nil {
			return err
		}
		t := terminal.NewTable(eventColumns...)
		for _, e := range all {
			t.Row(eventRow(e)...)
		}
		if err := o.list(cmd, &eventstorev1.QueryEventsResponse{Events: all, TotalCount: int32(len(all))}, t, "no events"); err != nil {
			return err
		}
		o.cut(cmd, more, len(all))
		return nil
	})
	return cmd
}

var eventColumns = []string{">SEQUENCE", "TIME", "TYPE", "WORKFLOW", "EXECUTION", "ID", "WHAT"}

func eventRow(e *eventstorev1.StoredEvent) []any {
	fields := e.GetPayload().GetFields()
	what := ""
	for _, name := range []string{"message", "reason", "to", "name", "tool_name", "model"} {
		if what = fields[name].GetStringValue(); what != "" {
			break
		}
	}
	return []any{e.GetStreamSequence(), when(e.GetTimestamp()), e.GetEventType(), e.GetWorkflowId(), e.GetExecutionId(), e.GetEventId(), what}
}

func (o *operator) eventTail() *cobra.Command {
	var r eventstorev1.StreamEventsRequest
	var labels []string
	f := &following{}
	cmd := &cobra.Command{
		Use: "tail", Short: "Follow events as they are stored", Args: arguments(), Long: "Follow events as they are stored. " + tailHelp,
		Example: "  fulcrum event tail\n  fulcrum event tail --type approval_requested -o json | while read -r e; do …",
	}
	flags := cmd.Flags()
	flags.StringVar(&r.EventType, "type", "", "only those, such as decision_made")
	flags.StringVar(&r.ExecutionId, "execution", "", "only of this execution")
	flags.StringVar(&r.WorkflowId, "workflow", "", "only of this workflow")
	flags.StringArrayVar(&labels, "label", nil, "only with this label name=value (repeat)")
	f.flags(cmd)
	cmd.RunE = o.ask(func(ctx context.Context, cmd *cobra.Command, c *client, _ []string) (err error) {
		if r.Labels, err = pairs("label", labels); err != nil {
			return err
		}
		f.request = &r
		lines := o.ticker(cmd.OutOrStdout(), eventColumns)
		return o.follow(ctx, cmd, c, f, func(e *eventstorev1.StoredEvent) (bool, error) {
			if o.json() {
				return true, terminal.JSONLine(cmd.OutOrStdout(), e)
			}
			return true, lines.row(eventRow(e)...)
		})
	})
	return cmd
}
