package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/eventsdb"
)

// Extend makes the partitions that are due.
func (s *Store) Extend(ctx context.Context) error {
	err := s.db.GlobalOne(ctx, func(ctx context.Context, tx db.Tx) error { return eventsdb.New(tx).EnsurePartitions(ctx) })
	if err != nil {
		return fmt.Errorf("ensure partitions: %w", err)
	}
	return nil
}

// MayForget reports whether this role may drop history.
func (s *Store) MayForget(ctx context.Context) (may bool, err error) {
	err = s.db.GlobalOne(ctx, func(ctx context.Context, tx db.Tx) error {
		may, err = eventsdb.New(tx).MayForget(ctx)
		return err
	})
	return may, err
}

// Forget drops the partitions that ended before t.
func (s *Store) Forget(ctx context.Context, t time.Time) (dropped int, err error) {
	err = s.db.GlobalOne(ctx, func(ctx context.Context, tx db.Tx) error {
		n, err := eventsdb.New(tx).Forget(ctx, t)
		dropped = int(n)
		return err
	})
	if err != nil {
		return dropped, fmt.Errorf("drop partitions: %w", err)
	}
	return dropped, nil
}
