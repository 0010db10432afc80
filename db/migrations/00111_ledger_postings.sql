-- +goose Up
-- What a hold writes: its reservation, which says itself where it holds, and its
-- share of one posting for each window that its batch changed. The rows that
-- were there before, one for each line, are views.
alter table fulcrum.reservations
    add column budget_ids    text[]        collate "C" not null default '{}',
    add column window_starts timestamptz[] not null default '{}',
    add column vias          text[]        collate "C" not null default '{}';
-- The owner of the tables sees no row of them while row level security is forced.
alter table fulcrum.reservations no force row level security;
alter table fulcrum.reservation_parts no force row level security;
alter table fulcrum.ledger_transactions no force row level security;
alter table fulcrum.ledger_entries no force row level security;
update fulcrum.reservations r
set budget_ids = p.budget_ids, window_starts = p.window_starts, vias = p.vias
from (select x.tenant_id, x.reservation_id, array_agg(x.budget_id order by x.budget_id) as budget_ids,
        array_agg(x.window_start order by x.budget_id) as window_starts, array_agg(x.via order by x.budget_id) as vias
    from fulcrum.reservation_parts x group by 1, 2) p
where r.tenant_id = p.tenant_id and r.id = p.reservation_id;
drop table fulcrum.reservation_parts;
alter table fulcrum.reservations force row level security;
alter table fulcrum.reservations
    drop constraint reservations_check,
    add constraint reservations_check check (length(request_hash) = 32 and created_at < expires_at and least(cost_nano, total_tokens, input_tokens, output_tokens, llm_calls, tool_calls, seconds) >= 0
        and cardinality(budget_ids) = cardinality(window_starts) and cardinality(vias) in (0, cardinality(budget_ids)));
