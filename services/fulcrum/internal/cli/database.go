package cli

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/pkg/config"
)

// migrateURL is the migration role's connection string: its own variable, so
// that the services never hold it.
func migrateURL() (string, error) {
	if v := os.Getenv("FULCRUM_MIGRATE_CONN_STR"); v != "" {
		return v, nil
	}
	r := config.From(os.Getenv)
	dsn := config.Postgres(r)
	return dsn, r.Err()
}

func migrateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "migrate",
		Short: "Move the database's schema",
		Long:  "Move the schema of the database in FULCRUM_MIGRATE_CONN_STR (role fulcrum_migrate), else POSTGRES_CONN_STR or DATABASE_URL.",
	}
	cmd.AddCommand(&cobra.Command{
		Use: "up", Short: "Bring the schema up to the newest version", Args: cobra.NoArgs,
		Example: "  FULCRUM_MIGRATE_CONN_STR=postgres://fulcrum_migrate:…@host/fulcrum fulcrum migrate up",
		RunE: func(cmd *cobra.Command, _ []string) error {
			url, err := migrateURL()
			if err != nil {
				return err
			}
			if err := db.Migrate(cmd.Context(), url); err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), "the schema is up to date")
			return nil
		},
	}, downCommand())
	return cmd
}

func downCommand() *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use: "down", Short: "Take every migration back and DELETE all data", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if name != "delete-all-data" {
				return errors.New("this deletes every table of Fulcrum; to go on, add --confirm delete-all-data")
			}
			url, err := migrateURL()
			if err != nil {
				return err
			}
			return db.MigrateDown(cmd.Context(), url)
		},
	}
	cmd.Flags().StringVar(&name, "confirm", "", `must be "delete-all-data"`)
	return cmd
}

func bootstrapCommand() *cobra.Command {
	var database string
	cmd := &cobra.Command{
		Use:   "bootstrap",
		Short: "Make roles and database on a new PostgreSQL server",
		Long: `Make Fulcrum's roles and its database on the server in FULCRUM_BOOTSTRAP_CONN_STR
(a superuser, or a role that may create roles and databases). Passwords come from
FULCRUM_APP_PASSWORD and FULCRUM_MIGRATE_PASSWORD, or <NAME>_FILE; those of the
retention and backup roles, optional, from FULCRUM_RETENTION_PASSWORD and
FULCRUM_BACKUP_PASSWORD. Safe to repeat.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r := config.From(os.Getenv)
			admin := r.Secret("FULCRUM_BOOTSTRAP_CONN_STR")
			app := r.Secret("FULCRUM_APP_PASSWORD")
			migrate := r.Secret("FULCRUM_MIGRATE_PASSWORD")
			retention, backup := r.Secret("FULCRUM_RETENTION_PASSWORD", ""), r.Secret("FULCRUM_BACKUP_PASSWORD", "")
			if err := r.Err(); err != nil {
				return err
			}
			if err := db.Bootstrap(cmd.Context(), admin.Reveal(), db.BootstrapOptions{
				Database: database, AppPassword: app.Reveal(), MigratePassword: migrate.Reveal(),
				RetentionPassword: retention.Reveal(), BackupPassword: backup.Reveal()}); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "roles and database %q are there; next: fulcrum migrate up\n", database)
			return nil
		},
	}
	cmd.Flags().StringVar(&database, "database", "fulcrum", "database to create")
	return cmd
}

func doctorCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Check that the database isolates tenants and its schema is current",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r := config.From(os.Getenv)
			dsn := config.Postgres(r)
			if err := r.Err(); err != nil {
				return err
			}
			d, err := db.Open(cmd.Context(), dsn, db.Options{Service: "doctor", MaxConns: 1})
			if err != nil {
				return fmt.Errorf("database:\n  %s", strings.ReplaceAll(err.Error(), "\n", "\n  "))
			}
			d.Close()
			fmt.Fprintln(cmd.OutOrStdout(), "database: role, row-level security and migrations are in order")
			return nil
		},
	}
}
