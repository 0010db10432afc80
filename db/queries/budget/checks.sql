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
            coalesce(sum(m.cost_nano) filter (where m.to_account = 'held'), 0) - coalesce(sum(m.cost_nano) filter (where m.from_account = 'held'), 0),
            coalesce(sum(m.cost_nano) filter (where m.to_account = 'spent'), 0) - coalesce(sum(m.cost_nano) filter (where m.from_account = 'spent'), 0),
            coalesce(sum(m.cost_nano) filter (where m.from_account = 'overage'), 0) - coalesce(sum(m.cost_nano) filter (where m.to_account = 'overage'), 0),
            coalesce(sum(m.total_tokens) filter (where m.to_account = 'held'), 0) - coalesce(sum(m.total_tokens) filter (where m.from_account = 'held'), 0),
            coalesce(sum(m.total_tokens) filter (where m.to_account = 'spent'), 0) - coalesce(sum(m.total_tokens) filter (where m.from_account = 'spent'), 0),
            coalesce(sum(m.total_tokens) filter (where m.from_account = 'overage'), 0) - coalesce(sum(m.total_tokens) filter (where m.to_account = 'overage'), 0),
            coalesce(sum(m.input_tokens) filter (where m.to_account = 'held'), 0) - coalesce(sum(m.input_tokens) filter (where m.from_account = 'held'), 0),
            coalesce(sum(m.input_tokens) filter (where m.to_account = 'spent'), 0) - coalesce(sum(m.input_tokens) filter (where m.from_account = 'spent'), 0),
            coalesce(sum(m.input_tokens) filter (where m.from_account = 'overage'), 0) - coalesce(sum(m.input_tokens) filter (where m.to_account = 'overage'), 0),
            coalesce(sum(m.output_tokens) filter (where m.to_account = 'held'), 0) - coalesce(sum(m.output_tokens) filter (where m.from_account = 'held'), 0),
            coalesce(sum(m.output_tokens) filter (where m.to_account = 'spent'), 0) - coalesce(sum(m.output_tokens) filter (where m.from_account = 'spent'), 0),
            coalesce(sum(m.output_tokens) filter (where m.from_account = 'overage'), 0) - coalesce(sum(m.output_tokens) filter (where m.to_account = 'overage'), 0),
            coalesce(sum(m.llm_calls) filter (where m.to_account = 'held'), 0) - coalesce(sum(m.llm_calls) filter (where m.from_account = 'held'), 0),
            coalesce(sum(m.llm_calls) filter (where m.to_account = 'spent'), 0) - coalesce(sum(m.llm_calls) filter (where m.from_account = 'spent'), 0),
            coalesce(sum(m.llm_calls) filter (where m.from_account = 'overage'), 0) - coalesce(sum(m.llm_calls) filter (where m.to_account = 'overage'), 0),
            coalesce(sum(m.tool_calls) filter (where m.to_account = 'held'), 0) - coalesce(sum(m.tool_calls) filter (where m.from_account = 'held'), 0),
            coalesce(sum(m.tool_calls) filter (where m.to_account = 'spent'), 0) - coalesce(sum(m.tool_calls) filter (where m.from_account = 'spent'), 0),
            coalesce(sum(m.tool_calls) filter (where m.from_account = 'overage'), 0) - coalesce(sum(m.tool_calls) filter (where m.to_account = 'overage'), 0),
            coalesce(sum(m.seconds) filter (where m.to_account = 'held'), 0) - coalesce(sum(m.seconds) filter (where m.from_account = 'held'), 0),
            coalesce(sum(m.seconds) filter (where m.to_account = 'spent'), 0) - coalesce(sum(m.seconds) filter (where m.from_account = 'spent'), 0),
            coalesce(sum(m.seconds) filter (where m.from_account = 'overage'), 0) - coalesce(sum(m.seconds) filter (where m.to_account = 'overage'), 0),
            coalesce(sum(m.cost_nano) filter (where m.from_account = 'external'), 0) - coalesce(sum(m.cost_nano) filter (where m.to_account = 'external'), 0)]::bigint[] as newer
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
from fulcrum.held_between(@tenant_id, @account::text, coalesce((select k.through from fulcrum.ledger_sums_of_holds k where k.tenant_id = @tenant_id), 'epoch'), 'infinity') h);

