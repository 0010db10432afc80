-- +goose Up
-- The check adds up a wallet's credit, too. Sums of 21 are of an older release
-- and are not used.
alter table fulcrum.ledger_checks
    drop constraint ledger_checks_sums_check,
    add constraint ledger_checks_sums_check check (cardinality(sums) in (21, 22));
comment on column fulcrum.ledger_checks.sums is 'held, spent and over of each unit, in the order of the columns of budget_windows; then the credit put into a wallet';

create table fulcrum.ledger_differences (
    tenant_id        uuid        not null,
    budget_id        text        collate "C" not null,
    window_start     timestamptz not null,
    account          text        not null,
    unit             text        not null,
    difference       bigint      not null,
    counter          bigint      not null,
    entries          bigint      not null,
    found_at         timestamptz not null default now(),
    cleared_at       timestamptz,
    primary key (tenant_id, budget_id, window_start, account, unit, difference)
);
comment on table fulcrum.ledger_differences is 'owner: budget. What the continuous check found, by how much a counter is off: a row that is there and not cleared was announced already, by whichever instance.';
comment on column fulcrum.ledger_differences.difference is 'counter - entries; 0 for a counter that is negative';
select fulcrum.protect('fulcrum.ledger_differences');
grant select, insert, update on fulcrum.ledger_differences to fulcrum_app;

-- +goose Down
drop table fulcrum.ledger_differences;
truncate fulcrum.ledger_checks; -- row level security does not hide rows from that
alter table fulcrum.ledger_checks
    drop constraint ledger_checks_sums_check,
    add constraint ledger_checks_sums_check check (cardinality(sums) = 21);
comment on column fulcrum.ledger_checks.sums is 'held, spent and over of each unit, in the order of the columns of budget_windows';
