package db

import (
	"context"

	"github.com/pressly/goose/v3"
)

// LintConn lets tests lint what a transaction has planted and will take back.
var LintConn = lint

// MigrateTo takes the schema up or down to a version.
func MigrateTo(ctx context.Context, url string, version int64) error {
	return withMigrations(ctx, url, func(p *goose.Provider) error {
		now, err := p.GetDBVersion(ctx)
		if err != nil {
			return err
		}
		if now > version {
			_, err = p.DownTo(ctx, version)
		} else {
			_, err = p.UpTo(ctx, version)
		}
		return err
	})
}
