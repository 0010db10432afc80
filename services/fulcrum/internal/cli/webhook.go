package cli

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	"github.com/fulcrum-io/fulcrum/pkg/secret"
	controlplanev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/controlplane/v1"
	"github.com/fulcrum-io/fulcrum/services/fulcrum/internal/terminal"
)

func (o *operator) webhookCommand() *cobra.Command {
	return o.remote(group("webhook", "Tell your own servers what happens", `Tell your own servers what happens, such as an approval that somebody must answer.
Messages are signed in the form of Standard Webhooks and sent until they are
taken, for three days; an endpoint that takes none for a day is disabled.`,
		o.webhookCreate(), o.webhookList(), o.webhookTest(), o.webhookDeliveries(), o.webhookRotate(),
		o.webhookSwitch("enable", true, "Send to an endpoint again; what happened meanwhile is not sent"),
		o.webhookSwitch("disable", false, "Send nothing more to an endpoint, and give up what waits"), o.webhookDelete()))
}

func (o *operator) webhookCreate() *cobra.Command {
	req := &controlplanev1.CreateWebhookRequest{}
	var save string
	cmd := &cobra.Command{
		Use: "create URL", Short: "Register an endpoint and show its secret this once", Args: arguments("URL"),
		Example: "  fulcrum webhook create https://example.com/fulcrum --type approval.requested --save hook.secret",
	}
	f := cmd.Flags()
	f.StringVar(&req.Description, "description", "", "what it is for")
	f.StringSliceVar(&req.EventTypes, "type", nil, "what it is told, such as approval.requested (repeat; default everything)")
	f.StringVar(&save, "save", "", "write the secret to this new file")
	cmd.RunE = o.ask(func(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
		req.Url = args[0]
		file, err := saving(save) // before there is a secret that could get lost
		if err != nil {
			return err
		}
		resp, err := c.webhooks.CreateWebhook(ctx, req)
		if err != nil {
			drop(file)
			return err
		}
		id := resp.GetWebhook().GetWebhookId()
		o.say(cmd, "made webhook %s to %s", id, resp.GetWebhook().GetUrl())
		return o.secretMade(cmd, resp, &resp.Secret, id, file)
	})
	return cmd
}

func drop(file *os.File) {
	if file != nil {
		file.Close()
		_ = os.Remove(file.Name())
	}
}

// secretMade hands a secret over: to a file, or on standard output, never both.
func (o *operator) secretMade(cmd *cobra.Command, resp proto.Message, field *string, id string, file *os.File) error {
	made := secret.New(*field)
	if file == nil {
		o.say(cmd, "this is the only time that the secret is shown")
		err := o.answer(cmd, resp, terminalLine(made.Reveal()))
		if err == nil {
			o.next(cmd, "give it to the receiver, then: fulcrum webhook test %s", id)
		}
		return err
	}
	*field = ""
	_, err := fmt.Fprintln(file, made.Reveal())
	if closed := file.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return fmt.Errorf("write %s: %w (the secret is lost: fulcrum webhook rotate %s)", file.Name(), err, id)
	}
	o.next(cmd, "give %s to the receiver, then: fulcrum webhook test %s", file.Name(), id)
	return o.changed(cmd, resp)
}

func (o *operator) webhookList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List endpoints and how they do", Args: arguments(), Example: "  fulcrum webhook list",
		RunE: o.ask(func(ctx context.Context, cmd *cobra.Command, c *client, _ []string) error {
			resp, err := c.webhooks.ListWebhooks(ctx, &controlplanev1.ListWebhooksRequest{})
			if err != nil {
				return err
			}
			return o.list(cmd, resp, webhookTable(resp.GetWebhooks()...), "no webhooks; make one with: fulcrum webhook create URL")
		}),
	}
}

func webhookTable(all ...*controlplanev1.Webhook) *terminal.Table {
	t := terminal.NewTable("STATUS", "URL", "TYPES", ">WAITING", ">FAILURES", "LAST SUCCESS", "PROBLEM", "ID")
	for _, w := range all {
		types := "all"
		if len(w.GetEventTypes()) > 0 {
			types = strings.Join(w.GetEventTypes(), " ")
		}
		problem := w.GetDisabledReason()
		if problem == "" {
			problem = w.GetLastError()
		}
		t.Row(strings.TrimPrefix(w.GetStatus().String(), "WEBHOOK_STATUS_"), w.GetUrl(), types, count(w.GetPending()), count(w.GetFailures()),
			when(w.GetLastSuccessAt()), problem, w.GetWebhookId())
	}
	return t
}

// findWebhook is the id of an endpoint that is named by id or URL.
func (o *operator) findWebhook(ctx context.Context, c *client, named string) (string, error) {
	if _, err := uuid.Parse(named); err == nil && len(named) == 36 {
		return named, nil
	}
	resp, err := c.webhooks.ListWebhooks(ctx, &controlplanev1.ListWebhooksRequest{})
	if err != nil {
		return "", err
	}
	w, err := byName("webhook", named, resp.GetWebhooks(), (*controlplanev1.Webhook).GetUrl, (*controlplanev1.Webhook).GetWebhookId)
	return w.GetWebhookId(), err
}

