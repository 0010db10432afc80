-- name: InsertBatches :exec
-- One row a tenant: its transactions are the elements from first to last. If all of
-- each tenant are of one kind, kinds has one element a tenant.
insert into fulcrum.ledger_batches (tenant_id, occurred_at, id, transaction_ids, kinds, reservation_ids)
select k.tenant_id, @occurred_at::timestamptz, @id::uuid, (@transaction_ids::uuid[])[k.first:k.last],
    case when @of_one_kind::boolean then (@kinds::text[])[k.place:k.place] else (@kinds::text[])[k.first:k.last] end, (@reservation_ids::uuid[])[k.first:k.last]
from (select generate_series(1, cardinality(@tenant_ids::uuid[])) as place, unnest(@tenant_ids::uuid[]) as tenant_id,
        unnest(@firsts::integer[]) as first, unnest(@lasts::integer[]) as last) k;

-- name: InsertPostings :exec
-- One row a window: its lines are the elements from first to last. The array of
-- a unit in which nothing moved is empty, and so is every part of it. Windows with
-- the same lines but for their numbers share their elements, of all but the
-- numbers: those are as many from line_first on, which is first if it is not said.
insert into fulcrum.ledger_postings (tenant_id, budget_id, window_start, occurred_at, batch_id, refs, lines, moves, cost_nano, total_tokens, input_tokens, output_tokens, llm_calls, tool_calls, seconds)
select k.tenant_id, k.budget_id, k.window_start, @occurred_at::timestamptz, @batch_id::uuid,
    (@refs::integer[])[k.first:k.last], (@lines::smallint[])[coalesce(k.line_first, k.first):coalesce(k.line_first, k.first) + k.last - k.first], (@moves::smallint[])[k.first:k.last],
    (@cost_nano::bigint[])[k.first:k.last],
    (@total_tokens::bigint[])[k.first:k.last],
    (@input_tokens::bigint[])[k.first:k.last],
    (@output_tokens::bigint[])[k.first:k.last],
    (@llm_calls::bigint[])[k.first:k.last],
    (@tool_calls::bigint[])[k.first:k.last],
    (@seconds::bigint[])[k.first:k.last]
from (select unnest(@tenant_ids::uuid[]) as tenant_id, unnest(@budget_ids::text[]) as budget_id, unnest(@window_starts::timestamptz[]) as window_start,
        unnest(@firsts::integer[]) as first, unnest(@lasts::integer[]) as last, unnest(@line_firsts::integer[]) as line_first) k;

-- name: InsertAlikePostings :exec
-- InsertPostings of windows whose lines differ in nothing but their amounts and
-- transactions, which follow one another from ref on.
insert into fulcrum.ledger_postings (tenant_id, budget_id, window_start, occurred_at, batch_id, entries, refs, lines, moves, cost_nano, total_tokens, input_tokens, output_tokens, llm_calls, tool_calls, seconds)
select k.tenant_id, k.budget_id, k.window_start, @occurred_at::timestamptz, @batch_id::uuid, k.entries, array[k.ref], array[k.line], array[k.move],
    (@cost_nano::bigint[])[k.first:k.first + k.entries - 1],
    (@total_tokens::bigint[])[k.first:k.first + k.entries - 1],
    (@input_tokens::bigint[])[k.first:k.first + k.entries - 1],
    (@output_tokens::bigint[])[k.first:k.first + k.entries - 1],
    (@llm_calls::bigint[])[k.first:k.first + k.entries - 1],
    (@tool_calls::bigint[])[k.first:k.first + k.entries - 1],
    (@seconds::bigint[])[k.first:k.first + k.entries - 1]
from (select unnest(@tenant_ids::uuid[]) as tenant_id, unnest(@budget_ids::text[]) as budget_id, unnest(@window_starts::timestamptz[]) as window_start,
        unnest(@entries::integer[]) as entries, unnest(@refs::integer[]) as ref, unnest(@lines::smallint[]) as line, unnest(@moves::smallint[]) as move, unnest(@firsts::integer[]) as first) k;

-- name: AddSpend :exec
-- Rows arrive in key order, so that two batches never wait for each other.
insert into fulcrum.spend_rollups as t (tenant_id, hour, workflow_id, team, agent_id, api_key_id, model, cost_nano, total_tokens, input_tokens, output_tokens, llm_calls, tool_calls, seconds, charges, failures)
select unnest(@tenant_ids::uuid[]), unnest(@hours::timestamptz[]), unnest(@workflow_ids::text[]), unnest(@teams::text[]), unnest(@agent_ids::text[]), unnest(@api_key_ids::text[]), unnest(@models::text[]),
    unnest(@cost_nano::bigint[]),
    unnest(@total_tokens::bigint[]),
    unnest(@input_tokens::bigint[]),
    unnest(@output_tokens::bigint[]),
    unnest(@llm_calls::bigint[]),
    unnest(@tool_calls::bigint[]),
    unnest(@seconds::bigint[]),
    unnest(@charges::bigint[]), unnest(@failures::bigint[])
on conflict (tenant_id, hour, workflow_id, team, agent_id, api_key_id, model) do update
set cost_nano = t.cost_nano + excluded.cost_nano, total_tokens = t.total_tokens + excluded.total_tokens, input_tokens = t.input_tokens + excluded.input_tokens, output_tokens = t.output_tokens + excluded.output_tokens, llm_calls = t.llm_calls + excluded.llm_calls, tool_calls = t.tool_calls + excluded.tool_calls, seconds = t.seconds + excluded.seconds,
    charges = t.charges + excluded.charges, failures = t.failures + excluded.failures;

-- name: AddEnvelopeCosts :exec
insert into fulcrum.envelope_costs as t (tenant_id, envelope_id, model, workflow_id, cost_nano, total_tokens, input_tokens, output_tokens, llm_calls, tool_calls, seconds, charges, failures)
select unnest(@tenant_ids::uuid[]), unnest(@envelope_ids::text[]), unnest(@models::text[]), unnest(@workflow_ids::text[]),
    unnest(@cost_nano::bigint[]),
    unnest(@total_tokens::bigint[]),
    unnest(@input_tokens::bigint[]),
    unnest(@output_tokens::bigint[]),
    unnest(@llm_calls::bigint[]),
    unnest(@tool_calls::bigint[]),
    unnest(@seconds::bigint[]),
    unnest(@charges::bigint[]), unnest(@failures::bigint[])
on conflict (tenant_id, envelope_id, model) do update
set cost_nano = t.cost_nano + excluded.cost_nano, total_tokens = t.total_tokens + excluded.total_tokens, input_tokens = t.input_tokens + excluded.input_tokens, output_tokens = t.output_tokens + excluded.output_tokens, llm_calls = t.llm_calls + excluded.llm_calls, tool_calls = t.tool_calls + excluded.tool_calls, seconds = t.seconds + excluded.seconds,
    charges = t.charges + excluded.charges, failures = t.failures + excluded.failures;

-- name: EndStalled :one
-- Ends connections of this service that have stopped in the middle of a transaction
-- for so long, and returns how many.
select fulcrum.end_stalled(make_interval(secs => @seconds::double precision));
