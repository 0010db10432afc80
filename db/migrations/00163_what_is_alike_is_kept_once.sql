-- +goose Up
-- The lines of a batch of holds are alike: each the next transaction's, between the
-- same accounts. What is alike is kept once: of an array one element for all. Rows
-- that have an element for each line, as all had before, are read the same. The
-- release before reads both in the views; its export of entries, which reads the
-- tables, fails at a row that is kept once.
alter table fulcrum.ledger_postings add column entries integer;
comment on column fulcrum.ledger_postings.entries is 'how many lines the row has, when an array of one element stands for all of them; null when refs, lines and moves have an element for each';
comment on column fulcrum.ledger_postings.refs is 'of each line: the place of its transaction in the batch. One element: the first line''s, and the others count up from it';
comment on column fulcrum.ledger_postings.lines is 'of each line: its number within its transaction, which goes over all its windows; or one element for all';
comment on column fulcrum.ledger_postings.moves is 'of each line, or one element for all: ten times the account it takes from, and the one it gives to. 1 available, 2 held, 3 spent, 4 overage, 5 suspense, 6 external';
comment on column fulcrum.ledger_postings.cost_nano is 'of each line, or one element for all; empty, as of the other units, when all are 0';
comment on column fulcrum.ledger_batches.kinds is 'one element: the same for all; else of each';

drop policy sane on fulcrum.ledger_batches;
create policy sane on fulcrum.ledger_batches as restrictive to fulcrum_app using (true) with check (
    cardinality(transaction_ids) > 0 and cardinality(reservation_ids) = cardinality(transaction_ids) and cardinality(kinds) in (1, cardinality(transaction_ids))
    and '' < all (kinds));
drop policy sane on fulcrum.ledger_postings;
create policy sane on fulcrum.ledger_postings as restrictive to fulcrum_app using (true) with check (
    coalesce(entries, cardinality(refs)) > 0
    and array[case when entries is null then cardinality(refs) else 1 end, coalesce(entries, cardinality(refs))] @> array[cardinality(refs), cardinality(lines), cardinality(moves)]
    and array[0, case when entries is null then cardinality(refs) else 1 end, coalesce(entries, cardinality(refs))] @> array[cardinality(cost_nano), cardinality(total_tokens), cardinality(input_tokens), cardinality(output_tokens), cardinality(llm_calls), cardinality(tool_calls), cardinality(seconds)]
    and 12 <= all (moves) and 61 >= all (moves)
    and 0 <= all (cost_nano) and 0 <= all (total_tokens) and 0 <= all (input_tokens) and 0 <= all (output_tokens) and 0 <= all (llm_calls) and 0 <= all (tool_calls) and 0 <= all (seconds));

create or replace view fulcrum.ledger_transactions with (security_invoker = true) as
    select t.tenant_id, t.id, t.occurred_at, coalesce(t.kind, t.kinds[1]) as kind, nullif(t.reservation_id, '00000000-0000-0000-0000-000000000000'::uuid) as reservation_id
    from (select b.tenant_id, unnest(b.transaction_ids) as id, b.occurred_at, b.kinds, unnest(b.kinds) as kind, unnest(b.reservation_ids) as reservation_id
        from fulcrum.ledger_batches b) t;
