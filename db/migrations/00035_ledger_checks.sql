-- +goose Up
-- The continuous check adds up a window's entries; what is old enough not to
-- change any more is added up once and kept here.
create table fulcrum.ledger_checks (
    tenant_id    uuid        not null,
    budget_id    text        collate "C" not null,
    window_start timestamptz not null,
    through      timestamptz not null,
    sums         bigint[]    not null check (cardinality(sums) = 21),
    primary key (tenant_id, budget_id, window_start)
);
comment on table fulcrum.ledger_checks is 'owner: budget. Sums of the ledger_entries of a window up to a moment, so that the continuous check reads only newer ones.';
comment on column fulcrum.ledger_checks.sums is 'held, spent and over of each unit, in the order of the columns of budget_windows';
select fulcrum.protect_list('fulcrum.ledger_checks');
grant select, insert, update on fulcrum.ledger_checks to fulcrum_app;

-- +goose Down
drop table fulcrum.ledger_checks;