-- name: KeepSums :exec
-- Adds up the entries of windows from where the last time ended to a moment
-- before which no transaction is open any more.
insert into fulcrum.ledger_sums as t (tenant_id, budget_id, window_start, through, posted)
select w.tenant_id, w.budget_id, w.window_start, @through::timestamptz,
    array(select coalesce(k.n, 0) + x.n from unnest(s.newer) with ordinality x(n, i)
          left join unnest(c.posted) with ordinality k(n, i) on k.i = x.i order by x.i)
from (select unnest(@budget_ids::text[]) as budget_id, unnest(@window_starts::timestamptz[]) as window_start) w0
join fulcrum.budget_windows w on w.tenant_id = @tenant_id and w.budget_id = w0.budget_id and w.window_start = w0.window_start
left join fulcrum.ledger_sums c on c.tenant_id = w.tenant_id and c.budget_id = w.budget_id and c.window_start = w.window_start
cross join lateral (
    select array[
            coalesce(sum(m.cost_nano) filter (where m.to_account = 'held'), 0) - coalesce(sum(m.cost_nano) filter (where m.from_account = 'held'), 0),
            coalesce(sum(m.cost_nano) filter (where m.to_account = 'spent'), 0) - coalesce(sum(m.cost_nano) filter (where m.from_account = 'spent'), 0),
            coalesce(sum(m.cost_nano) filter (where m.from_account = 'overage'), 0) - coalesce(sum(m.cost_nano) filter (where m.to_account = 'overage'), 0),
            coalesce(sum(m.total_tokens) filter (where m.to_account = 'held'), 0) - coalesce(sum(m.total_tokens) filter (where m.from_account = 'held'), 0),
            coalesce(sum(m.total_tokens) filter (where m.to_account = 'spent'), 0) - coalesce(sum(m.total_tokens) filter (where m.from_account = 'spent'), 0),
            coalesce(sum(m.total_tokens) filter (where m.from_account = 'overage'), 0) - coalesce(sum(m.total_tokens) filter (where m.to_account = 'overage'), 0),
            coalesce(sum(m.input_tokens) filter (where m.to_account = 'held'), 0) - coalesce(sum(m.input_tokens) filter (where m.from_account = 'held'), 0),
            coalesce(sum(m.input_tokens) filter (where m.to_account = 'spent'), 0) - coalesce(sum(m.input_tokens) filter (where m.from_account = 'spent'), 0),
            coalesce(sum(m.input_tokens) filter (where m.from_account = 'overage'), 0) - coalesce(sum(m.input_tokens) filter (where m.to_account = 'overage'), 0),
            coalesce(sum(m.output_tokens) filter (where m.to_account = 'held'), 0) - coalesce(sum(m.output_tokens) filter (where m.from_account = 'held'), 0),
            coalesce(sum(m.output_tokens) filter (where m.to_account = 'spent'), 0) - coalesce(sum(m.output_tokens) filter (where m.from_account = 'spent'), 0),
            coalesce(sum(m.output_tokens) filter (where m.from_account = 'overage'), 0) - coalesce(sum(m.output_tokens) filter (where m.to_account = 'overage'), 0),
            coalesce(sum(m.llm_calls) filter (where m.to_account = 'held'), 0) - coalesce(sum(m.llm_calls) filter (where m.from_account = 'held'), 0),
            coalesce(sum(m.llm_calls) filter (where m.to_account = 'spent'), 0) - coalesce(sum(m.llm_calls) filter (where m.from_account = 'spent'), 0),
            coalesce(sum(m.llm_calls) filter (where m.from_account = 'overage'), 0) - coalesce(sum(m.llm_calls) filter (where m.to_account = 'overage'), 0),
            coalesce(sum(m.tool_calls) filter (where m.to_account = 'held'), 0) - coalesce(sum(m.tool_calls) filter (where m.from_account = 'held'), 0),
            coalesce(sum(m.tool_calls) filter (where m.to_account = 'spent'), 0) - coalesce(sum(m.tool_calls) filter (where m.from_account = 'spent'), 0),
            coalesce(sum(m.tool_calls) filter (where m.from_account = 'overage'), 0) - coalesce(sum(m.tool_calls) filter (where m.to_account = 'overage'), 0),
            coalesce(sum(m.seconds) filter (where m.to_account = 'held'), 0) - coalesce(sum(m.seconds) filter (where m.from_account = 'held'), 0),
            coalesce(sum(m.seconds) filter (where m.to_account = 'spent'), 0) - coalesce(sum(m.seconds) filter (where m.from_account = 'spent'), 0),
            coalesce(sum(m.seconds) filter (where m.from_account = 'overage'), 0) - coalesce(sum(m.seconds) filter (where m.to_account = 'overage'), 0),
            coalesce(sum(m.cost_nano) filter (where m.from_account = 'external'), 0) - coalesce(sum(m.cost_nano) filter (where m.to_account = 'external'), 0)]::bigint[] as newer
    from (select e.from_account, e.to_account, sum(e.cost_nano) as cost_nano, sum(e.total_tokens) as total_tokens, sum(e.input_tokens) as input_tokens, sum(e.output_tokens) as output_tokens, sum(e.llm_calls) as llm_calls, sum(e.tool_calls) as tool_calls, sum(e.seconds) as seconds
        from fulcrum.ledger_posted e
        where e.tenant_id = w.tenant_id and e.budget_id = w.budget_id and e.window_start = w.window_start
          and e.occurred_at >= coalesce(c.through, '-infinity') and e.occurred_at < @through::timestamptz
        group by e.from_account, e.to_account) m) s
