package cli

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	controlplanev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/controlplane/v1"
	"github.com/fulcrum-io/fulcrum/services/fulcrum/internal/terminal"
)

func (o *operator) toolCommand() *cobra.Command {
	return o.remote(group("tool", "Register what tools take", `Register what tools take. Arguments of a registered tool are checked against its
JSON Schema before any policy sees them; what a tool nobody registered means is a
setting of the tenant.`,
		o.toolList(), o.toolImport(), o.toolDelete()))
}

func (o *operator) toolList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List registered tools", Args: arguments(), Example: "  fulcrum tool list",
		RunE: o.ask(func(ctx context.Context, cmd *cobra.Command, c *client, _ []string) error {
			all, _, err := pages(o, cmd, 0, func(token string, size int32) ([]*controlplanev1.Tool, string, error) {
				resp, err := c.tools.ListTools(ctx, &controlplanev1.ListToolsRequest{PageSize: size, PageToken: token})
				return resp.GetTools(), resp.GetNextPageToken(), err
			})
			if err != nil {
				return err
			}
			t := terminal.NewTable("NAME", "SOURCE", "SCHEMA", "CHANGED", "DIGEST")
			for _, tool := range all {
				source, schema := tool.GetSource(), "anything"
				if source == "" {
					source = "by hand"
				}
				if tool.GetInputSchema() != "" {
					schema = count(len(tool.GetInputSchema())) + " bytes"
				}
				t.Row(tool.GetName(), source, schema, when(tool.GetUpdatedAt()), shortDigest(tool.GetDigest()))
			}
			return o.list(cmd, &controlplanev1.ListToolsResponse{Tools: all}, t, "no tools; learn them with: fulcrum tool import --mcp URL")
		}),
	}
}

// shortDigest is as much of a digest as people compare.
func shortDigest(d string) string { return d[:min(len(d), len("sha256:")+12)] }

func (o *operator) toolDelete() *cobra.Command {
	return o.confirmed(&cobra.Command{
		Use: "delete NAME", Short: "Make a tool unknown", Args: arguments("NAME"), Example: "  fulcrum tool delete send_mail --yes",
		RunE: o.ask(func(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
			if err := o.confirm(cmd, "Make tool %s unknown?", args[0]); err != nil {
				return err
			}
			resp, err := c.tools.DeleteTool(ctx, &controlplanev1.DeleteToolRequest{Name: args[0]})
			if err != nil {
				return err
			}
			o.say(cmd, "tool %s is unknown now", args[0])
			return o.answer(cmd, resp, func(io.Writer, bool) error { return nil })
		}),
	})
}
