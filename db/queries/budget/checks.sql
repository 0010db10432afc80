-- name: CheckWindows :many
-- Counters beside the sums of their entries, in one snapshot, for windows of a
-- tenant in key order: kept is what was added up before, newer the rest; and the
-- same of holds that are their own entries. A recount trusts nothing that was kept
-- of postings; holds were recounted before it (ReplaceHeld). After the windows come
-- the newest holds of all windows that had some, without counters.
(select w.budget_id, w.window_start, array[w.cost_nano_held, w.cost_nano_spent, w.cost_nano_over, w.total_tokens_held, w.total_tokens_spent, w.total_tokens_over, w.input_tokens_held, w.input_tokens_spent, w.input_tokens_over, w.output_tokens_held, w.output_tokens_spent, w.output_tokens_over, w.llm_calls_held, w.llm_calls_spent, w.llm_calls_over, w.tool_calls_held, w.tool_calls_spent, w.tool_calls_over, w.seconds_held, w.seconds_spent, w.seconds_over,
        case when w.mode = 4 then w.cost_nano_limit else 0 end]::bigint[] as counters,
    case when @recount::boolean then '{}' else coalesce(c.posted, '{}') end::bigint[] as kept, s.newer::bigint[] as newer, coalesce(c.held, '{}')::bigint[] as held
from fulcrum.budget_windows w
left join fulcrum.ledger_sums c on c.tenant_id = w.tenant_id and c.budget_id = w.budget_id and c.window_start = w.window_start
cross join lateral (
    select array[
            fulcrum.wrapped(coalesce(sum(m.cost_nano) filter (where m.to_account = 'held'), 0) - coalesce(sum(m.cost_nano) filter (where m.from_account = 'held'), 0)),
            fulcrum.wrapped(coalesce(sum(m.cost_nano) filter (where m.to_account = 'spent'), 0) - coalesce(sum(m.cost_nano) filter (where m.from_account = 'spent'), 0)),
            fulcrum.wrapped(coalesce(sum(m.cost_nano) filter (where m.from_account = 'overage'), 0) - coalesce(sum(m.cost_nano) filter (where m.to_account = 'overage'), 0)),
            fulcrum.wrapped(coalesce(sum(m.total_tokens) filter (where m.to_account = 'held'), 0) - coalesce(sum(m.total_tokens) filter (where m.from_account = 'held'), 0)),
            fulcrum.wrapped(coalesce(sum(m.total_tokens) filter (where m.to_account = 'spent'), 0) - coalesce(sum(m.total_tokens) filter (where m.from_account = 'spent'), 0)),
            fulcrum.wrapped(coalesce(sum(m.total_tokens) filter (where m.from_account = 'overage'), 0) - coalesce(sum(m.total_tokens) filter (where m.to_account = 'overage'), 0)),
            fulcrum.wrapped(coalesce(sum(m.input_tokens) filter (where m.to_account = 'held'), 0) - coalesce(sum(m.input_tokens) filter (where m.from_account = 'held'), 0)),
            fulcrum.wrapped(coalesce(sum(m.input_tokens) filter (where m.to_account = 'spent'), 0) - coalesce(sum(m.input_tokens) filter (where m.from_account = 'spent'), 0)),
            fulcrum.wrapped(coalesce(sum(m.input_tokens) filter (where m.from_account = 'overage'), 0) - coalesce(sum(m.input_tokens) filter (where m.to_account = 'overage'), 0)),
            fulcrum.wrapped(coalesce(sum(m.output_tokens) filter (where m.to_account = 'held'), 0) - coalesce(sum(m.output_tokens) filter (where m.from_account = 'held'), 0)),
            fulcrum.wrapped(coalesce(sum(m.output_tokens) filter (where m.to_account = 'spent'), 0) - coalesce(sum(m.output_tokens) filter (where m.from_account = 'spent'), 0)),
            fulcrum.wrapped(coalesce(sum(m.output_tokens) filter (where m.from_account = 'overage'), 0) - coalesce(sum(m.output_tokens) filter (where m.to_account = 'overage'), 0)),
            fulcrum.wrapped(coalesce(sum(m.llm_calls) filter (where m.to_account = 'held'), 0) - coalesce(sum(m.llm_calls) filter (where m.from_account = 'held'), 0)),
            fulcrum.wrapped(coalesce(sum(m.llm_calls) filter (where m.to_account = 'spent'), 0) - coalesce(sum(m.llm_calls) filter (where m.from_account = 'spent'), 0)),
            fulcrum.wrapped(coalesce(sum(m.llm_calls) filter (where m.from_account = 'overage'), 0) - coalesce(sum(m.llm_calls) filter (where m.to_account = 'overage'), 0)),
            fulcrum.wrapped(coalesce(sum(m.tool_calls) filter (where m.to_account = 'held'), 0) - coalesce(sum(m.tool_calls) filter (where m.from_account = 'held'), 0)),
            fulcrum.wrapped(coalesce(sum(m.tool_calls) filter (where m.to_account = 'spent'), 0) - coalesce(sum(m.tool_calls) filter (where m.from_account = 'spent'), 0)),
            fulcrum.wrapped(coalesce(sum(m.tool_calls) filter (where m.from_account = 'overage'), 0) - coalesce(sum(m.tool_calls) filter (where m.to_account = 'overage'), 0)),
            fulcrum.wrapped(coalesce(sum(m.seconds) filter (where m.to_account = 'held'), 0) - coalesce(sum(m.seconds) filter (where m.from_account = 'held'), 0)),
            fulcrum.wrapped(coalesce(sum(m.seconds) filter (where m.to_account = 'spent'), 0) - coalesce(sum(m.seconds) filter (where m.from_account = 'spent'), 0)),
            fulcrum.wrapped(coalesce(sum(m.seconds) filter (where m.from_account = 'overage'), 0) - coalesce(sum(m.seconds) filter (where m.to_account = 'overage'), 0)),
            fulcrum.wrapped(coalesce(sum(m.cost_nano) filter (where m.from_account = 'external'), 0) - coalesce(sum(m.cost_nano) filter (where m.to_account = 'external'), 0))]::bigint[] as newer
    from (select e.from_account, e.to_account, sum(e.cost_nano) as cost_nano, sum(e.total_tokens) as total_tokens, sum(e.input_tokens) as input_tokens, sum(e.output_tokens) as output_tokens, sum(e.llm_calls) as llm_calls, sum(e.tool_calls) as tool_calls, sum(e.seconds) as seconds
        from fulcrum.ledger_posted e
        where e.tenant_id = w.tenant_id and e.budget_id = w.budget_id and e.window_start = w.window_start
          and e.occurred_at >= case when @recount::boolean then '-infinity' else coalesce(c.through, '-infinity') end
        group by e.from_account, e.to_account) m) s
where w.tenant_id = @tenant_id and w.updated_at >= @touched_since
  and (w.budget_id, w.window_start) > (@after_budget::text, @after_start::timestamptz)
  and (@account::text = '' or w.budget_id = @account::text)
order by w.budget_id, w.window_start
limit @lim)
union all
(select h.budget_id, h.window_start, '{}', '{}', '{}', h.held
from fulcrum.held_between(@tenant_id, @account::text, coalesce((select k.through from fulcrum.ledger_sums_of_holds k where k.tenant_id = @tenant_id), '-infinity'), 'infinity') h);

