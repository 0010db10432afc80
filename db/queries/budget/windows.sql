-- name: EnsureWindows :many
-- Rows arrive in key order, so that two batches never wait for each other. Returns
-- the keys of the rows that were not there.
insert into fulcrum.budget_windows (tenant_id, budget_id, window_start, window_end, config_version, mode, suspended,
    cost_nano_limit, total_tokens_limit, input_tokens_limit, output_tokens_limit, llm_calls_limit, tool_calls_limit, seconds_limit)
select unnest(@tenant_ids::uuid[]), unnest(@budget_ids::text[]), unnest(@window_starts::timestamptz[]), unnest(@window_ends::timestamptz[]),
    unnest(@config_versions::bigint[]), unnest(@modes::smallint[]), unnest(@suspended::boolean[]),
    unnest(@cost_nano_limits::bigint[]),
    unnest(@total_tokens_limits::bigint[]),
    unnest(@input_tokens_limits::bigint[]),
    unnest(@output_tokens_limits::bigint[]),
    unnest(@llm_calls_limits::bigint[]),
    unnest(@tool_calls_limits::bigint[]),
    unnest(@seconds_limits::bigint[])
on conflict (tenant_id, budget_id, window_start) do nothing
returning tenant_id, budget_id, window_start;

-- name: LockWindows :many
-- One row after the other in the order of the keys, which is the same in every
-- batch of every instance. A statement of its own: what follows takes a snapshot
-- in which everything is visible that was committed while this one waited.
select w.tenant_id, w.budget_id, w.window_start, w.window_end, w.config_version, w.mode, w.suspended, w.version, w.reached_bp, w.throttled_until,
    w.cost_nano_limit, w.cost_nano_held, w.cost_nano_spent, w.cost_nano_over, w.total_tokens_limit, w.total_tokens_held, w.total_tokens_spent, w.total_tokens_over, w.input_tokens_limit, w.input_tokens_held, w.input_tokens_spent, w.input_tokens_over, w.output_tokens_limit, w.output_tokens_held, w.output_tokens_spent, w.output_tokens_over, w.llm_calls_limit, w.llm_calls_held, w.llm_calls_spent, w.llm_calls_over, w.tool_calls_limit, w.tool_calls_held, w.tool_calls_spent, w.tool_calls_over, w.seconds_limit, w.seconds_held, w.seconds_spent, w.seconds_over
from (select unnest(@tenant_ids::uuid[]) as tenant_id, unnest(@budget_ids::text[]) as budget_id, unnest(@window_starts::timestamptz[]) as window_start) k
cross join lateral (
    select x.tenant_id, x.budget_id, x.window_start, x.window_end, x.config_version, x.mode, x.suspended, x.version, x.reached_bp, x.throttled_until,
        x.cost_nano_limit, x.cost_nano_held, x.cost_nano_spent, x.cost_nano_over, x.total_tokens_limit, x.total_tokens_held, x.total_tokens_spent, x.total_tokens_over, x.input_tokens_limit, x.input_tokens_held, x.input_tokens_spent, x.input_tokens_over, x.output_tokens_limit, x.output_tokens_held, x.output_tokens_spent, x.output_tokens_over, x.llm_calls_limit, x.llm_calls_held, x.llm_calls_spent, x.llm_calls_over, x.tool_calls_limit, x.tool_calls_held, x.tool_calls_spent, x.tool_calls_over, x.seconds_limit, x.seconds_held, x.seconds_spent, x.seconds_over
    from fulcrum.budget_windows x
    where x.tenant_id = k.tenant_id and x.budget_id = k.budget_id and x.window_start = k.window_start
    for no key update) w;

-- name: ReadWindows :many
select w.tenant_id, w.budget_id, w.window_start, w.window_end, w.config_version, w.mode, w.suspended, w.version, w.reached_bp, w.throttled_until,
    w.cost_nano_limit, w.cost_nano_held, w.cost_nano_spent, w.cost_nano_over, w.total_tokens_limit, w.total_tokens_held, w.total_tokens_spent, w.total_tokens_over, w.input_tokens_limit, w.input_tokens_held, w.input_tokens_spent, w.input_tokens_over, w.output_tokens_limit, w.output_tokens_held, w.output_tokens_spent, w.output_tokens_over, w.llm_calls_limit, w.llm_calls_held, w.llm_calls_spent, w.llm_calls_over, w.tool_calls_limit, w.tool_calls_held, w.tool_calls_spent, w.tool_calls_over, w.seconds_limit, w.seconds_held, w.seconds_spent, w.seconds_over
