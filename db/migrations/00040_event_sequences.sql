-- +goose Up
-- The row lock of a head puts the writers of one tenant in order, across any
-- number of processes: a position is given only after every lower one is
-- committed, so a reader who has seen n misses nothing below it.
create table fulcrum.event_heads (
    tenant_id      uuid        not null primary key,
    last_sequence  bigint      not null check (last_sequence > 0),
    last_stored_at timestamptz not null
) with (fillfactor = 50);
comment on table fulcrum.event_heads is 'owner: event-processor. Where each tenant''s event stream ends. Outlives the JetStream store, whose own sequences do not.';
select fulcrum.protect_list('fulcrum.event_heads');
grant select, insert, update on fulcrum.event_heads to fulcrum_app;

create table fulcrum.execution_sequences (
    tenant_id     uuid        not null,
    execution_key text        collate "C" not null check (execution_key <> ''),
    last_sequence bigint      not null check (last_sequence > 0),
    started_at    timestamptz not null,
    ended_at      timestamptz,
    primary key (tenant_id, execution_key)
) with (fillfactor = 70);
comment on table fulcrum.execution_sequences is 'owner: event-processor. The dense numbering of events within each execution.';
comment on column fulcrum.execution_sequences.execution_key is 'the event''s execution_id, else its envelope_id, else "-"';
select fulcrum.protect_list('fulcrum.execution_sequences');
grant select, insert, update on fulcrum.execution_sequences to fulcrum_app;

-- +goose Down
drop table fulcrum.execution_sequences;
drop table fulcrum.event_heads;
