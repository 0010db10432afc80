package postgres

import (
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/pkg/fault"
	configv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/config/v1"

	"github.com/fulcrum-io/fulcrum/services/gateway/internal/decision"
)

// away makes a fault.Down of a database that cannot be reached, so that callers
// come back later; any other error is ours to explain.
func away(doing string, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := fault.As(err); ok {
		return err
	}
	err = fmt.Errorf("%s: %w", doing, err)
	if db.Unavailable(err) {
		return fault.New(fault.Down, "the database cannot be reached").
			WithReason("DATABASE_UNAVAILABLE").WithRetry(time.Second).WithCause(err)
	}
	return err
}

func none(err error) bool { return errors.Is(err, pgx.ErrNoRows) }

func orZero[T any](v *T) T {
	if v == nil {
		var zero T
		return zero
	}
	return *v
}

// failureModes reads a tenant's settings as the control plane keeps them.
func failureModes(raw []byte) (decision.FailureModes, error) {
	var s configv1.TenantSettings
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(raw, &s); err != nil {
		return decision.FailureModes{}, fmt.Errorf("read tenant settings: %w", err)
	}
	return decision.FailureModes{PolicyOpen: s.GetFailOpen(), BudgetOpen: s.GetBudgetFailOpen()}, nil
}
