package postgres_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/dbtest"
	"github.com/fulcrum-io/fulcrum/pkg/identity"
	configv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/config/v1"
	costv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/cost/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/change"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/policy"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/postgres"
)

func budget(name string) *costv1.Budget {
	return &costv1.Budget{Name: name, Limits: &costv1.BudgetLimits{MaxCostUsd: 1}}
}

func person(tenant uuid.UUID) identity.Principal {
	return identity.Principal{Tenant: tenant, UserID: "ada", Scopes: []string{"*"}}
}

// Two instances of the service meet only in the database, and the lock of the
// bundle keeps their changes in one order too.
func TestTwoInstancesPublishInOneOrder(t *testing.T) {
	t.Parallel()
	const each = 25
	d := dbtest.New(t)
	tenant := dbtest.Tenant(t, d)
	var g errgroup.Group
	for instance := range 2 {
		store := postgres.New(d.DB, func() {})
		for i := range each {
			g.Go(func() error {
				for { // lock_timeout is a second; a caller that is told to come again does
					_, err := store.CreateBudget(t.Context(), person(tenant), budget(fmt.Sprint(instance, "-", i)), change.Once{})
					if !db.Unavailable(err) {
						return err
					}
				}
			})
		}
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	var bundle configv1.BudgetBundle
	read(t, d, tenant, "budgets", &bundle)
	if bundle.GetVersion() != 2*each || len(bundle.GetBudgets()) != 2*each {
		t.Errorf("version %d with %d budgets, want %d", bundle.GetVersion(), len(bundle.GetBudgets()), 2*each)
	}
}

func read(t *testing.T, d *dbtest.Database, tenant uuid.UUID, kind string, into proto.Message) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), d.AdminURL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	var content []byte
	if err := conn.QueryRow(t.Context(), `select content from fulcrum.config_bundles where tenant_id = $1 and kind = $2`, tenant, kind).Scan(&content); err != nil {
		t.Fatal(err)
	}
	if err := proto.Unmarshal(content, into); err != nil {
		t.Fatal(err)
	}
}

// The same rows make the same bytes, but for the version they say.
func TestABundleIsAFunctionOfItsRows(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	tenant := dbtest.Tenant(t, d)
	store := postgres.New(d.DB, func() {})
	p := &policyv1.Policy{Name: "p", Status: policyv1.PolicyStatus_POLICY_STATUS_ACTIVE, Tags: map[string]string{}}
	for i := range 20 {
		p.Tags[fmt.Sprint("tag", i)] = "x"
	}
	if _, err := store.CreatePolicy(t.Context(), person(tenant), p, change.Once{}, policy.Note{}); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for range 5 {
		if _, _, err := store.ReplaceSettings(t.Context(), person(tenant), tenant, &configv1.TenantSettings{TimeZone: "UTC"}); err != nil {
			t.Fatal(err)
		}
		var b configv1.PolicyBundle
		read(t, d, tenant, "policies", &b)
		b.Version = 0
		raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(&b)
		if err != nil {
			t.Fatal(err)
		}
		seen[string(raw)] = true
	}
	if len(seen) != 1 {
		t.Errorf("%d different bundles of the same rows", len(seen))
	}
}

// Whoever writes a bundle, its version goes forward by one.
func TestABundlesVersionNeverGoesBack(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	tenant := dbtest.Tenant(t, d)
	if _, err := postgres.New(d.DB, func() {}).CreateBudget(t.Context(), person(tenant), budget("b"), change.Once{}); err != nil {
		t.Fatal(err)
	}
	for _, version := range []string{"version - 1", "version + 2"} {
		err := d.DB.WithTenant(t.Context(), tenant, func(ctx context.Context, tx db.Tx) error {
			_, err := tx.Exec(ctx, `update fulcrum.config_bundles set version = `+version+` where tenant_id = $1`, tenant)
			return err
		})
		if err == nil || !strings.Contains(err.Error(), "config bundle") && !db.Is(err, "23514") {
			t.Errorf("%s: %v", version, err)
		}
	}
}
