-- name: ExportEntries :many
-- One page in the order of the postings' primary key, then of transaction and
-- line: that needs no other index. It asks for as many postings as lines, and for
-- all that share the last one's place.
select l.occurred_at, b.transaction_ids[l.ref]::uuid as transaction_id, l.line::smallint as line, b.kinds[least(l.ref, cardinality(b.kinds))]::text as kind, l.budget_id, l.window_start,
    (array['available', 'held', 'spent', 'overage', 'suspense', 'external'])[l.move / 10]::text as from_account,
    (array['available', 'held', 'spent', 'overage', 'suspense', 'external'])[l.move % 10]::text as to_account,
    l.cost_nano::bigint as cost_nano, l.total_tokens::bigint as total_tokens, l.input_tokens::bigint as input_tokens, l.output_tokens::bigint as output_tokens, l.llm_calls::bigint as llm_calls, l.tool_calls::bigint as tool_calls, l.seconds::bigint as seconds, b.reservation_ids[l.ref]::uuid as reservation_id
from (select r.budget_id, r.window_start, r.occurred_at, r.batch_id, coalesce(r.ref, r.refs[1] + r.place - 1) as ref, coalesce(r.line, r.lines[1]) as line, coalesce(r.move, r.moves[1]) as move,
        coalesce(r.cost_nano, r.cost_nano_each[1], 0) as cost_nano, coalesce(r.total_tokens, r.total_tokens_each[1], 0) as total_tokens, coalesce(r.input_tokens, r.input_tokens_each[1], 0) as input_tokens, coalesce(r.output_tokens, r.output_tokens_each[1], 0) as output_tokens, coalesce(r.llm_calls, r.llm_calls_each[1], 0) as llm_calls, coalesce(r.tool_calls, r.tool_calls_each[1], 0) as tool_calls, coalesce(r.seconds, r.seconds_each[1], 0) as seconds
    from (select p.budget_id, p.window_start, p.occurred_at, p.batch_id, p.refs, p.lines, p.moves, p.cost_nano as cost_nano_each, p.total_tokens as total_tokens_each, p.input_tokens as input_tokens_each, p.output_tokens as output_tokens_each, p.llm_calls as llm_calls_each, p.tool_calls as tool_calls_each, p.seconds as seconds_each,
            generate_series(1, coalesce(p.entries, cardinality(p.refs))) as place, unnest(p.refs) as ref, unnest(p.lines) as line, unnest(p.moves) as move,
            unnest(p.cost_nano) as cost_nano, unnest(p.total_tokens) as total_tokens, unnest(p.input_tokens) as input_tokens, unnest(p.output_tokens) as output_tokens, unnest(p.llm_calls) as llm_calls, unnest(p.tool_calls) as tool_calls, unnest(p.seconds) as seconds
    from (
        (select x.tenant_id, x.budget_id, x.window_start, x.occurred_at, x.batch_id, x.entries, x.refs, x.lines, x.moves, x.cost_nano, x.total_tokens, x.input_tokens, x.output_tokens, x.llm_calls, x.tool_calls, x.seconds
        from fulcrum.ledger_postings x
        where x.tenant_id = @tenant_id and x.occurred_at >= @since::timestamptz and x.occurred_at < @until::timestamptz
          and (@account::text = '' or x.budget_id = @account::text)
          and x.budget_id = @after_budget::text and x.window_start = @after_start::timestamptz and x.occurred_at = @after_at::timestamptz)
        union all
        (select x.tenant_id, x.budget_id, x.window_start, x.occurred_at, x.batch_id, x.entries, x.refs, x.lines, x.moves, x.cost_nano, x.total_tokens, x.input_tokens, x.output_tokens, x.llm_calls, x.tool_calls, x.seconds
        from fulcrum.ledger_postings x
        where x.tenant_id = @tenant_id and x.occurred_at >= @since::timestamptz and x.occurred_at < @until::timestamptz
          and (@account::text = '' or x.budget_id = @account::text)
          and (x.budget_id, x.window_start, x.occurred_at) > (@after_budget::text, @after_start::timestamptz, @after_at::timestamptz)
        order by x.budget_id, x.window_start, x.occurred_at
        fetch first (@lim::integer) rows with ties)) p) r) l
join fulcrum.ledger_batches b on b.tenant_id = @tenant_id and b.occurred_at = l.occurred_at and b.id = l.batch_id
where (l.budget_id, l.window_start, l.occurred_at, b.transaction_ids[l.ref], l.line)
    > (@after_budget::text, @after_start::timestamptz, @after_at::timestamptz, @after_transaction::uuid, @after_line::smallint)