where w.tenant_id = @tenant_id and coalesce(c.through, '-infinity') < @through::timestamptz
on conflict (tenant_id, budget_id, window_start) do update set through = excluded.through, posted = excluded.posted
where t.through < excluded.through;

-- name: LockHeld :one
-- The moment before which a tenant's holds are added up. Whoever adds up more has
-- it locked until he is done.
insert into fulcrum.ledger_sums_of_holds as k (tenant_id) values (@tenant_id)
on conflict (tenant_id) do update set through = k.through
returning through;

-- name: KeepHeld :exec
-- Adds up the holds of a span that no transaction writes to any more.
insert into fulcrum.ledger_sums as t (tenant_id, budget_id, window_start, held)
select @tenant_id, h.budget_id, h.window_start, h.held
from fulcrum.held_between(@tenant_id, '', @since::timestamptz, @until::timestamptz) h
on conflict (tenant_id, budget_id, window_start) do update
set held = array[t.held[1] + excluded.held[1], t.held[2] + excluded.held[2], t.held[3] + excluded.held[3], t.held[4] + excluded.held[4], t.held[5] + excluded.held[5], t.held[6] + excluded.held[6], t.held[7] + excluded.held[7]];

-- name: MoveHeld :exec
update fulcrum.ledger_sums_of_holds set through = @through::timestamptz where tenant_id = @tenant_id;

-- name: ReplaceHeld :exec
-- Adds up all holds anew that are older than until, of one account if it is not empty.
insert into fulcrum.ledger_sums as t (tenant_id, budget_id, window_start, held)
select @tenant_id, coalesce(h.budget_id, c.budget_id), coalesce(h.window_start, c.window_start), coalesce(h.held, array_fill(0::bigint, array[7]))
from fulcrum.held_between(@tenant_id, @account::text, '-infinity', @until::timestamptz) h
full join (select x.budget_id, x.window_start, x.held from fulcrum.ledger_sums x
    where x.tenant_id = @tenant_id and (@account::text = '' or x.budget_id = @account::text)) c on c.budget_id = h.budget_id collate "C" and c.window_start = h.window_start
where coalesce(h.held, array_fill(0::bigint, array[7])) <> coalesce(c.held, array_fill(0::bigint, array[7]))
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