from (select unnest(@budget_ids::text[]) as budget_id, unnest(@window_starts::timestamptz[]) as window_start) k
cross join lateral (
    select x.tenant_id, x.budget_id, x.window_start, x.window_end, x.config_version, x.mode, x.suspended, x.version, x.reached_bp, x.throttled_until,
        x.cost_nano_limit, x.cost_nano_held, x.cost_nano_spent, x.cost_nano_over, x.total_tokens_limit, x.total_tokens_held, x.total_tokens_spent, x.total_tokens_over, x.input_tokens_limit, x.input_tokens_held, x.input_tokens_spent, x.input_tokens_over, x.output_tokens_limit, x.output_tokens_held, x.output_tokens_spent, x.output_tokens_over, x.llm_calls_limit, x.llm_calls_held, x.llm_calls_spent, x.llm_calls_over, x.tool_calls_limit, x.tool_calls_held, x.tool_calls_spent, x.tool_calls_over, x.seconds_limit, x.seconds_held, x.seconds_spent, x.seconds_over
    from fulcrum.budget_windows x
    where x.tenant_id = @tenant_id and x.budget_id = k.budget_id and x.window_start = k.window_start
    offset 0) w;

-- name: SaveWindows :execrows
-- Every row is there. As an upsert it is one lookup by key for each, whatever the
-- planner thinks of arrays, and limits and counters change together. It fails if a
-- row is not of the version that was decided on.
-- What was decided from memory fails, too, if time or configuration are not what
-- it went by: now() has to be in [not_before, not_after) and close to believed,
-- and no tenant's bundle newer than the version given. Here that costs half of
-- what it costs as a statement of its own. That every row is there is a condition
-- of this, too: the application cannot delete one.
-- The counters of all rows follow one another in the order of the columns.
insert into fulcrum.budget_windows as w (tenant_id, budget_id, window_start, window_end, config_version, mode, suspended, version, reached_bp, throttled_until,
    cost_nano_limit, cost_nano_held, cost_nano_spent, cost_nano_over, total_tokens_limit, total_tokens_held, total_tokens_spent, total_tokens_over, input_tokens_limit, input_tokens_held, input_tokens_spent, input_tokens_over, output_tokens_limit, output_tokens_held, output_tokens_spent, output_tokens_over, llm_calls_limit, llm_calls_held, llm_calls_spent, llm_calls_over, tool_calls_limit, tool_calls_held, tool_calls_spent, tool_calls_over, seconds_limit, seconds_held, seconds_spent, seconds_over)
select k.tenant_id, k.budget_id, k.window_start, k.window_end, k.config_version, k.mode, k.suspended, k.version, k.reached_bp, k.throttled_until,
    (@counters::bigint[])[k.n * 28 + 1], (@counters::bigint[])[k.n * 28 + 2], (@counters::bigint[])[k.n * 28 + 3], (@counters::bigint[])[k.n * 28 + 4],
    (@counters::bigint[])[k.n * 28 + 5], (@counters::bigint[])[k.n * 28 + 6], (@counters::bigint[])[k.n * 28 + 7], (@counters::bigint[])[k.n * 28 + 8],
    (@counters::bigint[])[k.n * 28 + 9], (@counters::bigint[])[k.n * 28 + 10], (@counters::bigint[])[k.n * 28 + 11], (@counters::bigint[])[k.n * 28 + 12],
    (@counters::bigint[])[k.n * 28 + 13], (@counters::bigint[])[k.n * 28 + 14], (@counters::bigint[])[k.n * 28 + 15], (@counters::bigint[])[k.n * 28 + 16],
    (@counters::bigint[])[k.n * 28 + 17], (@counters::bigint[])[k.n * 28 + 18], (@counters::bigint[])[k.n * 28 + 19], (@counters::bigint[])[k.n * 28 + 20],
    (@counters::bigint[])[k.n * 28 + 21], (@counters::bigint[])[k.n * 28 + 22], (@counters::bigint[])[k.n * 28 + 23], (@counters::bigint[])[k.n * 28 + 24],
    (@counters::bigint[])[k.n * 28 + 25], (@counters::bigint[])[k.n * 28 + 26], (@counters::bigint[])[k.n * 28 + 27], (@counters::bigint[])[k.n * 28 + 28]