create or replace view fulcrum.ledger_entries with (security_invoker = true) as
    select e.tenant_id, e.budget_id, e.window_start, e.occurred_at,
        (select b.transaction_ids[e.ref] from fulcrum.ledger_batches b where b.tenant_id = e.tenant_id and b.occurred_at = e.occurred_at and b.id = e.batch_id) as transaction_id,
        e.line,
        (array['available', 'held', 'spent', 'overage', 'suspense', 'external'])[e.move / 10] as from_account,
        (array['available', 'held', 'spent', 'overage', 'suspense', 'external'])[e.move % 10] as to_account,
        e.cost_nano, e.total_tokens, e.input_tokens, e.output_tokens, e.llm_calls, e.tool_calls, e.seconds
    from (select l.tenant_id, l.budget_id, l.window_start, l.occurred_at, l.batch_id, coalesce(l.ref, l.refs[1] + l.place - 1) as ref, coalesce(l.line, l.lines[1]) as line, coalesce(l.move, l.moves[1]) as move,
            coalesce(l.cost_nano, l.cost_nano_each[1], 0) as cost_nano, coalesce(l.total_tokens, l.total_tokens_each[1], 0) as total_tokens, coalesce(l.input_tokens, l.input_tokens_each[1], 0) as input_tokens, coalesce(l.output_tokens, l.output_tokens_each[1], 0) as output_tokens, coalesce(l.llm_calls, l.llm_calls_each[1], 0) as llm_calls, coalesce(l.tool_calls, l.tool_calls_each[1], 0) as tool_calls, coalesce(l.seconds, l.seconds_each[1], 0) as seconds
        from (select p.tenant_id, p.budget_id, p.window_start, p.occurred_at, p.batch_id, p.refs, p.lines, p.moves, p.cost_nano as cost_nano_each, p.total_tokens as total_tokens_each, p.input_tokens as input_tokens_each, p.output_tokens as output_tokens_each, p.llm_calls as llm_calls_each, p.tool_calls as tool_calls_each, p.seconds as seconds_each,
                generate_series(1, coalesce(p.entries, cardinality(p.refs))) as place, unnest(p.refs) as ref, unnest(p.lines) as line, unnest(p.moves) as move,
                unnest(p.cost_nano) as cost_nano, unnest(p.total_tokens) as total_tokens, unnest(p.input_tokens) as input_tokens, unnest(p.output_tokens) as output_tokens, unnest(p.llm_calls) as llm_calls, unnest(p.tool_calls) as tool_calls, unnest(p.seconds) as seconds
            from fulcrum.ledger_postings p) l) e;

-- +goose Down
create or replace view fulcrum.ledger_transactions with (security_invoker = true) as
    select t.tenant_id, t.id, t.occurred_at, t.kind, nullif(t.reservation_id, '00000000-0000-0000-0000-000000000000'::uuid) as reservation_id
    from (select b.tenant_id, unnest(b.transaction_ids) as id, b.occurred_at, unnest(b.kinds) as kind, unnest(b.reservation_ids) as reservation_id
        from fulcrum.ledger_batches b) t;
create or replace view fulcrum.ledger_entries with (security_invoker = true) as
    select e.tenant_id, e.budget_id, e.window_start, e.occurred_at,
        (select b.transaction_ids[e.ref] from fulcrum.ledger_batches b where b.tenant_id = e.tenant_id and b.occurred_at = e.occurred_at and b.id = e.batch_id) as transaction_id,
        e.line,
        (array['available', 'held', 'spent', 'overage', 'suspense', 'external'])[e.move / 10] as from_account,
        (array['available', 'held', 'spent', 'overage', 'suspense', 'external'])[e.move % 10] as to_account,
        coalesce(e.cost_nano, 0) as cost_nano, coalesce(e.total_tokens, 0) as total_tokens, coalesce(e.input_tokens, 0) as input_tokens, coalesce(e.output_tokens, 0) as output_tokens, coalesce(e.llm_calls, 0) as llm_calls, coalesce(e.tool_calls, 0) as tool_calls, coalesce(e.seconds, 0) as seconds
    from (select p.tenant_id, p.budget_id, p.window_start, p.occurred_at, p.batch_id, unnest(p.refs) as ref, unnest(p.lines) as line, unnest(p.moves) as move,
            unnest(p.cost_nano) as cost_nano, unnest(p.total_tokens) as total_tokens, unnest(p.input_tokens) as input_tokens, unnest(p.output_tokens) as output_tokens, unnest(p.llm_calls) as llm_calls, unnest(p.tool_calls) as tool_calls, unnest(p.seconds) as seconds
        from fulcrum.ledger_postings p) e;