-- name: KeepSums :exec
-- Adds up the entries of windows from where the last time ended to a moment
-- before which no transaction is open any more.
insert into fulcrum.ledger_sums as t (tenant_id, budget_id, window_start, through, posted)
select w.tenant_id, w.budget_id, w.window_start, @through::timestamptz,
    array(select fulcrum.wrapped(coalesce(k.n, 0)::numeric + x.n) from unnest(s.newer) with ordinality x(n, i)
          left join unnest(c.posted) with ordinality k(n, i) on k.i = x.i order by x.i)
from (select unnest(@budget_ids::text[]) as budget_id, unnest(@window_starts::timestamptz[]) as window_start) w0
join fulcrum.budget_windows w on w.tenant_id = @tenant_id and w.budget_id = w0.budget_id and w.window_start = w0.window_start
left join fulcrum.ledger_sums c on c.tenant_id = w.tenant_id and c.budget_id = w.budget_id and c.window_start = w.window_start
cross join lateral (
    select array[
            fulcrum.wrapped(coalesce(sum(m.cost_nano) filter (where m.to_account = 'held'), 0) - coalesce(sum(m.cost_nano) filter (where m.from_account = 'held'), 0)),
            fulcrum.wrapped(coalesce(sum(m.cost_nano) filter (where m.to_account = 'spent'), 0) - coalesce(sum(m.cost_nano) filter (where m.from_account = 'spent'), 0)),
            fulcrum.wrapped(coalesce(sum(m.cost_nano) filter (where m.from_account = 'overage'), 0) - coalesce(sum(m.cost_nano) filter (where m.to_account = 'overage'), 0)),
            fulcrum.wrapped(coalesce(sum(m.total_tokens) filter (where m.to_account = 'held'), 0) - coalesce(sum(m.total_tokens) filter (where m.from_account = 'held'), 0)),
            fulcrum.wrapped(coalesce(sum(m.total_tokens) filter (where m.to_account = 'spent'), 0) - coalesce(sum(m.total_tokens) filter (where m.from_account = 'spent'), 0)),
            fulcrum.wrapped(coalesce(sum(m.total_tokens) filter (where m.from_account = 'overage'), 0) - coalesce(sum(m.total_tokens) filter (where m.to_account = 'overage'), 0)),
            fulcrum.wrapped(coalesce(sum(m.input_tokens) filter (where m.to_account = 'held'), 0) - coalesce(sum(m.input_tokens) filter (where m.from_account = 'held'), 0)),
            fulcrum.wrapped(coalesce(sum(m.input_tokens) filter (where m.to_account = 'spent'), 0) - coalesce(sum(m.input_tokens) filter (where m.from_account = 'spent'), 0)),
            fulcrum.wrapped(coalesce(sum(m.input_tokens) filter (where m.from_account = 'overage'), 0) - coalesce(sum(m.input_tokens) filter (where m.to_account = 'overage'), 0)),
            fulcrum.wrapped(coalesce(sum(m.output_tokens) filter (where m.to_account = 'held'), 0) - coalesce(sum(m.output_tokens) filter (where m.from_account = 'held'), 0)),
            fulcrum.wrapped(coalesce(sum(m.output_tokens) filter (where m.to_account = 'spent'), 0) - coalesce(sum(m.output_tokens) filter (where m.from_account = 'spent'), 0)),
            fulcrum.wrapped(coalesce(sum(m.output_tokens) filter (where m.from_account = 'overage'), 0) - coalesce(sum(m.output_tokens) filter (where m.to_account = 'overage'), 0)),
            fulcrum.wrapped(coalesce(sum(m.llm_calls) filter (where m.to_account = 'held'), 0) - coalesce(sum(m.llm_calls) filter (where m.from_account = 'held'), 0)),
            fulcrum.wrapped(coalesce(sum(m.llm_calls) filter (where m.to_account = 'spent'), 0) - coalesce(sum(m.llm_calls) filter (where m.from_account = 'spent'), 0)),
            fulcrum.wrapped(coalesce(sum(m.llm_calls) filter (where m.from_account = 'overage'), 0) - coalesce(sum(m.llm_calls) filter (where m.to_account = 'overage'), 0)),
            fulcrum.wrapped(coalesce(sum(m.tool_calls) filter (where m.to_account = 'held'), 0) - coalesce(sum(m.tool_calls) filter (where m.from_account = 'held'), 0)),
            fulcrum.wrapped(coalesce(sum(m.tool_calls) filter (where m.to_account = 'spent'), 0) - coalesce(sum(m.tool_calls) filter (where m.from_account = 'spent'), 0)),
            fulcrum.wrapped(coalesce(sum(m.tool_calls) filter (where m.from_account = 'overage'), 0) - coalesce(sum(m.tool_calls) filter (where m.to_account = 'overage'), 0)),
            fulcrum.wrapped(coalesce(sum(m.seconds) filter (where m.to_account = 'held'), 0) - coalesce(sum(m.seconds) filter (where m.from_account = 'held'), 0)),
            fulcrum.wrapped(coalesce(sum(m.seconds) filter (where m.to_account = 'spent'), 0) - coalesce(sum(m.seconds) filter (where m.from_account = 'spent'), 0)),
            fulcrum.wrapped(coalesce(sum(m.seconds) filter (where m.from_account = 'overage'), 0) - coalesce(sum(m.seconds) filter (where m.to_account = 'overage'), 0)),
            fulcrum.wrapped(coalesce(sum(m.cost_nano) filter (where m.from_account = 'external'), 0) - coalesce(sum(m.cost_nano) filter (where m.to_account = 'external'), 0))]::bigint[] as newer
    from (select e.from_account, e.to_account, sum(e.cost_nano) as cost_nano, sum(e.total_tokens) as total_tokens, sum(e.input_tokens) as input_tokens, sum(e.output_tokens) as output_tokens, sum(e.llm_calls) as llm_calls, sum(e.tool_calls) as tool_calls, sum(e.seconds) as seconds
        from fulcrum.ledger_posted e
        where e.tenant_id = w.tenant_id and e.budget_id = w.budget_id and e.window_start = w.window_start
          and e.occurred_at >= coalesce(c.through, '-infinity') and e.occurred_at < @through::timestamptz
        group by e.from_account, e.to_account) m) s
