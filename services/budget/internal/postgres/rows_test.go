package postgres_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/dbtest"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/lane"
)

var errTakeBack = errors.New("take it back")

// Whatever the code above it believes, no statement of the application writes a
// row of the ledger that cannot be: beyond its limit, below zero, half a batch.
func TestTheDatabaseTakesNoRowOfTheLedgerThatCannotBe(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	tenant := dbtest.Tenant(t, d)
	publish(t, d, tenant, dollars("all", 1))
	must(t, start(t, d, lane.Options{}), hold(tenant, 400_000_000))
	const fresh = `insert into fulcrum.budget_windows (tenant_id, budget_id, window_start, window_end, config_version, mode, cost_nano_limit, cost_nano_held, cost_nano_spent, cost_nano_over)
		select $1, 'other', '2026-01-01', `
	const kept = `insert into fulcrum.reservations (tenant_id, id, request_hash, cost_nano, total_tokens, input_tokens, output_tokens, llm_calls, tool_calls, seconds, created_at, expires_at, budget_ids, window_starts)
		select $1, gen_random_uuid(), sha256(''), `
	const moved = `insert into fulcrum.ledger_postings (tenant_id, budget_id, window_start, occurred_at, batch_id, refs, lines, moves, total_tokens, input_tokens, output_tokens, llm_calls, tool_calls, seconds, cost_nano)
		select $1, 'all', 'epoch', now(), gen_random_uuid(), '{1}', '{0}', `
	const batch = `insert into fulcrum.ledger_batches (tenant_id, occurred_at, id, transaction_ids, kinds, reservation_ids) select $1, now(), gen_random_uuid(), array[$1::uuid], `
	two := strings.Replace(batch, "array[$1::uuid]", "array[$1::uuid, $1::uuid]", 1)
	const alike = `insert into fulcrum.ledger_postings (tenant_id, budget_id, window_start, occurred_at, batch_id, total_tokens, input_tokens, output_tokens, llm_calls, tool_calls, seconds, moves, lines, refs, cost_nano, entries)
		select $1, 'all', 'epoch', now(), gen_random_uuid(), '{}', '{}', '{}', '{}', '{}', '{}', '{12}', `
	for name, tt := range map[string]struct {
		sql       string
		refusedBy string // a policy or constraint; empty: it is taken
	}{
		"held up to the limit":                  {`update fulcrum.budget_windows set cost_nano_held = cost_nano_limit where tenant_id = $1`, ""},
		"held beyond the limit":                 {`update fulcrum.budget_windows set cost_nano_held = cost_nano_limit + 1 where tenant_id = $1`, "within"},
		"spent and held beyond the limit":       {`update fulcrum.budget_windows set cost_nano_spent = cost_nano_limit - cost_nano_held + 1 where tenant_id = $1`, "within"},
		"spent beyond the limit, and noted":     {`update fulcrum.budget_windows set cost_nano_spent = cost_nano_limit, cost_nano_over = cost_nano_held where tenant_id = $1`, ""},
		"a limit below what is held":            {`update fulcrum.budget_windows set cost_nano_limit = 1 where tenant_id = $1`, "within"},
		"another unit's limit below its use":    {`update fulcrum.budget_windows set llm_calls_limit = 1, llm_calls_spent = 2 where tenant_id = $1`, "within"},
		"less than nothing held":                {`update fulcrum.budget_windows set tool_calls_held = -1 where tenant_id = $1`, "sane"},
		"a wallet that nothing was put into":    {`update fulcrum.budget_windows set mode = 4, cost_nano_limit = 0 where tenant_id = $1`, "within"},
		"a mode that is none":                   {`update fulcrum.budget_windows set mode = 5 where tenant_id = $1`, "sane"},
		"a new window":                          {fresh + `'2026-02-01', 1, 1, 10, 5, 5, 0`, ""},
		"a new window that is overspent":        {fresh + `'2026-02-01', 1, 1, 10, 5, 6, 0`, "budget_windows_new"},
		"a new window with an unknown mode":     {fresh + `'2026-02-01', 1, 0, 10, 0, 0, 0`, "budget_windows_new"},
		"a new window with less than nothing":   {fresh + `'2026-02-01', 1, 1, 10, -1, 0, 0`, "budget_windows_new"},
		"a version below none":                  {`update fulcrum.budget_windows set version = -1 where tenant_id = $1`, "budget_windows_version"},
		"a window that ends before it begins":   {fresh + `'2025-12-31', 1, 1, 10, 0, 0, 0`, "budget_windows_new"},
		"a hold":                                {kept + `1, 0, 0, 0, 0, 0, 0, now(), now() + '1 s', '{all}', '{epoch}'`, ""},
		"a hold of less than nothing":           {kept + `-1, 0, 0, 0, 0, 0, 0, now(), now() + '1 s', '{all}', '{epoch}'`, "sane"},
		"a hold that ran out before it began":   {kept + `1, 0, 0, 0, 0, 0, 0, now(), now() - '1 s'::interval, '{all}', '{epoch}'`, "sane"},
		"a hold in a budget without its window": {kept + `1, 0, 0, 0, 0, 0, 0, now(), now() + '1 s', '{all}', '{}'`, "sane"},
		"a line":                                {moved + `'{12}', '{}', '{}', '{}', '{}', '{}', '{}', '{5}'`, ""},
		"a line of less than nothing":           {moved + `'{12}', '{}', '{}', '{}', '{}', '{}', '{}', '{-5}'`, "sane"},
		"a line from no account":                {moved + `'{2}', '{}', '{}', '{}', '{}', '{}', '{}', '{5}'`, "sane"},
		"a line without its accounts":           {moved + `'{}', '{}', '{}', '{}', '{}', '{}', '{}', '{5}'`, "sane"},
		"amounts without lines":                 {moved + `'{12}', '{}', '{}', '{}', '{}', '{}', '{}', '{5,6}'`, "sane"},
		"three lines that are alike":            {alike + `'{0}', '{1}', '{5}', 3`, ""},
		"three lines of other amounts":          {alike + `'{0}', '{1}', '{5,6,7}', 3`, ""},
		"three lines of two amounts":            {alike + `'{0}', '{1}', '{5,6}', 3`, "sane"},
		"three lines of two transactions":       {alike + `'{0}', '{1,2}', '{5}', 3`, "sane"},
		"three lines with two numbers":          {alike + `'{0,1}', '{1}', '{5}', 3`, "sane"},
		"a row of no lines":                     {alike + `'{0}', '{1}', '{5}', 0`, "sane"},
		"two lines, one number, as of before":   {alike + `'{0}', '{1,2}', '{5,6}', null`, "sane"},
		"two transactions of one kind":          {two + `'{hold}', array[$1::uuid, $1::uuid]`, ""},
		"two transactions of three kinds":       {two + `'{hold,settle,hold}', array[$1::uuid, $1::uuid]`, "sane"},
		"two transactions of one cause":         {two + `'{hold}', array[$1::uuid]`, "sane"},
		"a batch":                               {batch + `'{hold}', array[$1::uuid]`, ""},
		"a batch without a kind":                {batch + `'{""}', array[$1::uuid]`, "sane"},
		"a batch that lacks a cause":            {batch + `'{hold}', '{}'`, "sane"},
	} {
		err := d.DB.WithTenants(t.Context(), []uuid.UUID{tenant}, func(ctx context.Context, tx db.Tx) error {
			tag, err := tx.Exec(ctx, tt.sql, tenant)
			if err == nil && tag.RowsAffected() != 1 {
				t.Errorf("%s: %d rows", name, tag.RowsAffected())
			}
			if err == nil {
				err = errTakeBack
			}
			return err
		})
		if took := errors.Is(err, errTakeBack); took != (tt.refusedBy == "") || !took && !refusedBy(err, tt.refusedBy) && db.Constraint(err) != tt.refusedBy {
			t.Errorf("%s: %v, want it refused by %q", name, err, tt.refusedBy)
		}
	}
}

// refusedBy reports whether err is what the policy of that name says to a row.
func refusedBy(err error, policy string) bool {
	return db.Is(err, "42501") && strings.Contains(err.Error(), `violates row-level security policy "`+policy+`"`)
}