-- The owner of the tables sees no row of them while row level security is forced.
alter table fulcrum.ledger_batches no force row level security;
alter table fulcrum.ledger_postings no force row level security;
update fulcrum.ledger_batches b
set kinds = array_fill(b.kinds[1], array[cardinality(b.transaction_ids)])
where cardinality(b.kinds) < cardinality(b.transaction_ids);
update fulcrum.ledger_postings p
set refs = case when cardinality(p.refs) = 1 then array(select generate_series(p.refs[1], p.refs[1] + p.entries - 1)) else p.refs end,
    lines = case when cardinality(p.lines) = 1 then array_fill(p.lines[1], array[p.entries]) else p.lines end,
    moves = case when cardinality(p.moves) = 1 then array_fill(p.moves[1], array[p.entries]) else p.moves end,
    cost_nano = case when cardinality(p.cost_nano) = 1 then array_fill(p.cost_nano[1], array[p.entries]) else p.cost_nano end, total_tokens = case when cardinality(p.total_tokens) = 1 then array_fill(p.total_tokens[1], array[p.entries]) else p.total_tokens end, input_tokens = case when cardinality(p.input_tokens) = 1 then array_fill(p.input_tokens[1], array[p.entries]) else p.input_tokens end, output_tokens = case when cardinality(p.output_tokens) = 1 then array_fill(p.output_tokens[1], array[p.entries]) else p.output_tokens end, llm_calls = case when cardinality(p.llm_calls) = 1 then array_fill(p.llm_calls[1], array[p.entries]) else p.llm_calls end, tool_calls = case when cardinality(p.tool_calls) = 1 then array_fill(p.tool_calls[1], array[p.entries]) else p.tool_calls end, seconds = case when cardinality(p.seconds) = 1 then array_fill(p.seconds[1], array[p.entries]) else p.seconds end
where p.entries > 1;
alter table fulcrum.ledger_batches force row level security;
alter table fulcrum.ledger_postings force row level security;
drop policy sane on fulcrum.ledger_postings;
create policy sane on fulcrum.ledger_postings as restrictive to fulcrum_app using (true) with check (
    cardinality(refs) > 0 and cardinality(lines) = cardinality(refs) and cardinality(moves) = cardinality(refs)
    and 12 <= all (moves) and 61 >= all (moves)
    and array[0, cardinality(refs)] @> array[cardinality(cost_nano), cardinality(total_tokens), cardinality(input_tokens), cardinality(output_tokens), cardinality(llm_calls), cardinality(tool_calls), cardinality(seconds)]
    and 0 <= all (cost_nano) and 0 <= all (total_tokens) and 0 <= all (input_tokens) and 0 <= all (output_tokens) and 0 <= all (llm_calls) and 0 <= all (tool_calls) and 0 <= all (seconds));
drop policy sane on fulcrum.ledger_batches;
create policy sane on fulcrum.ledger_batches as restrictive to fulcrum_app using (true) with check (
    cardinality(transaction_ids) > 0 and cardinality(kinds) = cardinality(transaction_ids) and cardinality(reservation_ids) = cardinality(transaction_ids)
    and '' < all (kinds));
comment on column fulcrum.ledger_batches.kinds is null;
comment on column fulcrum.ledger_postings.moves is 'of each line: ten times the account it takes from, and the one it gives to. 1 available, 2 held, 3 spent, 4 overage, 5 suspense, 6 external';
comment on column fulcrum.ledger_postings.lines is 'of each line: its number within its transaction, which goes over all its windows';
comment on column fulcrum.ledger_postings.cost_nano is 'of each line; empty, as of the other units, when all are 0';
comment on column fulcrum.ledger_postings.refs is 'of each line: the place of its transaction in the batch''s transaction_ids';
alter table fulcrum.ledger_postings drop column entries;