where w.tenant_id = @tenant_id and coalesce(c.through, '-infinity') < @through::timestamptz
on conflict (tenant_id, budget_id, window_start) do update set through = excluded.through, posted = excluded.posted
where t.through < excluded.through;

-- name: NextHeld :one
-- The moment of the first hold from a moment on that is its own entry, or until.
select coalesce(min(r.created_at), @until::timestamptz)::timestamptz as first
from fulcrum.reservations r
where r.tenant_id = @tenant_id and not r.posted and r.created_at >= @since::timestamptz and r.created_at < @until::timestamptz;

-- name: HeldThrough :many
-- The moment before which a tenant's holds are added up, if any are.
select k.through from fulcrum.ledger_sums_of_holds k where k.tenant_id = @tenant_id;

-- name: LockHeldThrough :many
-- The same. Whoever adds up more has it locked until he is done.
select k.through from fulcrum.ledger_sums_of_holds k where k.tenant_id = @tenant_id for update;

-- name: BeginHeld :exec
insert into fulcrum.ledger_sums_of_holds (tenant_id, through) values (@tenant_id, @through)
on conflict (tenant_id) do nothing;

-- name: HeldBetween :many
select h.budget_id::text as budget_id, h.window_start::timestamptz as window_start, h.held::bigint[] as held
from fulcrum.held_between(@tenant_id::uuid, @account::text, @since::timestamptz, @until::timestamptz) as h(budget_id, window_start, held);

