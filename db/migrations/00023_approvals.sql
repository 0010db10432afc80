-- +goose Up
-- A person's answer to one exact action. Written in the transaction of the
-- decision that asked for it, and used up in the transaction of the decision
-- that it allows: hence the gateway's, not the control plane's.
create table fulcrum.approvals (
    tenant_id          uuid        not null references fulcrum.tenants (id),
    id                 uuid        not null,
    decision_id        uuid        not null,
    envelope_id        uuid,
    digest             bytea       not null check (length(digest) = 32),
    policy_set_version bigint      not null,
    policy_id          text        not null default '',
    policy_name        text        not null default '',
    action_kind        text        not null,
    action_name        text        not null,
    -- What the reviewer is shown.
    metadata           jsonb       not null default '{}',
    requested_by_key   text        not null,
    requested_by_agent text        not null default '',
    requested_by_user  text        not null default '',
    quorum             integer     not null check (quorum between 1 and 20),
    roles              text[]      not null default '{}',
    state              text        not null default 'PENDING'
        check (state in ('PENDING', 'APPROVED', 'REJECTED', 'EXPIRED', 'CANCELLED', 'CONSUMED')),
    reviewer_id        text        not null default '',
    review_note        text        not null default '',
    consumed_by        uuid,
    -- What the envelope's creation waits for, not an action inside it.
    opens_envelope     boolean     not null default false,
    ttl_seconds        integer     not null check (ttl_seconds between 1 and 604800),
    version            bigint      not null default 1,
    created_at         timestamptz not null default now(),
    updated_at         timestamptz not null default now(),
    expires_at         timestamptz not null,
    primary key (tenant_id, id),
    foreign key (tenant_id, envelope_id) references fulcrum.envelopes (tenant_id, id),
    check ((consumed_by is not null) = (state = 'CONSUMED'))
);
comment on table fulcrum.approvals is 'owner: gateway. Approvals bound to the digest of one action; good for one use, until expires_at.';
create index approvals_newest on fulcrum.approvals (tenant_id, created_at desc, id desc);
create index approvals_envelope on fulcrum.approvals (tenant_id, envelope_id) where state in ('PENDING', 'APPROVED');
create index approvals_due on fulcrum.approvals (tenant_id, expires_at) where state in ('PENDING', 'APPROVED');

-- +goose StatementBegin
create function fulcrum.approval_moves() returns trigger
    language plpgsql
    set search_path = pg_catalog
as $$
begin
    if not (case old.state
        when 'PENDING' then new.state in ('APPROVED', 'REJECTED', 'EXPIRED', 'CANCELLED')
        when 'APPROVED' then new.state in ('CONSUMED', 'EXPIRED', 'CANCELLED')
        else false
    end) then
        raise exception 'approval % cannot move from % to %', old.id, old.state, new.state
            using errcode = 'check_violation';
    end if;
    return new;
end
$$;
-- +goose StatementEnd
create trigger approval_moves before update on fulcrum.approvals
    for each row when (old.state is distinct from new.state)
    execute function fulcrum.approval_moves();

select fulcrum.protect_list('fulcrum.approvals');
grant select, insert on fulcrum.approvals to fulcrum_app;
grant update (state, reviewer_id, review_note, consumed_by, version, updated_at, expires_at) on fulcrum.approvals to fulcrum_app;

create table fulcrum.approval_votes (
    tenant_id   uuid        not null,
    approval_id uuid        not null,
    reviewer_id text        not null,
    verdict     text        not null check (verdict in ('APPROVED', 'REJECTED')),
    note        text        not null default '',
    created_at  timestamptz not null default now(),
    primary key (tenant_id, approval_id, reviewer_id),
    foreign key (tenant_id, approval_id) references fulcrum.approvals (tenant_id, id)
);
comment on table fulcrum.approval_votes is 'owner: gateway. Who said what about an approval, each reviewer once. Never changed: there is no grant to.';
select fulcrum.protect_list('fulcrum.approval_votes');
grant select, insert on fulcrum.approval_votes to fulcrum_app;

-- +goose Down
drop table fulcrum.approval_votes;
drop table fulcrum.approvals;
drop function fulcrum.approval_moves();
