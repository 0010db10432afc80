-- +goose Up
-- A hold moves its amounts from available to held in each of its windows, and its
-- reservation says all of that. Its lines in ledger_postings said it once more for
-- each window, which was half of what a hold cost. Now they are read from the
-- reservation. What moves anything else is posted as before.
--
-- A release from before writes and ends both kinds of holds rightly. Its check, and
-- its statements of wallets, read the view below: that is right and, with many
-- holds, slow. Its export lacks the new holds.
alter table fulcrum.reservations add column posted boolean not null default true;
alter table fulcrum.reservations alter column posted set statistics 0;
comment on column fulcrum.reservations.posted is 'whether its lines are in ledger_postings; if not, it is its own transaction, and has a line in each of its windows: ledger_holds';
alter view fulcrum.ledger_entries rename to ledger_posted;
comment on view fulcrum.ledger_posted is 'owner: budget. One line of ledger_postings a row.';
-- A wallet counts money alone.
create view fulcrum.ledger_holds with (security_invoker = true) as
    select l.tenant_id, l.budget_id, l.window_start, l.occurred_at, l.transaction_id, l.line, l.cost_nano,
        case when l.wallet then 0 else l.total_tokens end as total_tokens, case when l.wallet then 0 else l.input_tokens end as input_tokens, case when l.wallet then 0 else l.output_tokens end as output_tokens,
        case when l.wallet then 0 else l.llm_calls end as llm_calls, case when l.wallet then 0 else l.tool_calls end as tool_calls, case when l.wallet then 0 else l.seconds end as seconds
    from (select p.tenant_id, p.budget_id, p.window_start, p.occurred_at, p.transaction_id, p.line, p.via, p.budget_id like 'wallet:%' as wallet,
            p.cost_nano, p.total_tokens, p.input_tokens, p.output_tokens, p.llm_calls, p.tool_calls, p.seconds
        from (select r.tenant_id, r.id as transaction_id, r.created_at as occurred_at, unnest(r.budget_ids) as budget_id, unnest(r.window_starts) as window_start, unnest(r.vias) as via,
                (generate_subscripts(r.budget_ids, 1) - 1)::smallint as line, r.cost_nano, r.total_tokens, r.input_tokens, r.output_tokens, r.llm_calls, r.tool_calls, r.seconds
            from fulcrum.reservations r where not r.posted) p) l
    where coalesce(l.via, '') = '' and (l.cost_nano > 0 or not l.wallet and greatest(l.total_tokens, l.input_tokens, l.output_tokens, l.llm_calls, l.tool_calls, l.seconds) > 0);
comment on view fulcrum.ledger_holds is 'owner: budget. The lines, from available to held, of the holds that are their own records.';
create view fulcrum.ledger_entries with (security_invoker = true) as
    select p.tenant_id, p.budget_id, p.window_start, p.occurred_at, p.transaction_id, p.line, p.from_account, p.to_account,
        p.cost_nano, p.total_tokens, p.input_tokens, p.output_tokens, p.llm_calls, p.tool_calls, p.seconds from fulcrum.ledger_posted p
    union all
    select h.tenant_id, h.budget_id, h.window_start, h.occurred_at, h.transaction_id, h.line, 'available', 'held',
        h.cost_nano, h.total_tokens, h.input_tokens, h.output_tokens, h.llm_calls, h.tool_calls, h.seconds from fulcrum.ledger_holds h;
comment on view fulcrum.ledger_entries is 'owner: budget. Double entry: one line a row, amounts that went from one account of a budget window to another. The full name of an account is budget:<budget_id>@<window_start>:<account>.';
create or replace view fulcrum.ledger_transactions with (security_invoker = true) as
    select t.tenant_id, t.id, t.occurred_at, coalesce(t.kind, t.kinds[1]) as kind, nullif(t.reservation_id, '00000000-0000-0000-0000-000000000000'::uuid) as reservation_id
    from (select b.tenant_id, unnest(b.transaction_ids) as id, b.occurred_at, b.kinds, unnest(b.kinds) as kind, unnest(b.reservation_ids) as reservation_id
        from fulcrum.ledger_batches b) t
    union all
    select r.tenant_id, r.id, r.created_at, 'hold', r.id from fulcrum.reservations r where not r.posted;
grant select on fulcrum.ledger_holds, fulcrum.ledger_entries to fulcrum_app;