order by l.budget_id, l.window_start, l.occurred_at, transaction_id, l.line
limit @lim::integer;

-- name: ExportHolds :many
-- The lines of holds that are their own entries, in the order of time, hold and
-- line. Before those of each hold comes one with the number -1, which is none: a
-- hold may have no others.
with page as materialized (
    select x.id, x.created_at, x.budget_ids, x.window_starts, x.vias, x.cost_nano, x.total_tokens, x.input_tokens, x.output_tokens, x.llm_calls, x.tool_calls, x.seconds
    from fulcrum.reservations x
    where x.tenant_id = @tenant_id and not x.posted
      and x.created_at >= @after_at::timestamptz and x.created_at < @until::timestamptz and (x.created_at > @after_at::timestamptz or x.id >= @after_id::uuid)
      and (@account::text = '' or @account::text = any (x.budget_ids))
    order by x.created_at, x.id
    limit (1 + @lim::integer))
select l.occurred_at::timestamptz as occurred_at, l.transaction_id::uuid as transaction_id, l.line::smallint as line, l.budget_id::text as budget_id, l.window_start::timestamptz as window_start,
    l.cost_nano::bigint as cost_nano, l.total_tokens::bigint as total_tokens, l.input_tokens::bigint as input_tokens, l.output_tokens::bigint as output_tokens, l.llm_calls::bigint as llm_calls, l.tool_calls::bigint as tool_calls, l.seconds::bigint as seconds
from (
    select h.occurred_at, h.transaction_id, h.line, h.budget_id, h.window_start, h.cost_nano, case when h.budget_id like 'wallet:%' then 0 else h.total_tokens end as total_tokens, case when h.budget_id like 'wallet:%' then 0 else h.input_tokens end as input_tokens,
        case when h.budget_id like 'wallet:%' then 0 else h.output_tokens end as output_tokens, case when h.budget_id like 'wallet:%' then 0 else h.llm_calls end as llm_calls,
        case when h.budget_id like 'wallet:%' then 0 else h.tool_calls end as tool_calls, case when h.budget_id like 'wallet:%' then 0 else h.seconds end as seconds
    from (select p.created_at as occurred_at, p.id as transaction_id, generate_subscripts(p.budget_ids, 1) - 1 as line, unnest(p.budget_ids) as budget_id, unnest(p.window_starts) as window_start, unnest(p.vias) as via,
            p.cost_nano, p.total_tokens, p.input_tokens, p.output_tokens, p.llm_calls, p.tool_calls, p.seconds
        from page p) h
    where coalesce(h.via, '') = '' and (@account::text = '' or h.budget_id = @account::text)
      and (h.cost_nano > 0 or h.budget_id not like 'wallet:%' and greatest(h.total_tokens, h.input_tokens, h.output_tokens, h.llm_calls, h.tool_calls, h.seconds) > 0)
    union all
    select p.created_at, p.id, -1, '', 'epoch', 0, 0, 0, 0, 0, 0, 0 from page p) l
where (l.occurred_at, l.transaction_id, l.line) > (@after_at::timestamptz, @after_id::uuid, @after_line::smallint)
order by l.occurred_at, l.transaction_id, l.line
limit @lim::integer;

-- name: OpenHolds :many
-- Holds that have not ended: those that ran out before the last sweep have, or
-- should have. However young, if no age is asked for: a hold that was decided from
-- memory has the time that its batch believed in, which may be a little ahead.
select r.id, r.created_at, r.expires_at, r.agent_id, r.envelope_id, r.model,
    r.cost_nano, r.total_tokens, r.input_tokens, r.output_tokens, r.llm_calls, r.tool_calls, r.seconds, array(select x.id from unnest(r.budget_ids) x(id) order by x.id)::text[] as budget_ids
from fulcrum.reservations r
where r.tenant_id = @tenant_id and r.expires_at > 'epoch'
  and (@past_sweep::boolean or r.expires_at > coalesce((select h.swept_until from fulcrum.hold_sweeps h where h.tenant_id = @tenant_id), '-infinity'))
  and (@older_than_seconds::double precision <= 0 or r.created_at <= now() - make_interval(secs => @older_than_seconds::double precision))
  and (r.expires_at, r.id) > (@after_expiry::timestamptz, @after_id::uuid)
  and r.budget_ids <> '{}' and (@budget_id::text = '' or @budget_id::text = any (r.budget_ids))
  and not exists (select from fulcrum.settlements s where s.tenant_id = @tenant_id and s.reservation_id = r.id)
order by r.expires_at, r.id
limit @lim;