comment on column fulcrum.reservations.budget_ids is 'the budget windows it holds in, with window_starts and vias: what it charges later goes there, whenever that is';
comment on column fulcrum.reservations.vias is 'empty: it holds in all of them. Else, for each, '''' where it holds; or nothing is held there for it alone: the window stands behind the slice of that name, and is charged what the reservation is charged';
create view fulcrum.reservation_parts with (security_invoker = true) as
    select p.tenant_id, p.reservation_id, p.budget_id, p.window_start, coalesce(p.via, '') as via
    from (select r.tenant_id, r.id as reservation_id, unnest(r.budget_ids) as budget_id, unnest(r.window_starts) as window_start, unnest(r.vias) as via
        from fulcrum.reservations r) p;
comment on view fulcrum.reservation_parts is 'owner: budget. The windows of each reservation, one a row.';
grant select on fulcrum.reservation_parts to fulcrum_app;

create table fulcrum.ledger_batches (
    tenant_id        uuid        not null,
    occurred_at      timestamptz not null,
    id               uuid        not null,
    transaction_ids  uuid[]      not null,
    kinds            text[]      not null,
    reservation_ids  uuid[]      not null,
    primary key (tenant_id, occurred_at, id),
    constraint ledger_batches_sane check (cardinality(transaction_ids) > 0
        and cardinality(kinds) = cardinality(transaction_ids) and cardinality(reservation_ids) = cardinality(transaction_ids)
        and '' < all (kinds))
) partition by range (occurred_at);
comment on table fulcrum.ledger_batches is 'owner: budget. The ledger''s transactions, as they were committed together: each with its kind and its cause. Append-only, partitioned by month. One a row in ledger_transactions.';
comment on column fulcrum.ledger_batches.reservation_ids is 'the nil UUID for what no reservation caused';
select fulcrum.ensure_partitions('fulcrum.ledger_batches', (select least(24, greatest(1, 1 + (12 * extract(year from a.age) + extract(month from a.age))::integer))
    from (select age(now(), coalesce(min(t.occurred_at), now())) as age from fulcrum.ledger_transactions t) a));

create table fulcrum.ledger_postings (
    tenant_id        uuid        not null,
    budget_id        text        collate "C" not null,
    window_start     timestamptz not null,
    occurred_at      timestamptz not null,
    batch_id         uuid        not null,
    refs             integer[]   not null,
    lines            smallint[]  not null,
    moves            smallint[]  not null,
    cost_nano        bigint[]    not null,
    total_tokens     bigint[]    not null,
    input_tokens     bigint[]    not null,
    output_tokens    bigint[]    not null,
    llm_calls        bigint[]    not null,
    tool_calls       bigint[]    not null,
    seconds          bigint[]    not null,
    primary key (tenant_id, budget_id, window_start, occurred_at, batch_id),
    constraint ledger_postings_sane check (cardinality(refs) > 0 and cardinality(lines) = cardinality(refs) and cardinality(moves) = cardinality(refs)
        and 12 <= all (moves) and 61 >= all (moves)
        and cardinality(cost_nano) in (0, cardinality(refs)) and cardinality(total_tokens) in (0, cardinality(refs))
        and cardinality(input_tokens) in (0, cardinality(refs)) and cardinality(output_tokens) in (0, cardinality(refs))
        and cardinality(llm_calls) in (0, cardinality(refs)) and cardinality(tool_calls) in (0, cardinality(refs)) and cardinality(seconds) in (0, cardinality(refs))
        and 0 <= all (cost_nano) and 0 <= all (total_tokens) and 0 <= all (input_tokens) and 0 <= all (output_tokens)
        and 0 <= all (llm_calls) and 0 <= all (tool_calls) and 0 <= all (seconds))
) partition by range (occurred_at);
comment on table fulcrum.ledger_postings is 'owner: budget. Double entry: what one batch moved between the accounts of one budget window, line by line. Append-only, partitioned by month. One line a row in ledger_entries.';
comment on column fulcrum.ledger_postings.budget_id is 'empty for charges that no budget covers: from suspense to spent';
comment on column fulcrum.ledger_postings.refs is 'of each line: the place of its transaction in the batch''s transaction_ids';
comment on column fulcrum.ledger_postings.lines is 'of each line: its number within its transaction, which goes over all its windows';
comment on column fulcrum.ledger_postings.moves is 'of each line: ten times the account it takes from, and the one it gives to. 1 available, 2 held, 3 spent, 4 overage, 5 suspense, 6 external';
comment on column fulcrum.ledger_postings.cost_nano is 'of each line; empty, as of the other units, when all are 0';
select fulcrum.ensure_partitions('fulcrum.ledger_postings', (select least(24, greatest(1, 1 + (12 * extract(year from a.age) + extract(month from a.age))::integer))
    from (select age(now(), coalesce(min(t.occurred_at), now())) as age from fulcrum.ledger_transactions t) a));

-- All transactions of a moment are one batch.
insert into fulcrum.ledger_batches (tenant_id, occurred_at, id, transaction_ids, kinds, reservation_ids)
select t.tenant_id, t.occurred_at, (array_agg(t.id order by t.id))[1], array_agg(t.id order by t.id), array_agg(t.kind order by t.id),
    array_agg(coalesce(t.reservation_id, '00000000-0000-0000-0000-000000000000') order by t.id)
from fulcrum.ledger_transactions t group by 1, 2;
insert into fulcrum.ledger_postings (tenant_id, budget_id, window_start, occurred_at, batch_id, refs, lines, moves, cost_nano, total_tokens, input_tokens, output_tokens, llm_calls, tool_calls, seconds)
select e.tenant_id, e.budget_id, e.window_start, e.occurred_at, t.batch_id, array_agg(t.ref order by t.ref, e.line), array_agg(e.line order by t.ref, e.line),
    array_agg((10 * array_position(array['available', 'held', 'spent', 'overage', 'suspense', 'external'], e.from_account)
        + array_position(array['available', 'held', 'spent', 'overage', 'suspense', 'external'], e.to_account))::smallint order by t.ref, e.line),
    array_agg(e.cost_nano order by t.ref, e.line), array_agg(e.total_tokens order by t.ref, e.line), array_agg(e.input_tokens order by t.ref, e.line),
    array_agg(e.output_tokens order by t.ref, e.line), array_agg(e.llm_calls order by t.ref, e.line), array_agg(e.tool_calls order by t.ref, e.line),
    array_agg(e.seconds order by t.ref, e.line)
from fulcrum.ledger_entries e
join (select b.tenant_id, b.occurred_at, b.id as batch_id, x.id, x.ref::integer as ref
    from fulcrum.ledger_batches b cross join lateral unnest(b.transaction_ids) with ordinality x(id, ref)) t
    on t.tenant_id = e.tenant_id and t.occurred_at = e.occurred_at and t.id = e.transaction_id
group by 1, 2, 3, 4, 5;
-- +goose StatementBegin
do $$
begin
    if (select count(*) from fulcrum.ledger_entries) <> (select coalesce(sum(cardinality(refs)), 0) from fulcrum.ledger_postings) then
        raise exception 'fulcrum: ledger_entries has lines without a row in ledger_transactions: find them and put them right before the ledger is rewritten';
    end if;
end
$$;
-- +goose StatementEnd
drop table fulcrum.ledger_entries;
drop table fulcrum.ledger_transactions;
select fulcrum.protect_list('fulcrum.ledger_batches');
grant select, insert on fulcrum.ledger_batches to fulcrum_app;
select fulcrum.protect_list('fulcrum.ledger_postings');
grant select, insert on fulcrum.ledger_postings to fulcrum_app;

create view fulcrum.ledger_transactions with (security_invoker = true) as
    select t.tenant_id, t.id, t.occurred_at, t.kind, nullif(t.reservation_id, '00000000-0000-0000-0000-000000000000'::uuid) as reservation_id
    from (select b.tenant_id, unnest(b.transaction_ids) as id, b.occurred_at, unnest(b.kinds) as kind, unnest(b.reservation_ids) as reservation_id
        from fulcrum.ledger_batches b) t;
comment on view fulcrum.ledger_transactions is 'owner: budget. One movement of the ledger a row, with its cause.';
-- The transaction of a line costs a look at its batch, but only who asks for it.
create view fulcrum.ledger_entries with (security_invoker = true) as
    select e.tenant_id, e.budget_id, e.window_start, e.occurred_at,
        (select b.transaction_ids[e.ref] from fulcrum.ledger_batches b where b.tenant_id = e.tenant_id and b.occurred_at = e.occurred_at and b.id = e.batch_id) as transaction_id,
        e.line,
        (array['available', 'held', 'spent', 'overage', 'suspense', 'external'])[e.move / 10] as from_account,
        (array['available', 'held', 'spent', 'overage', 'suspense', 'external'])[e.move % 10] as to_account,
        coalesce(e.cost_nano, 0) as cost_nano, coalesce(e.total_tokens, 0) as total_tokens, coalesce(e.input_tokens, 0) as input_tokens,
        coalesce(e.output_tokens, 0) as output_tokens, coalesce(e.llm_calls, 0) as llm_calls, coalesce(e.tool_calls, 0) as tool_calls, coalesce(e.seconds, 0) as seconds
    from (select p.tenant_id, p.budget_id, p.window_start, p.occurred_at, p.batch_id, unnest(p.refs) as ref, unnest(p.lines) as line, unnest(p.moves) as move,
            unnest(p.cost_nano) as cost_nano, unnest(p.total_tokens) as total_tokens, unnest(p.input_tokens) as input_tokens,
            unnest(p.output_tokens) as output_tokens, unnest(p.llm_calls) as llm_calls, unnest(p.tool_calls) as tool_calls, unnest(p.seconds) as seconds
        from fulcrum.ledger_postings p) e;
comment on view fulcrum.ledger_entries is 'owner: budget. Double entry: one line a row, amounts that went from one account of a budget window to another. The full name of an account is budget:<budget_id>@<window_start>:<account>.';
grant select on fulcrum.ledger_transactions, fulcrum.ledger_entries to fulcrum_app;
comment on table fulcrum.budget_windows is 'owner: budget. What is held and spent of one budget in one window, next to its limits. Changed only under a row lock by a ledger batch; always the sum of its ledger_postings.';
comment on table fulcrum.ledger_checks is 'owner: budget. Sums of the ledger_postings of a window up to a moment, so that the continuous check reads only newer ones.';

-- +goose Down
alter table fulcrum.reservations no force row level security;
alter table fulcrum.ledger_batches no force row level security;
alter table fulcrum.ledger_postings no force row level security;
alter view fulcrum.ledger_entries rename to ledger_entries_view;
alter view fulcrum.ledger_transactions rename to ledger_transactions_view;
create table fulcrum.ledger_transactions (
    tenant_id        uuid        not null,
    id               uuid        not null,
    occurred_at      timestamptz not null,
    kind             text        not null,
    reservation_id   uuid,
    primary key (tenant_id, id, occurred_at),
    check (kind in ('hold', 'settle', 'release', 'expire', 'charge', 'limits', 'carry', 'topup', 'refund', 'adjust', 'correction')
        and (kind in ('limits', 'carry', 'topup', 'refund', 'adjust', 'correction') or reservation_id is not null))
) partition by range (occurred_at);
comment on table fulcrum.ledger_transactions is 'owner: budget. One movement of the ledger, with its cause. Append-only, partitioned by month.';
select fulcrum.ensure_partitions('fulcrum.ledger_transactions', (select least(24, greatest(1, 1 + (12 * extract(year from a.age) + extract(month from a.age))::integer))
    from (select age(now(), coalesce(min(b.occurred_at), now())) as age from fulcrum.ledger_batches b) a));
create table fulcrum.ledger_entries (
    tenant_id        uuid        not null,
    budget_id        text        collate "C" not null,
    window_start     timestamptz not null,
    occurred_at      timestamptz not null,
    transaction_id   uuid        not null,
    line             smallint    not null,
    from_account     text        not null,
    to_account       text        not null,
    cost_nano        bigint      not null,
    total_tokens     bigint      not null,
    input_tokens     bigint      not null,
    output_tokens    bigint      not null,
    llm_calls        bigint      not null,
    tool_calls       bigint      not null,
    seconds          bigint      not null,
    primary key (tenant_id, budget_id, window_start, occurred_at, transaction_id, line),
    check (from_account <> to_account
        and from_account in ('available', 'held', 'spent', 'overage', 'suspense', 'external')
        and to_account in ('available', 'held', 'spent', 'overage', 'suspense', 'external')
        and least(cost_nano, total_tokens, input_tokens, output_tokens, llm_calls, tool_calls, seconds) >= 0)
) partition by range (occurred_at);
comment on table fulcrum.ledger_entries is 'owner: budget. Double entry: amounts that went from one account of a budget window to another. Append-only, partitioned by month. The full name of an account is budget:<budget_id>@<window_start>:<account>.';
comment on column fulcrum.ledger_entries.budget_id is 'empty for charges that no budget covers: from suspense to spent';
select fulcrum.ensure_partitions('fulcrum.ledger_entries', (select least(24, greatest(1, 1 + (12 * extract(year from a.age) + extract(month from a.age))::integer))
    from (select age(now(), coalesce(min(b.occurred_at), now())) as age from fulcrum.ledger_batches b) a));
insert into fulcrum.ledger_transactions (tenant_id, id, occurred_at, kind, reservation_id)
    select v.tenant_id, v.id, v.occurred_at, v.kind, v.reservation_id from fulcrum.ledger_transactions_view v;
insert into fulcrum.ledger_entries (tenant_id, budget_id, window_start, occurred_at, transaction_id, line, from_account, to_account, cost_nano, total_tokens, input_tokens, output_tokens, llm_calls, tool_calls, seconds)
    select v.tenant_id, v.budget_id, v.window_start, v.occurred_at, v.transaction_id, v.line, v.from_account, v.to_account, v.cost_nano, v.total_tokens, v.input_tokens, v.output_tokens, v.llm_calls, v.tool_calls, v.seconds
    from fulcrum.ledger_entries_view v;
drop view fulcrum.ledger_entries_view;
select fulcrum.protect_list('fulcrum.ledger_entries');
grant select, insert on fulcrum.ledger_entries to fulcrum_app;
drop view fulcrum.ledger_transactions_view;
select fulcrum.protect_list('fulcrum.ledger_transactions');
grant select, insert on fulcrum.ledger_transactions to fulcrum_app;
drop table fulcrum.ledger_postings;
drop table fulcrum.ledger_batches;
comment on table fulcrum.budget_windows is 'owner: budget. What is held and spent of one budget in one window, next to its limits. Changed only under a row lock by a ledger batch; always the sum of its ledger_entries.';
comment on table fulcrum.ledger_checks is 'owner: budget. Sums of the ledger_entries of a window up to a moment, so that the continuous check reads only newer ones.';

alter view fulcrum.reservation_parts rename to reservation_parts_view;
create table fulcrum.reservation_parts (
    tenant_id      uuid        not null,
    reservation_id uuid        not null,
    budget_id      text        collate "C" not null,
    window_start   timestamptz not null,
    via            text        collate "C" not null default '',
    primary key (tenant_id, reservation_id, budget_id)
);
comment on table fulcrum.reservation_parts is 'owner: budget. The budget windows a reservation holds in: what it charges later goes there, whenever that is.';
comment on column fulcrum.reservation_parts.via is 'empty: the reservation holds here; else nothing is held here for it alone: this window stands behind the slice of that name, and is charged what the reservation is charged';
insert into fulcrum.reservation_parts (tenant_id, reservation_id, budget_id, window_start, via)
    select v.tenant_id, v.reservation_id, v.budget_id, v.window_start, v.via from fulcrum.reservation_parts_view v;
drop view fulcrum.reservation_parts_view;
select fulcrum.protect_list('fulcrum.reservation_parts');
grant select, insert on fulcrum.reservation_parts to fulcrum_app;
alter table fulcrum.reservations
    drop constraint reservations_check,
    add constraint reservations_check check (length(request_hash) = 32 and created_at < expires_at and least(cost_nano, total_tokens, input_tokens, output_tokens, llm_calls, tool_calls, seconds) >= 0),
    drop column vias, drop column window_starts, drop column budget_ids;
alter table fulcrum.reservations force row level security;