-- What the check adds up, once. ledger_checks is of releases from before, and goes
-- when they have.
create table fulcrum.ledger_sums (
    tenant_id    uuid        not null,
    budget_id    text        collate "C" not null,
    window_start timestamptz not null,
    through      timestamptz not null default '-infinity',
    posted       bigint[]    not null default array_fill(0::bigint, array[22]) check (cardinality(posted) = 22),
    held         bigint[]    not null default array_fill(0::bigint, array[7]) check (cardinality(held) = 7),
    primary key (tenant_id, budget_id, window_start)
);
comment on table fulcrum.ledger_sums is 'owner: budget. What the entries of a window add up to, up to a moment, so that the continuous check reads only newer ones.';
comment on column fulcrum.ledger_sums.posted is 'of ledger_postings before through: held, spent and over of each unit, in the order of the columns of budget_windows; then the credit put into a wallet. Modulo 2^64, as held';
comment on column fulcrum.ledger_sums.held is 'of ledger_holds before ledger_sums_of_holds.through, each unit, whether they have ended or not: it only grows, so it is kept modulo 2^64, as what was held and has ended is in posted. Their sum is what is held';
create table fulcrum.ledger_sums_of_holds (
    tenant_id uuid        primary key,
    through   timestamptz not null
);
comment on table fulcrum.ledger_sums_of_holds is 'owner: budget. The moment before which all holds of a tenant are in ledger_sums.held: they are added up by time, of all windows together.';
select fulcrum.protect('fulcrum.ledger_sums');
select fulcrum.protect('fulcrum.ledger_sums_of_holds');
grant select, insert, update on fulcrum.ledger_sums, fulcrum.ledger_sums_of_holds to fulcrum_app;
-- All holds there are are posted: what was kept of entries is what was posted. The
-- owner of the tables sees no row of them while row level security is forced.
alter table fulcrum.ledger_checks no force row level security;
alter table fulcrum.ledger_sums no force row level security;
insert into fulcrum.ledger_sums (tenant_id, budget_id, window_start, through, posted)
    select c.tenant_id, c.budget_id, c.window_start, c.through, c.sums from fulcrum.ledger_checks c where cardinality(c.sums) = 22;
alter table fulcrum.ledger_sums force row level security;
alter table fulcrum.ledger_checks force row level security;
comment on table fulcrum.ledger_checks is 'owner: budget. What ledger_sums is to releases before migration 00165.';
comment on table fulcrum.budget_windows is 'owner: budget. What is held and spent of one budget in one window, next to its limits. Changed only under a row lock by a ledger batch; always the sum of its ledger_entries.';
comment on table fulcrum.ledger_batches is 'owner: budget. The ledger''s transactions but for holds that are their own, as they were committed together: each with its kind and its cause. Append-only, partitioned by month. One a row in ledger_transactions.';

create function fulcrum.wrapped(n numeric) returns bigint
    language sql immutable parallel safe
    set search_path = pg_catalog
    return (mod(mod(n, 18446744073709551616) + 27670116110564327424, 18446744073709551616) - 9223372036854775808)::bigint;
comment on function fulcrum.wrapped(numeric) is 'n modulo 2^64, between -2^63 and 2^63: as adding up bigints without a check for overflow would give';
-- +goose StatementBegin
-- What was held from since until before until in each window, of one account if it
-- is not empty, in the caller's snapshot and with his rights: the sums of ledger_holds.
-- Holds on one path are added up before they are taken apart, and nothing is sorted.
create function fulcrum.held_between(tenant uuid, account text, since timestamptz, until timestamptz)
    returns table (budget_id text, window_start timestamptz, held bigint[])
    language plpgsql stable
    set search_path = pg_catalog
    set plan_cache_mode = force_custom_plan
    set enable_seqscan = off
    set enable_sort = off
