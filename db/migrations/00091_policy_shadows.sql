-- +goose Up
-- Versions that judge a share of live traffic beside the answer.
create table fulcrum.policy_shadows (
    tenant_id        uuid        not null,
    policy_id        uuid        not null,
    version          bigint      not null,
    share_per_myriad integer     not null check (share_per_myriad between 1 and 10000),
    started_by       text        not null,
    started_at       timestamptz not null default now(),
    primary key (tenant_id, policy_id),
    foreign key (tenant_id, policy_id, version) references fulcrum.policy_versions (tenant_id, policy_id, version)
);
comment on table fulcrum.policy_shadows is
    'owner: control-plane. The version of a policy that is in shadow, and of what share of the decisions. What it says is in fulcrum.decisions.';

select fulcrum.protect('fulcrum.policy_shadows');
grant select, insert, update, delete on fulcrum.policy_shadows to fulcrum_app;

-- +goose Down
drop table fulcrum.policy_shadows;
