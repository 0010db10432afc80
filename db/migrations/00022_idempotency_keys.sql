-- +goose Up
create table fulcrum.idempotency_keys (
    tenant_id    uuid        not null,
    scope        text        not null,
    key          text        not null check (length(key) between 1 and 128),
    request_hash bytea       not null check (length(request_hash) = 32),
    -- Null: an attempt was given up, and nothing of it counts. See attempt.
    response     bytea,
    -- How many attempts were given up. A hold is named after key and attempt, so
    -- one that was given back is never mistaken for a new one.
    attempt      integer     not null default 0,
    created_at   timestamptz not null default now(),
    expires_at   timestamptz not null default now() + interval '24 hours',
    primary key (tenant_id, scope, key)
) with (autovacuum_vacuum_scale_factor = 0.02);
comment on table fulcrum.idempotency_keys is 'owner: gateway. What a call answered, written in the transaction of its effect, so that the same key asks again instead of acting again. Kept for 24 hours.';
create index idempotency_keys_age on fulcrum.idempotency_keys (tenant_id, expires_at);
select fulcrum.protect_list('fulcrum.idempotency_keys');
grant select, insert, update, delete on fulcrum.idempotency_keys to fulcrum_app;

-- +goose Down
drop table fulcrum.idempotency_keys;
