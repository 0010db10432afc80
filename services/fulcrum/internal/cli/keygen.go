package cli

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/mod/sumdb/note"
)

func keygenCommand() *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:   "keygen",
		Short: "Make the secrets of a new deployment, as environment lines",
		Long: `Print fresh secrets as KEY=value lines for an .env file or a secret store.
The PUBLIC_KEY lines are not secret: give the audit's to whoever verifies, and the
policies' to deployments that shall import from this one (FULCRUM_POLICY_TRUSTED_KEYS).`,
		Example: "  fulcrum keygen --name fulcrum.example.com/audit > .env",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			private, public, err := note.GenerateKey(rand.Reader, name)
			if err != nil {
				return fmt.Errorf("audit key: %w", err)
			}
			for _, key := range []string{"FULCRUM_APP_PASSWORD", "FULCRUM_MIGRATE_PASSWORD", "FULCRUM_RETENTION_PASSWORD", "FULCRUM_BACKUP_PASSWORD",
				"POSTGRES_PASSWORD", "REDIS_PASSWORD", "NATS_PASSWORD",
				"FULCRUM_INTERNAL_TOKEN", "FULCRUM_KEY_PEPPER", "FULCRUM_BUNDLE_KEY", "FULCRUM_ADMIN_KEY"} {
				fmt.Fprintf(cmd.OutOrStdout(), "%s=%s\n", key, rand.Text()+rand.Text())
			}
			kek := make([]byte, 32)
			rand.Read(kek)
			fmt.Fprintf(cmd.OutOrStdout(), "EVENT_PROCESSOR_WEBHOOK_KEK=%s\n", base64.StdEncoding.EncodeToString(kek))
			fmt.Fprintf(cmd.OutOrStdout(), "FULCRUM_AUDIT_KEY=%s\nFULCRUM_AUDIT_PUBLIC_KEY=%s\n", private, public)
			if private, public, err = note.GenerateKey(rand.Reader, strings.TrimSuffix(name, "/audit")+"/policies"); err != nil {
				return fmt.Errorf("policy key: %w", err)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "FULCRUM_POLICY_SIGNING_KEY=%s\nFULCRUM_POLICY_PUBLIC_KEY=%s\n", private, public)
			return nil
		},
	}
	cmd.Flags().StringVar(&name, "name", "fulcrum.local/audit", "name of the audit log's key")
	return cmd
}