from (select generate_series(0, cardinality(@budget_ids::text[]) - 1) as n, unnest(@tenant_ids::uuid[]) as tenant_id, unnest(@budget_ids::text[]) as budget_id,
        unnest(@window_starts::timestamptz[]) as window_start, unnest(@window_ends::timestamptz[]) as window_end, unnest(@config_versions::bigint[]) as config_version,
        unnest(@modes::smallint[]) as mode, unnest(@suspended::boolean[]) as suspended, unnest(@versions::bigint[]) as version,
        unnest(@reached_bps::integer[]) as reached_bp, unnest(@throttled_untils::timestamptz[]) as throttled_until) k
on conflict (tenant_id, budget_id, window_start) do update
set window_end = excluded.window_end, config_version = excluded.config_version, mode = excluded.mode, suspended = excluded.suspended,
    version = case
        when w.version <> excluded.version then fulcrum.refuse_batch('another version of a window', 'FT023')
        when now() < @not_before::timestamptz or now() >= @not_after::timestamptz
            or @believed::timestamptz not between now() - interval '1 s' and now() + interval '1 s'
            then fulcrum.refuse_batch('time moved on', 'FT021')
        when exists (
            select from (select unnest(@tenants::uuid[]) as tenant_id, unnest(@bundle_versions::bigint[]) as version) t
            cross join lateral (select c.version from fulcrum.config_bundles c where c.tenant_id = t.tenant_id and c.kind = 'budgets' offset 0) c
            where c.version > t.version)
            then fulcrum.refuse_batch('configuration moved on', 'FT022')
        else w.version + 1 end,
    reached_bp = excluded.reached_bp, throttled_until = excluded.throttled_until, updated_at = now(),
    cost_nano_limit = excluded.cost_nano_limit, cost_nano_held = excluded.cost_nano_held, cost_nano_spent = excluded.cost_nano_spent, cost_nano_over = excluded.cost_nano_over, total_tokens_limit = excluded.total_tokens_limit, total_tokens_held = excluded.total_tokens_held, total_tokens_spent = excluded.total_tokens_spent, total_tokens_over = excluded.total_tokens_over, input_tokens_limit = excluded.input_tokens_limit, input_tokens_held = excluded.input_tokens_held, input_tokens_spent = excluded.input_tokens_spent, input_tokens_over = excluded.input_tokens_over, output_tokens_limit = excluded.output_tokens_limit, output_tokens_held = excluded.output_tokens_held, output_tokens_spent = excluded.output_tokens_spent, output_tokens_over = excluded.output_tokens_over, llm_calls_limit = excluded.llm_calls_limit, llm_calls_held = excluded.llm_calls_held, llm_calls_spent = excluded.llm_calls_spent, llm_calls_over = excluded.llm_calls_over, tool_calls_limit = excluded.tool_calls_limit, tool_calls_held = excluded.tool_calls_held, tool_calls_spent = excluded.tool_calls_spent, tool_calls_over = excluded.tool_calls_over, seconds_limit = excluded.seconds_limit, seconds_held = excluded.seconds_held, seconds_spent = excluded.seconds_spent, seconds_over = excluded.seconds_over;

-- name: SaveHeld :execrows
-- SaveWindows for windows of which only what is held changed, and whom they make
-- wait: a sixth of what it costs is setting up the columns that stay the same. A
-- row that is not there would have mode 0, which its trigger refuses.
insert into fulcrum.budget_windows as w (tenant_id, budget_id, window_start, window_end, config_version, mode, version, throttled_until,
    cost_nano_held, total_tokens_held, input_tokens_held, output_tokens_held, llm_calls_held, tool_calls_held, seconds_held)
select k.tenant_id, k.budget_id, k.window_start, 'infinity', 0, 0, k.version, k.throttled_until,
    (@held::bigint[])[k.n + 1], (@held::bigint[])[k.n + 2], (@held::bigint[])[k.n + 3], (@held::bigint[])[k.n + 4], (@held::bigint[])[k.n + 5], (@held::bigint[])[k.n + 6], (@held::bigint[])[k.n + 7]