func (o *operator) webhookTest() *cobra.Command {
	return &cobra.Command{
		Use: "test ID|URL", Short: "Send a test message now and show how it went", Args: arguments("ID or URL"),
		Example: "  fulcrum webhook test https://example.com/fulcrum",
		RunE: o.ask(func(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
			id, err := o.findWebhook(ctx, c, args[0])
			if err != nil {
				return err
			}
			resp, err := c.webhooks.TestWebhook(ctx, &controlplanev1.TestWebhookRequest{WebhookId: id})
			if err != nil {
				return err
			}
			t := terminal.NewTable("DELIVERED", ">STATUS", ">MS", "PROBLEM", "MESSAGE")
			t.Row(fmt.Sprint(resp.GetDelivered()), count(resp.GetStatusCode()), count(resp.GetDurationMs()), resp.GetError(), resp.GetMessageId())
			if err := o.list(cmd, resp, t, ""); err != nil {
				return err
			}
			if !resp.GetDelivered() {
				return answered(exitFailure)
			}
			return nil
		}),
	}
}

func (o *operator) webhookDeliveries() *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use: "deliveries ID|URL", Short: "List what was and is to be sent, newest first", Args: arguments("ID or URL"),
		Example: "  fulcrum webhook deliveries https://example.com/fulcrum --limit 20",
	}
	cmd.Flags().IntVar(&limit, "limit", 100, "at most so many; 0: all")
	cmd.RunE = o.ask(func(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
		id, err := o.findWebhook(ctx, c, args[0])
		if err != nil {
			return err
		}
		all, more, err := pages(o, cmd, limit, func(token string, size int32) ([]*controlplanev1.WebhookDelivery, string, error) {
			resp, err := c.webhooks.ListWebhookDeliveries(ctx, &controlplanev1.ListWebhookDeliveriesRequest{WebhookId: id, PageSize: size, PageToken: token})
			return resp.GetDeliveries(), resp.GetNextPageToken(), err
		})
		if err != nil {
			return err
		}
		t := terminal.NewTable("MADE", "STATE", "TYPE", ">ATTEMPTS", ">STATUS", "PROBLEM", "NEXT", "MESSAGE")
		for _, d := range all {
			t.Row(when(d.GetCreatedAt()), strings.TrimPrefix(d.GetState().String(), "WEBHOOK_DELIVERY_STATE_"), d.GetEventType(), count(d.GetAttempts()),
				count(d.GetStatusCode()), d.GetError(), when(d.GetNextAttemptAt()), d.GetMessageId())
		}
		if err := o.list(cmd, &controlplanev1.ListWebhookDeliveriesResponse{Deliveries: all}, t, "nothing was sent"); err != nil {
			return err
		}
		o.cut(cmd, more, len(all))
		return nil
	})
	return cmd
}

func (o *operator) webhookRotate() *cobra.Command {
	overlap := length{}
	var save string
	cmd := &cobra.Command{
		Use: "rotate ID|URL", Short: "Make a new secret and show it this once", Args: arguments("ID or URL"),
		Long:    "Make a new secret and show it this once. Until the overlap is over, messages carry\nthe signatures of both, so the receiver can change in between.",
		Example: "  fulcrum webhook rotate https://example.com/fulcrum --overlap 2d --save hook.secret",
	}
	cmd.Flags().Var(&overlap, "overlap", "how long the old secret signs as well, such as 2d or 0s (default 1d)")
	cmd.Flags().StringVar(&save, "save", "", "write the secret to this new file")
	cmd.RunE = o.ask(func(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
		id, err := o.findWebhook(ctx, c, args[0])
		if err != nil {
			return err
		}
		req := &controlplanev1.RotateWebhookSecretRequest{WebhookId: id}
		if cmd.Flags().Changed("overlap") {
			req.OverlapSeconds = proto.Int32(int32(overlap.d.Seconds()))
		}
		file, err := saving(save)
		if err != nil {
			return err
		}
		resp, err := c.webhooks.RotateWebhookSecret(ctx, req)
		if err != nil {
			drop(file)
			return err
		}
		o.say(cmd, "the old secret signs until %s", when(resp.GetOldUntil()))
		return o.secretMade(cmd, resp, &resp.Secret, id, file)
	})
	return cmd
}

func (o *operator) webhookSwitch(verb string, enabled bool, short string) *cobra.Command {
	return &cobra.Command{
		Use: verb + " ID|URL", Short: short, Args: arguments("ID or URL"), Example: "  fulcrum webhook " + verb + " https://example.com/fulcrum",
		RunE: o.ask(func(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
			id, err := o.findWebhook(ctx, c, args[0])
			if err != nil {
				return err
			}
			resp, err := c.webhooks.UpdateWebhook(ctx, &controlplanev1.UpdateWebhookRequest{WebhookId: id, Enabled: &enabled})
			if err != nil {
				return err
			}
			return o.list(cmd, resp.GetWebhook(), webhookTable(resp.GetWebhook()), "")
		}),
	}
}

func (o *operator) webhookDelete() *cobra.Command {
	return o.confirmed(&cobra.Command{
		Use: "delete ID|URL", Short: "Forget an endpoint and all that waits for it", Args: arguments("ID or URL"),
		Example: "  fulcrum webhook delete https://example.com/fulcrum --yes",
		RunE: o.ask(func(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
			id, err := o.findWebhook(ctx, c, args[0])
			if err != nil {
				return err
			}
			if err := o.confirm(cmd, "Delete webhook %s and all that waits for it?", args[0]); err != nil {
				return err
			}
			resp, err := c.webhooks.DeleteWebhook(ctx, &controlplanev1.DeleteWebhookRequest{WebhookId: id})
			if err != nil {
				return err
			}
			o.say(cmd, "deleted webhook %s", args[0])
			return o.changed(cmd, resp)
		}),
	})
}
