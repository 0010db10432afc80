-- +goose Up
-- By month, as the events' partitions are: dropping one takes its totals out of
-- every sum, because months before the oldest event are not read.
create table fulcrum.event_totals (
    tenant_id uuid        not null,
    month     timestamptz not null,
    type      text        collate "C" not null,
    events    bigint      not null,
    bytes     bigint      not null,
    oldest    timestamptz not null,
    newest    timestamptz not null,
    primary key (tenant_id, month, type)
) with (fillfactor = 70);
comment on table fulcrum.event_totals is 'owner: event-processor. Counts of stored events, kept in the transaction that stores them.';
select fulcrum.protect_list('fulcrum.event_totals');
grant select, insert, update on fulcrum.event_totals to fulcrum_app;

-- +goose Down
drop table fulcrum.event_totals;
