-- +goose Up
create table fulcrum.reservations (
    tenant_id        uuid        not null,
    id               uuid        not null,
    request_hash     bytea       not null,
    cost_nano        bigint      not null,
    total_tokens     bigint      not null,
    input_tokens     bigint      not null,
    output_tokens    bigint      not null,
    llm_calls        bigint      not null,
    tool_calls       bigint      not null,
    seconds          bigint      not null,
    price_version    text        not null default '',
    team             text        not null default '',
    agent_id         text        not null default '',
    user_id          text        not null default '',
    workflow_id      text        not null default '',
    api_key_id       text        not null default '',
    model            text        not null default '',
    envelope_id      text        not null default '',
    created_at       timestamptz not null,
    expires_at       timestamptz not null,
    primary key (tenant_id, id),
    check (length(request_hash) = 32 and created_at < expires_at and least(cost_nano, total_tokens, input_tokens, output_tokens, llm_calls, tool_calls, seconds) >= 0)
);
comment on table fulcrum.reservations is 'owner: budget. Holds as they were granted; what became of one is in settlements. Only expires_at ever changes. Refusals are not stored.';
comment on column fulcrum.reservations.id is 'made by the caller; the idempotency key of the hold';
-- Partial, though every row is in it: else a planner without statistics may take
-- it for the lookup of an id and read all holds of a tenant.
create index reservations_expiry on fulcrum.reservations (tenant_id, expires_at) where expires_at > 'epoch';
select fulcrum.protect_list('fulcrum.reservations');
grant select, insert, update (expires_at) on fulcrum.reservations to fulcrum_app;

create table fulcrum.reservation_parts (
    tenant_id      uuid        not null,
    reservation_id uuid        not null,
    budget_id      text        collate "C" not null,
    window_start   timestamptz not null,
    primary key (tenant_id, reservation_id, budget_id)
);
comment on table fulcrum.reservation_parts is 'owner: budget. The budget windows a reservation holds in: what it charges later goes there, whenever that is.';
select fulcrum.protect_list('fulcrum.reservation_parts');
grant select, insert on fulcrum.reservation_parts to fulcrum_app;

create table fulcrum.reservation_renewals (
    tenant_id        uuid        not null,
    reservation_id   uuid        not null,
    idempotency_key  text        collate "C" not null,
    ttl_ms           bigint      not null,
    expires_at       timestamptz not null,
    created_at       timestamptz not null,
    primary key (tenant_id, reservation_id, idempotency_key),
    check (ttl_ms > 0)
);
comment on table fulcrum.reservation_renewals is 'owner: budget. Each time a hold''s expiry was moved, by the key of the request, so that a repeated request gets the first answer.';
select fulcrum.protect_list('fulcrum.reservation_renewals');
grant select, insert on fulcrum.reservation_renewals to fulcrum_app;

create table fulcrum.settlements (
    tenant_id        uuid        not null,
    reservation_id   uuid        not null,
    late             boolean     not null default false,
    kind             text        not null,
    idempotency_key  text        not null default '',
    request_hash     bytea       not null,
    cost_nano        bigint      not null,
    total_tokens     bigint      not null,
    input_tokens     bigint      not null,
    output_tokens    bigint      not null,
    llm_calls        bigint      not null,
    tool_calls       bigint      not null,
    seconds          bigint      not null,
    model            text        not null default '',
    price_version    text        not null default '',
    reason           text        not null default '',
    failed           boolean     not null default false,
    created_at       timestamptz not null,
    -- At most one end of a hold, and at most one charge that came after that end.
    primary key (tenant_id, reservation_id, late),
    check (kind in ('settled', 'released', 'expired') and (not late or kind = 'settled') and length(request_hash) = 32 and least(cost_nano, total_tokens, input_tokens, output_tokens, llm_calls, tool_calls, seconds) >= 0)
);
comment on table fulcrum.settlements is 'owner: budget. How each hold ended and what was charged: the state of a reservation by insert, never by update. late = charged after the hold had expired or was released. A row without a reservation is a charge without a hold.';
select fulcrum.protect_list('fulcrum.settlements');
grant select, insert on fulcrum.settlements to fulcrum_app;

-- +goose Down
drop table fulcrum.settlements;
drop table fulcrum.reservation_renewals;
drop table fulcrum.reservation_parts;
drop table fulcrum.reservations;
