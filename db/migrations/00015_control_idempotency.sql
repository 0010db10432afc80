-- +goose Up
-- What a creating call answered, so that the same key asks for it again instead
-- of creating again. Written in the transaction of the effect.
create table fulcrum.control_idempotency (
    tenant_id    uuid        not null references fulcrum.tenants (id),
    key          text        not null check (length(key) between 1 and 200),
    request_hash bytea       not null check (length(request_hash) = 32),
    response     bytea,
    created_at   timestamptz not null default now(),
    primary key (tenant_id, key)
);
comment on table fulcrum.control_idempotency is
    'owner: control-plane. Idempotency keys of creating calls: hash of method and body, and the answer (never a secret). Kept for seven days.';
create index control_idempotency_age on fulcrum.control_idempotency (tenant_id, created_at);
select fulcrum.protect('fulcrum.control_idempotency');
grant select, insert, update, delete on fulcrum.control_idempotency to fulcrum_app;

-- +goose Down
drop table fulcrum.control_idempotency;