-- name: KeepHeld :exec
-- Adds up the holds of a span that no transaction writes to any more. Rows are in
-- key order, so that two instances never wait for each other.
insert into fulcrum.ledger_sums as t (tenant_id, budget_id, window_start, held)
select @tenant_id, h.budget_id, h.window_start, h.held
from fulcrum.held_between(@tenant_id, '', @since::timestamptz, @until::timestamptz) h
order by h.budget_id collate "C", h.window_start
on conflict (tenant_id, budget_id, window_start) do update
set held = array[fulcrum.wrapped(t.held[1]::numeric + excluded.held[1]), fulcrum.wrapped(t.held[2]::numeric + excluded.held[2]), fulcrum.wrapped(t.held[3]::numeric + excluded.held[3]), fulcrum.wrapped(t.held[4]::numeric + excluded.held[4]),
    fulcrum.wrapped(t.held[5]::numeric + excluded.held[5]), fulcrum.wrapped(t.held[6]::numeric + excluded.held[6]), fulcrum.wrapped(t.held[7]::numeric + excluded.held[7])];

-- name: MoveHeld :exec
update fulcrum.ledger_sums_of_holds set through = @through::timestamptz where tenant_id = @tenant_id;

-- name: ReplaceHeld :exec
-- Puts sums in the place of what was kept, of one account if it is not empty: seven
-- numbers a window, in key order. Windows that are not named have none.
insert into fulcrum.ledger_sums as t (tenant_id, budget_id, window_start, held)
select @tenant_id, k.budget_id, k.window_start, k.held
from (select coalesce(n.budget_id, c.budget_id) as budget_id, coalesce(n.window_start, c.window_start) as window_start,
        coalesce((@held::bigint[])[n.place * 7 + 1:n.place * 7 + 7], array_fill(0::bigint, array[7])) as held, coalesce(c.held, array_fill(0::bigint, array[7])) as was
    from (select generate_series(0, cardinality(@budget_ids::text[]) - 1) as place, unnest(@budget_ids::text[]) as budget_id, unnest(@window_starts::timestamptz[]) as window_start) n
    full join (select x.budget_id, x.window_start, x.held from fulcrum.ledger_sums x
        where x.tenant_id = @tenant_id and (@account::text = '' or x.budget_id = @account::text)) c on c.budget_id = n.budget_id collate "C" and c.window_start = n.window_start) k