as $$
begin
    return query
    select l.budget_id, l.window_start, case when l.budget_id like 'wallet:%' then array[fulcrum.wrapped(sum(l.cost_nano)), 0, 0, 0, 0, 0, 0]
        else array[fulcrum.wrapped(sum(l.cost_nano)), fulcrum.wrapped(sum(l.total_tokens)), fulcrum.wrapped(sum(l.input_tokens)), fulcrum.wrapped(sum(l.output_tokens)),
            fulcrum.wrapped(sum(l.llm_calls)), fulcrum.wrapped(sum(l.tool_calls)), fulcrum.wrapped(sum(l.seconds))] end
    from (select unnest(g.budget_ids) as budget_id, unnest(g.window_starts) as window_start, unnest(g.vias) as via, g.cost_nano, g.total_tokens, g.input_tokens, g.output_tokens, g.llm_calls, g.tool_calls, g.seconds
        from (select r.budget_ids, r.window_starts, r.vias, sum(r.cost_nano) as cost_nano, sum(r.total_tokens) as total_tokens, sum(r.input_tokens) as input_tokens, sum(r.output_tokens) as output_tokens,
                sum(r.llm_calls) as llm_calls, sum(r.tool_calls) as tool_calls, sum(r.seconds) as seconds
            from fulcrum.reservations r
            where r.tenant_id = held_between.tenant and not r.posted and r.created_at >= held_between.since and r.created_at < held_between.until
              and (held_between.account = '' or held_between.account = any (r.budget_ids))
            group by r.budget_ids, r.window_starts, r.vias) g) l
    where coalesce(l.via, '') = '' and (held_between.account = '' or l.budget_id = held_between.account)
    group by l.budget_id, l.window_start;
end
$$;
-- +goose StatementEnd
revoke execute on function fulcrum.held_between(uuid, text, timestamptz, timestamptz) from public;
grant execute on function fulcrum.held_between(uuid, text, timestamptz, timestamptz) to fulcrum_app;
revoke execute on function fulcrum.wrapped(numeric) from public;
grant execute on function fulcrum.wrapped(numeric) to fulcrum_app;

-- +goose Down
drop function fulcrum.held_between(uuid, text, timestamptz, timestamptz);
drop function fulcrum.wrapped(numeric);
drop table fulcrum.ledger_sums_of_holds;
drop table fulcrum.ledger_sums;
truncate fulcrum.ledger_checks; -- row level security does not hide rows from that
comment on table fulcrum.budget_windows is 'owner: budget. What is held and spent of one budget in one window, next to its limits. Changed only under a row lock by a ledger batch; always the sum of its ledger_postings.';
comment on table fulcrum.ledger_batches is 'owner: budget. The ledger''s transactions, as they were committed together: each with its kind and its cause. Append-only, partitioned by month. One a row in ledger_transactions.';
comment on table fulcrum.ledger_checks is 'owner: budget. Sums of the ledger_postings of a window up to a moment, so that the continuous check reads only newer ones.';
-- Each hold that is its own record is posted: a batch of one transaction. The owner
-- of the tables sees no row of them while row level security is forced.
alter table fulcrum.reservations no force row level security;
alter table fulcrum.ledger_batches no force row level security;
alter table fulcrum.ledger_postings no force row level security;
insert into fulcrum.ledger_batches (tenant_id, occurred_at, id, transaction_ids, kinds, reservation_ids)
    select r.tenant_id, r.created_at, r.id, array[r.id], '{hold}', array[r.id] from fulcrum.reservations r where not r.posted;
insert into fulcrum.ledger_postings (tenant_id, budget_id, window_start, occurred_at, batch_id, refs, lines, moves, cost_nano, total_tokens, input_tokens, output_tokens, llm_calls, tool_calls, seconds)
    select h.tenant_id, h.budget_id, h.window_start, h.occurred_at, h.transaction_id, '{1}', array[h.line], '{12}',
        array[h.cost_nano], array[h.total_tokens], array[h.input_tokens], array[h.output_tokens], array[h.llm_calls], array[h.tool_calls], array[h.seconds]
    from fulcrum.ledger_holds h;
alter table fulcrum.reservations force row level security;
alter table fulcrum.ledger_batches force row level security;
alter table fulcrum.ledger_postings force row level security;
create or replace view fulcrum.ledger_transactions with (security_invoker = true) as
    select t.tenant_id, t.id, t.occurred_at, coalesce(t.kind, t.kinds[1]) as kind, nullif(t.reservation_id, '00000000-0000-0000-0000-000000000000'::uuid) as reservation_id
    from (select b.tenant_id, unnest(b.transaction_ids) as id, b.occurred_at, b.kinds, unnest(b.kinds) as kind, unnest(b.reservation_ids) as reservation_id
        from fulcrum.ledger_batches b) t;
drop view fulcrum.ledger_entries;
drop view fulcrum.ledger_holds;
alter view fulcrum.ledger_posted rename to ledger_entries;
comment on view fulcrum.ledger_entries is 'owner: budget. Double entry: one line a row, amounts that went from one account of a budget window to another. The full name of an account is budget:<budget_id>@<window_start>:<account>.';
alter table fulcrum.reservations drop column posted;
