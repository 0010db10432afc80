-- +goose Up
-- What a charge was computed from, so that it can be priced again.
alter table fulcrum.settlements
    add column cached_tokens      bigint not null default 0,
    add column cache_write_tokens bigint not null default 0,
    add column reasoning_tokens   bigint not null default 0;
-- Charges come in the order of time: this finds those of a period, and costs the
-- batches that write them next to nothing.
create index settlements_period on fulcrum.settlements using brin (tenant_id, created_at) with (pages_per_range = 16, autosummarize = on);

-- +goose StatementBegin
-- Whatever kinds there are, 'correction' is one more.
do $$
declare
    c record;
begin
    select conname, pg_get_constraintdef(oid) as def into strict c from pg_constraint
    where conrelid = 'fulcrum.ledger_transactions'::regclass and contype = 'c' and pg_get_constraintdef(oid) like '%''settle''::text%';
    execute format('alter table fulcrum.ledger_transactions drop constraint %I, add constraint %I %s', c.conname, c.conname,
        replace(c.def, '''settle''::text', '''settle''::text, ''correction''::text'));
end
$$;
-- +goose StatementEnd

create table fulcrum.charge_corrections (
    tenant_id      uuid        not null,
    reservation_id uuid        not null,
    number         integer     not null check (number > 0),
    rerate_id      uuid        not null,
    old_nano       bigint      not null check (old_nano >= 0),
    new_nano       bigint      not null check (new_nano >= 0),
    price_version  text        not null,
    created_at     timestamptz not null,
    -- Numbered, so that of two corrections of one charge each begins where the other ended.
    primary key (tenant_id, reservation_id, number),
    unique (tenant_id, rerate_id, reservation_id)
);
comment on table fulcrum.charge_corrections is
    'owner: budget. What a charge costs after prices were changed: its settlement stays as it was, and the last correction counts. Append-only; the money moves by a transaction of kind correction.';
select fulcrum.protect_list('fulcrum.charge_corrections');
grant select, insert on fulcrum.charge_corrections to fulcrum_app;

create table fulcrum.price_rerates (
    tenant_id       uuid        not null,
    id              uuid        not null,
    idempotency_key text        collate "C" not null check (length(idempotency_key) between 1 and 128),
    request_hash    bytea       not null check (length(request_hash) = 32),
    created_by      text        not null,
    created_at      timestamptz not null default now(),
    finished_at     timestamptz,
    report          jsonb,
    primary key (tenant_id, id),
    unique (tenant_id, idempotency_key),
    check ((finished_at is null) = (report is null))
);
comment on table fulcrum.price_rerates is
    'owner: budget. Re-ratings that were applied, with their reports (fulcrum.pricing.v1.RerateReport). Without a report: begun, to be finished by the same request.';
select fulcrum.protect('fulcrum.price_rerates');
grant select, insert, update (finished_at, report) on fulcrum.price_rerates to fulcrum_app;

-- +goose Down
drop table fulcrum.price_rerates;
drop table fulcrum.charge_corrections;
-- What was spent stays as it was corrected. The owner of the table sees no row of
-- it while row level security is forced.
alter table fulcrum.ledger_transactions no force row level security;
update fulcrum.ledger_transactions set kind = 'charge' where kind = 'correction';
alter table fulcrum.ledger_transactions force row level security;
-- +goose StatementBegin
do $$
declare
    c record;
begin
    for c in select conname, pg_get_constraintdef(oid) as def from pg_constraint
        where conrelid = 'fulcrum.ledger_transactions'::regclass and contype = 'c' and pg_get_constraintdef(oid) like '%''settle''::text, ''correction''::text%'
    loop
        execute format('alter table fulcrum.ledger_transactions drop constraint %I, add constraint %I %s', c.conname, c.conname,
            replace(c.def, '''settle''::text, ''correction''::text', '''settle''::text'));
    end loop;
end
$$;
-- +goose StatementEnd
drop index fulcrum.settlements_period;
alter table fulcrum.settlements drop column cached_tokens, drop column cache_write_tokens, drop column reasoning_tokens;
