-- +goose Up
-- +goose StatementBegin
-- The life of an envelope, as one table of moves: the UPDATE that moves an
-- envelope asks it, and a trigger makes sure that none forgets to.
create function fulcrum.envelope_may_move(old_status text, new_status text) returns boolean
    language sql immutable parallel safe
    set search_path = pg_catalog
as $$
    select case old_status
        when 'PENDING' then new_status in ('AUTHORIZED', 'POLICY_VIOLATION', 'BUDGET_EXCEEDED', 'TERMINATED', 'TIMEOUT')
        when 'AUTHORIZED' then new_status in ('RUNNING', 'TERMINATED', 'TIMEOUT', 'POLICY_VIOLATION', 'BUDGET_EXCEEDED')
        when 'RUNNING' then new_status in ('PAUSED', 'COMPLETED', 'FAILED', 'TERMINATED', 'TIMEOUT', 'POLICY_VIOLATION', 'BUDGET_EXCEEDED')
        when 'PAUSED' then new_status in ('RUNNING', 'FAILED', 'TERMINATED', 'TIMEOUT')
        else false
    end
$$;

create function fulcrum.envelope_is_final(status text) returns boolean
    language sql immutable parallel safe
    set search_path = pg_catalog
as $$
    select status not in ('PENDING', 'AUTHORIZED', 'RUNNING', 'PAUSED')
$$;
-- +goose StatementEnd
grant execute on function fulcrum.envelope_may_move(text, text), fulcrum.envelope_is_final(text) to fulcrum_app, fulcrum_scout;

create table fulcrum.envelopes (
    tenant_id     uuid        not null references fulcrum.tenants (id),
    id            uuid        not null,
    parent_id     uuid,
    root_id       uuid        not null,
    -- Nearest first, without the envelope itself.
    ancestors     uuid[]      not null default '{}' check (cardinality(ancestors) <= 10),
    -- Counted on the root, for the whole tree under it.
    descendants   integer     not null default 0 check (descendants between 0 and 100),
    status        text        not null check (status in ('PENDING', 'AUTHORIZED', 'RUNNING', 'PAUSED', 'COMPLETED', 'FAILED',
                                                         'TERMINATED', 'TIMEOUT', 'POLICY_VIOLATION', 'BUDGET_EXCEEDED')),
    status_reason text        not null default '',
    agent_id      text        not null default '',
    team          text        not null default '',
    user_id       text        not null default '',
    key_id        text        not null,
    workflow_id   text        not null default '',
    execution_id  text        not null,
    budget_id     text        not null default '',
    adapter_type  text        not null default '',
    governance    bytea       not null,
    limits        bytea       not null,
    metadata      jsonb       not null default '{}',
    trace_context jsonb       not null default '{}',
    -- Grows by one with every move, so that a watcher misses none.
    version       bigint      not null default 1,
    expires_at    timestamptz,
    holds_open    boolean     not null default false,
    created_at    timestamptz not null default now(),
    updated_at    timestamptz not null default now(),
    completed_at  timestamptz,
    primary key (tenant_id, id),
    foreign key (tenant_id, parent_id) references fulcrum.envelopes (tenant_id, id),
    foreign key (tenant_id, root_id) references fulcrum.envelopes (tenant_id, id),
    check ((parent_id is null) = (root_id = id)),
    check ((completed_at is not null) = fulcrum.envelope_is_final(status))
) with (fillfactor = 80);
comment on table fulcrum.envelopes is 'owner: gateway. Governed executions and where each stands. Trees are at most 10 deep, with at most 100 envelopes under a root.';
comment on column fulcrum.envelopes.governance is 'fulcrum.envelope.v1.GovernanceContext as asked for';
comment on column fulcrum.envelopes.limits is 'fulcrum.budget.v1.ReserveRequest with the envelope_limits of this envelope and of each ancestor that has any, and nothing else';
comment on column fulcrum.envelopes.holds_open is 'ended by force; what its actions hold is still to be given back';
create index envelopes_newest on fulcrum.envelopes (tenant_id, created_at desc, id desc);
create index envelopes_tree on fulcrum.envelopes (tenant_id, root_id) where parent_id is not null;
create index envelopes_execution on fulcrum.envelopes (tenant_id, execution_id);
create index envelopes_due on fulcrum.envelopes (tenant_id, expires_at)
    where expires_at is not null and status in ('PENDING', 'AUTHORIZED', 'RUNNING', 'PAUSED');
create index envelopes_holds_open on fulcrum.envelopes (tenant_id, id) where holds_open;

-- +goose StatementBegin
create function fulcrum.envelope_moves() returns trigger
    language plpgsql
    set search_path = pg_catalog
as $$
begin
    if not fulcrum.envelope_may_move(old.status, new.status) then
        raise exception 'envelope % cannot move from % to %', old.id, old.status, new.status
            using errcode = 'check_violation';
    end if;
    return new;
end
$$;
-- +goose StatementEnd
create trigger envelope_moves before update on fulcrum.envelopes
    for each row when (old.status is distinct from new.status)
    execute function fulcrum.envelope_moves();

select fulcrum.protect_list('fulcrum.envelopes');
grant select, insert on fulcrum.envelopes to fulcrum_app;
-- Who opened an envelope, under whom and with which limits never changes.
grant update (descendants, status, status_reason, version, holds_open, updated_at, completed_at) on fulcrum.envelopes to fulcrum_app;

-- +goose Down
drop table fulcrum.envelopes;
drop function fulcrum.envelope_moves();
drop function fulcrum.envelope_is_final(text);
drop function fulcrum.envelope_may_move(text, text);
