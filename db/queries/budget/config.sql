-- name: BundleVersions :many
select v.tenant_id::uuid as tenant_id, v.version::bigint as version from fulcrum.budget_bundle_versions() v;

-- name: Bundle :one
select b.version, b.content from fulcrum.config_bundles b
where b.tenant_id = @tenant_id and b.kind = 'budgets';

-- name: EnsureLedgerPartitions :exec
select fulcrum.ensure_ledger_partitions();

-- name: PlanForBatches :exec
-- For this transaction: every statement of a batch is a handful of key lookups,
-- but its arrays look to the planner as if they might be anything, and it may
-- read whole tables. One plan, by index, for all of them.
select set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true), set_config('enable_seqscan', 'off', true),
    set_config('enable_bitmapscan', 'off', true), set_config('plan_cache_mode', 'force_generic_plan', true), set_config('jit', 'off', true);

-- name: LedgerGuard :one
-- The same guard as in SaveWindows, for a batch that saves none, or when the
-- database's time was not heard for a while: it returns now().
select fulcrum.ledger_guard(@not_before::timestamptz, @not_after::timestamptz, @believed::timestamptz, @tenants::uuid[], @versions::bigint[])::timestamptz as now;