from (select 7 * generate_series(0, cardinality(@budget_ids::text[]) - 1) as n, unnest(@tenant_ids::uuid[]) as tenant_id, unnest(@budget_ids::text[]) as budget_id,
        unnest(@window_starts::timestamptz[]) as window_start, unnest(@versions::bigint[]) as version, unnest(@throttled_untils::timestamptz[]) as throttled_until) k
on conflict (tenant_id, budget_id, window_start) do update
set version = case
        when w.version <> excluded.version then fulcrum.refuse_batch('another version of a window', 'FT023')
        when now() < @not_before::timestamptz or now() >= @not_after::timestamptz
            or @believed::timestamptz not between now() - interval '1 s' and now() + interval '1 s'
            then fulcrum.refuse_batch('time moved on', 'FT021')
        when exists (
            select from (select unnest(@tenants::uuid[]) as tenant_id, unnest(@bundle_versions::bigint[]) as version) t
            cross join lateral (select c.version from fulcrum.config_bundles c where c.tenant_id = t.tenant_id and c.kind = 'budgets' offset 0) c
            where c.version > t.version)
            then fulcrum.refuse_batch('configuration moved on', 'FT022')
        else w.version + 1 end,
    throttled_until = excluded.throttled_until, updated_at = now(),
    cost_nano_held = excluded.cost_nano_held, total_tokens_held = excluded.total_tokens_held, input_tokens_held = excluded.input_tokens_held, output_tokens_held = excluded.output_tokens_held, llm_calls_held = excluded.llm_calls_held, tool_calls_held = excluded.tool_calls_held, seconds_held = excluded.seconds_held;

-- name: UsedBefore :many
-- What was used since each window began, in windows of the same budget that
-- overlap it: there are none unless the budget's period or time zone changed.
select k.tenant_id::uuid as tenant_id, k.budget_id::text as budget_id, k.window_start::timestamptz as window_start,
    (sum(o.cost_nano_held) + coalesce(sum(e.cost_nano), 0))::bigint as cost_nano,
    (sum(o.total_tokens_held) + coalesce(sum(e.total_tokens), 0))::bigint as total_tokens,
    (sum(o.input_tokens_held) + coalesce(sum(e.input_tokens), 0))::bigint as input_tokens,
    (sum(o.output_tokens_held) + coalesce(sum(e.output_tokens), 0))::bigint as output_tokens,
    (sum(o.llm_calls_held) + coalesce(sum(e.llm_calls), 0))::bigint as llm_calls,
    (sum(o.tool_calls_held) + coalesce(sum(e.tool_calls), 0))::bigint as tool_calls,
    (sum(o.seconds_held) + coalesce(sum(e.seconds), 0))::bigint as seconds
from (select unnest(@tenant_ids::uuid[]) as tenant_id, unnest(@budget_ids::text[]) as budget_id,
        unnest(@window_starts::timestamptz[]) as window_start, unnest(@window_ends::timestamptz[]) as window_end) k
cross join lateral (
    select w.window_start, w.cost_nano_held, w.total_tokens_held, w.input_tokens_held, w.output_tokens_held, w.llm_calls_held, w.tool_calls_held, w.seconds_held
    from fulcrum.budget_windows w
    where w.tenant_id = k.tenant_id and w.budget_id = k.budget_id and w.window_start <> k.window_start
      and w.window_start < k.window_end and w.window_end > k.window_start
    for no key update) o
left join lateral (
    select sum(case when x.to_account = 'spent' then x.cost_nano else -x.cost_nano end) as cost_nano,
            sum(case when x.to_account = 'spent' then x.total_tokens else -x.total_tokens end) as total_tokens,
            sum(case when x.to_account = 'spent' then x.input_tokens else -x.input_tokens end) as input_tokens,
            sum(case when x.to_account = 'spent' then x.output_tokens else -x.output_tokens end) as output_tokens,
            sum(case when x.to_account = 'spent' then x.llm_calls else -x.llm_calls end) as llm_calls,
            sum(case when x.to_account = 'spent' then x.tool_calls else -x.tool_calls end) as tool_calls,
            sum(case when x.to_account = 'spent' then x.seconds else -x.seconds end) as seconds
    from fulcrum.ledger_posted x
    where x.tenant_id = k.tenant_id and x.budget_id = k.budget_id and x.window_start = o.window_start
      and x.occurred_at >= k.window_start and x.occurred_at < k.window_end and 'spent' in (x.from_account, x.to_account)) e on true
group by k.tenant_id, k.budget_id, k.window_start;