where k.held <> k.was
order by k.budget_id collate "C", k.window_start
on conflict (tenant_id, budget_id, window_start) do update set held = excluded.held;

-- name: TenantsWithWindows :many
select fulcrum.tenants_with_budget_windows(@after::uuid, @lim::integer)::uuid as tenant_id;

-- name: Patiently :exec
-- For this transaction: a recount may read everything a tenant ever did, and waits
-- for another instance's.
select set_config('statement_timeout', '10min', true), set_config('lock_timeout', '10min', true);

-- name: NoteDifferences :many
-- Returns those that nobody has announced yet.
insert into fulcrum.ledger_differences as d (tenant_id, budget_id, window_start, account, unit, difference, counter, entries)
select @tenant_id, unnest(@budget_ids::text[]), unnest(@window_starts::timestamptz[]), unnest(@accounts::text[]), unnest(@units::text[]),
    unnest(@differences::bigint[]), unnest(@counters::bigint[]), unnest(@entries::bigint[])
on conflict (tenant_id, budget_id, window_start, account, unit, difference) do update
set counter = excluded.counter, entries = excluded.entries, found_at = now(), cleared_at = null
where d.cleared_at is not null
returning budget_id, window_start, account, unit, difference;

-- name: ClearDifferences :exec
-- After all windows were recounted: what was not found again is over.
update fulcrum.ledger_differences d
set cleared_at = now()
where d.tenant_id = @tenant_id and d.cleared_at is null
  and not exists (
      select from (select unnest(@budget_ids::text[]) as budget_id, unnest(@window_starts::timestamptz[]) as window_start,
          unnest(@accounts::text[]) as account, unnest(@units::text[]) as unit, unnest(@differences::bigint[]) as difference) f
      where f.budget_id = d.budget_id and f.window_start = d.window_start and f.account = d.account and f.unit = d.unit and f.difference = d.difference);
