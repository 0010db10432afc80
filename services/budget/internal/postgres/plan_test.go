package postgres_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/dbtest"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/lane"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/postgres"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/spend"
)

// rawTables are the tables that have a row for everything that happened, and
// their views.
var rawTables = []string{"reservations", "reservation_parts", "settlements", "ledger_batches", "ledger_postings", "ledger_transactions", "ledger_entries", "outbox"}

// What is answered about spending never names a table of raw rows.
func TestSummariesAreReadFromRollups(t *testing.T) {
	t.Parallel()
	for _, file := range []string{"spend.sql", "predict.sql"} {
		text, err := os.ReadFile(filepath.Join("..", "..", "..", "..", "db", "queries", "budget", file))
		if err != nil {
			t.Fatal(err)
		}
		named := regexp.MustCompile(`fulcrum\.([a-z_]+)`).FindAllStringSubmatch(string(text), -1)
		if len(named) == 0 {
			t.Fatalf("%s names no table", file)
		}
		for _, m := range named {
			if slices.Contains(rawTables, m[1]) {
				t.Errorf("%s reads %s", file, m[0])
			}
		}
	}
}

// However many charges there were, a summary reads the same: the queries of each
// are caught as they are sent, and explained with the blocks they need, before
// and after the ledger grew.
func TestSummariesStayFlatAsTheLedgerGrows(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	tenant := dbtest.Tenant(t, d)
	in := start(t, d, lane.Options{})
	publish(t, d, tenant, dollars("b", 1000))
	for range 20 {
		r := hold(tenant, 10)
		r.Subject.WorkflowID, r.Subject.Model, r.Subject.EnvelopeID = "w", "gpt-4o", "e"
		must(t, in, r.Seal())
		must(t, in, settle(r.Ref, 5))
	}
	seen := &overheard{}
	pool, err := db.Open(t.Context(), d.AppURL, db.Options{MaxConns: 2, SkipGate: true, Tracer: seen})
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	store := postgres.New(pool, postgres.NewCatalogs(pool, slog.New(slog.DiscardHandler)), postgres.Options{})
	_, window, now, err := store.Status(t.Context(), tenant, "b")
	if err != nil {
		t.Fatal(err)
	}
	month := now.Add(-30 * 24 * time.Hour)
	seen.queries = nil
	for name, read := range map[string]func(ctx context.Context) error{
		"spend summary": func(ctx context.Context) error {
			_, err := store.Spend(ctx, spend.Query{Tenant: tenant, From: month, Until: now, GroupBy: "model", Zone: time.UTC})
			return err
		},
		"cost of an envelope": func(ctx context.Context) error { _, err := store.EnvelopeCosts(ctx, tenant, "e"); return err },
		"sizes of calls":      func(ctx context.Context) error { _, err := store.CallSizes(ctx, tenant, "w", nil, month); return err },
		"hours of a budget":   func(ctx context.Context) error { _, err := store.Series(ctx, tenant, "b", month); return err },
		"models of a window":  func(ctx context.Context) error { _, err := store.WindowModels(ctx, window); return err },
		"runs of a workflow":  func(ctx context.Context) error { _, err := store.RunsOf(ctx, tenant, "w", month); return err },
		"runs of all":         func(ctx context.Context) error { _, err := store.RunsAfter(ctx, tenant, "", month, 50); return err },
		"standing of budgets": func(ctx context.Context) error { _, _, _, err := store.Status(ctx, tenant, "b"); return err },
	} {
		if err := read(t.Context()); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	if len(seen.queries) < 8 {
		t.Fatalf("only %d queries were seen", len(seen.queries))
	}
	before := seen.blocks(t, d, tenant)
	grow(t, d, tenant, 20_000)
	after := seen.blocks(t, d, tenant)
	t.Logf("blocks that the summaries need: %d, and %d with 40,000 more rows in the ledger", before, after)
	if after > before*3/2+10 {
		t.Errorf("%d blocks with a longer ledger, %d before", after, before)
	}
}

// grow adds raw rows of charges that the rollups do not know: only what reads
// them would notice.
func grow(t *testing.T, d *dbtest.Database, tenant uuid.UUID, rows int) {
	t.Helper()
	dbtest.Admin(t, d,
		fmt.Sprintf(`insert into fulcrum.ledger_postings (tenant_id, budget_id, window_start, occurred_at, batch_id, refs, lines, moves,
				cost_nano, total_tokens, input_tokens, output_tokens, llm_calls, tool_calls, seconds)
			select '%s', 'b', now(), now(), gen_random_uuid(), '{1}', '{0}', '{13}', '{1}', '{}', '{}', '{}', '{}', '{}', '{}' from generate_series(1, %d)`, tenant, rows),
		fmt.Sprintf(`insert into fulcrum.settlements (tenant_id, reservation_id, kind, request_hash, cost_nano, total_tokens, input_tokens, output_tokens, llm_calls, tool_calls, seconds, created_at)
			select '%s', gen_random_uuid(), 'settled', decode(repeat('00', 32), 'hex'), 1, 0, 0, 0, 0, 0, 0, now() from generate_series(1, %d)`, tenant, rows))
}

// overheard notes the queries that are sent.
type overheard struct {
	mu      sync.Mutex // guards queries
	queries []pgx.TraceQueryStartData
}

func (o *overheard) TraceQueryStart(ctx context.Context, _ *pgx.Conn, q pgx.TraceQueryStartData) context.Context {
	o.note(q)
	return ctx
}

func (o *overheard) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func (o *overheard) TraceBatchStart(ctx context.Context, _ *pgx.Conn, b pgx.TraceBatchStartData) context.Context {
	for _, q := range b.Batch.QueuedQueries {
		o.note(pgx.TraceQueryStartData{SQL: q.SQL, Args: q.Arguments})
	}
	return ctx
}

func (o *overheard) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}
func (o *overheard) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData)     {}

func (o *overheard) note(q pgx.TraceQueryStartData) {
	if !strings.Contains(q.SQL, "from fulcrum.") {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.queries = append(o.queries, q)
}

// blocks is how many blocks the queries need, one after the other. A plan that
// touches a table of raw rows fails the test.
func (o *overheard) blocks(t *testing.T, d *dbtest.Database, tenant uuid.UUID) (sum int64) {
	t.Helper()
	for _, q := range o.queries {
		err := d.DB.WithTenant(t.Context(), tenant, func(ctx context.Context, tx db.Tx) error {
			var plan string
			if err := tx.QueryRow(ctx, "explain (analyze, buffers, format json) "+q.SQL, q.Args...).Scan(&plan); err != nil {
				return err
			}
			for _, m := range regexp.MustCompile(`"Relation Name": "([a-z_]+?)(_y\d+m\d+|_default)?"`).FindAllStringSubmatch(plan, -1) {
				if slices.Contains(rawTables, m[1]) {
					t.Errorf("%s reads %s:\n%s", q.SQL, m[1], plan)
				}
			}
			// The first of each is that of the whole plan.
			for _, kind := range []string{"Hit", "Read"} {
				m := regexp.MustCompile(`"Shared ` + kind + ` Blocks": (\d+)`).FindStringSubmatch(plan)
				if m == nil {
					return fmt.Errorf("no blocks in %s", plan)
				}
				n, err := strconv.ParseInt(m[1], 10, 64)
				if err != nil {
					return err
				}
				sum += n
			}
			return nil
		})
		if err != nil {
			t.Fatalf("explain %s: %v", q.SQL, err)
		}
	}
	return sum
}
