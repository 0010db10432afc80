package cli

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fulcrum-io/fulcrum/pkg/secret"
	controlplanev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/controlplane/v1"
	tenantv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/tenant/v1"
	"github.com/fulcrum-io/fulcrum/services/fulcrum/internal/terminal"
)

func (o *operator) keyCommand() *cobra.Command {
	return o.remote(group("key", "Make, list and revoke API keys", "", o.keyCreate(), o.keyList(), o.keyRevoke()))
}

func (o *operator) keyCreate() *cobra.Command {
	var r controlplanev1.IssueApiKeyRequest
	var expires length
	var save string
	cmd := &cobra.Command{
		Use: "create", Short: "Make an API key and show it this once", Args: arguments(),
		Long: `Make an API key. Its secret is the only output, and is shown this once; --save
writes it to a file that only you can read instead.

With --tenant it is made as the platform's administrator, and may be bound to an
agent, a team, a user and roles. Without, it is made in your key's own tenant and
can do no more than your key.`,
		Example: `  fulcrum key create --name ci --scope policy:read --scope policy:write --expires 90d --save ci.key
  FULCRUM_API_KEY=$ADMIN_KEY fulcrum key create --tenant 01a1… --name dana --scope approval:read --scope approval:write --user dana --role finance-lead`,
	}
	f := cmd.Flags()
	f.StringVar(&r.Name, "name", "", "what the key is for (required)")
	f.StringSliceVar(&r.Scopes, "scope", nil, "what it may do, such as policy:read; '*' is everything (repeat; required)")
	f.Var(&expires, "expires", "how long it lives, such as 90d (default for ever)")
	f.StringVar(&r.TenantId, "tenant", "", "tenant to make it in, as the platform's administrator")
	f.StringVar(&r.AgentId, "agent", "", "calls with it act as this agent (with --tenant)")
	f.StringVar(&r.Team, "team", "", "and as this team (with --tenant)")
	f.StringVar(&r.UserId, "user", "", "and as this user (with --tenant)")
	f.StringSliceVar(&r.Roles, "role", nil, "and with this role (with --tenant; repeat)")
	f.StringVar(&save, "save", "", "write the key to this new file")
	cmd.RunE = o.ask(func(ctx context.Context, cmd *cobra.Command, c *client, _ []string) error {
		switch {
		case r.Name == "" || len(r.Scopes) == 0:
			return usagef("%s needs --name and --scope", cmd.CommandPath())
		case r.TenantId == "" && (r.AgentId != "" || r.Team != "" || r.UserId != "" || len(r.Roles) > 0):
			return usagef("--agent, --team, --user and --role need --tenant and the platform's admin key")
		}
		r.ExpiresInSeconds = int64(expires.d.Seconds())
		file, err := saving(save) // before there is a key that could get lost
		if err != nil {
			return err
		}
		resp, err := c.makeKey(ctx, &r)
		if err != nil {
			if file != nil {
				file.Close()
				_ = os.Remove(save)
			}
			return err
		}
		return o.keyMade(cmd, resp, file)
	})
	return cmd
}

func saving(path string) (*os.File, error) {
	if path == "" {
		return nil, nil
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("--save: %w", err)
	}
	return f, nil
}

func (c *client) makeKey(ctx context.Context, r *controlplanev1.IssueApiKeyRequest) (*tenantv1.CreateApiKeyResponse, error) {
	if r.GetTenantId() == "" {
		return c.keys.CreateApiKey(once(ctx), &tenantv1.CreateApiKeyRequest{Name: r.GetName(), Scopes: r.GetScopes(), ExpiresInSeconds: r.GetExpiresInSeconds()})
	}
	resp, err := c.admin.IssueApiKey(once(ctx), r)
	return &tenantv1.CreateApiKeyResponse{Key: resp.GetKey(), KeySecret: resp.GetKeySecret()}, err
}

// keyMade hands the key over: to a file, or on standard output, never both.
func (o *operator) keyMade(cmd *cobra.Command, resp *tenantv1.CreateApiKeyResponse, file *os.File) error {
	key := resp.GetKey()
	o.say(cmd, "made key %s (%s) with %s", key.GetId(), key.GetName(), strings.Join(key.GetScopes(), " "))
	if file != nil {
		made := secret.New(resp.GetKeySecret())
		resp.KeySecret = ""
		_, err := fmt.Fprintln(file, made.Reveal())
		if closed := file.Close(); err == nil {
			err = closed
		}
		if err != nil {
			return fmt.Errorf("write %s: %w (the key is lost: fulcrum key revoke %s)", file.Name(), err, key.GetId())
		}
		if o.json() {
			if err := terminal.JSON(cmd.OutOrStdout(), resp); err != nil {
				return err
			}
		}
		o.next(cmd, "fulcrum policy list --key-file %s", file.Name())
		return nil
	}
	o.say(cmd, "this is the only time that it is shown")
	err := o.answer(cmd, resp, terminalLine(resp.GetKeySecret()))
	if err == nil {
		o.next(cmd, "keep it in a secret store, and set FULCRUM_API_KEY or FULCRUM_API_KEY_FILE from there")
	}
	return err
}

func (o *operator) keyList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the tenant's keys, newest first", Args: arguments(), Example: "  fulcrum key list",
		RunE: o.ask(func(ctx context.Context, cmd *cobra.Command, c *client, _ []string) error {
			all, _, err := pages(o, cmd, 0, func(token string, size int32) ([]*tenantv1.ApiKey, string, error) {
				resp, err := c.keys.ListApiKeys(ctx, &tenantv1.ListApiKeysRequest{PageSize: size, PageToken: token})
				return resp.GetKeys(), resp.GetNextPageToken(), err
			})
			if err != nil {
				return err
			}
			t := terminal.NewTable("ID", "NAME", "SCOPES", "HINT", "CREATED", "LAST USED", "EXPIRES")
			for _, k := range all {
				t.Row(k.GetId(), k.GetName(), strings.Join(k.GetScopes(), " "), k.GetKeyHint(), when(k.GetCreatedAt()), when(k.GetLastUsedAt()), when(k.GetExpiresAt()))
			}
			return o.list(cmd, &tenantv1.ListApiKeysResponse{Keys: all}, t, "no keys")
		}),
	}
}

func (o *operator) keyRevoke() *cobra.Command {
	cmd := &cobra.Command{
		Use: "revoke ID", Short: "End a key for good", Args: arguments("ID"), Example: "  fulcrum key revoke 5xwywd8wzo6c",
	}
	cmd.RunE = o.ask(func(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
		if err := o.confirm(cmd, "Revoke the key %s for good? Whoever uses it is locked out within a second.", args[0]); err != nil {
			return err
		}
		resp, err := c.keys.RevokeApiKey(ctx, &tenantv1.RevokeApiKeyRequest{KeyId: args[0]})
		if err != nil {
			return err
		}
		o.say(cmd, "revoked key %s", args[0])
		o.next(cmd, "fulcrum key list")
		return o.changed(cmd, resp)
	})
	return o.confirmed(cmd)
}
