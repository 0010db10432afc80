-- +goose Up
create table fulcrum.ledger_transactions (
    tenant_id        uuid        not null,
    id               uuid        not null,
    occurred_at      timestamptz not null,
    kind             text        not null,
    reservation_id   uuid,
    primary key (tenant_id, id, occurred_at),
    check (kind in ('hold', 'settle', 'release', 'expire', 'charge', 'limits', 'carry') and (kind in ('limits', 'carry') or reservation_id is not null))
) partition by range (occurred_at);
comment on table fulcrum.ledger_transactions is 'owner: budget. One movement of the ledger, with its cause. Append-only, partitioned by month.';
select fulcrum.protect_list('fulcrum.ledger_transactions');
grant select, insert on fulcrum.ledger_transactions to fulcrum_app;
select fulcrum.ensure_partitions('fulcrum.ledger_transactions');

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
        and from_account in ('available', 'held', 'spent', 'overage', 'suspense')
        and to_account in ('available', 'held', 'spent', 'overage', 'suspense')
        and least(cost_nano, total_tokens, input_tokens, output_tokens, llm_calls, tool_calls, seconds) >= 0)
) partition by range (occurred_at);
comment on table fulcrum.ledger_entries is 'owner: budget. Double entry: amounts that went from one account of a budget window to another. Append-only, partitioned by month. The full name of an account is budget:<budget_id>@<window_start>:<account>.';
comment on column fulcrum.ledger_entries.budget_id is 'empty for charges that no budget covers: from suspense to spent';
select fulcrum.protect_list('fulcrum.ledger_entries');
grant select, insert on fulcrum.ledger_entries to fulcrum_app;
select fulcrum.ensure_partitions('fulcrum.ledger_entries');

-- +goose Down
drop table fulcrum.ledger_entries;
drop table fulcrum.ledger_transactions;
