-- +goose Up
-- By quarter hours, because the clocks of all zones differ by whole ones: so the
-- days, weeks and months of any zone add up exactly. Kept as long as the sums of
-- spending that it stands beside.
create table metrics.execution_quarters (
    tenant_id   uuid        not null,
    quarter     timestamptz not null,
    workflow_id text        collate "C" not null,
    team        text        collate "C" not null,
    agent_id    text        collate "C" not null,
    api_key_id  text        collate "C" not null,
    opened      bigint      not null,
    completed   bigint      not null,
    failed      bigint      not null,
    terminated  bigint      not null,
    primary key (tenant_id, quarter, workflow_id, team, agent_id, api_key_id)
);
comment on table metrics.execution_quarters is 'owner: event-processor. How many envelopes were opened, and how they ended, each at its own time; kept as they are ingested.';
alter table metrics.execution_quarters owner to metrics_owner;

-- +goose StatementBegin
create function metrics.ingest_executions(
    tenants uuid[], quarters timestamptz[], workflows text[], teams text[], agents text[], api_keys text[],
    opened bigint[], completed bigint[], failed bigint[], terminated bigint[]
) returns void
    language plpgsql security definer
    set search_path = pg_catalog
as $$
begin
    perform metrics.refuse_foreign(tenants);
    insert into metrics.execution_quarters as q (tenant_id, quarter, workflow_id, team, agent_id, api_key_id, opened, completed, failed, terminated)
    select r.tenant_id, r.quarter, r.workflow_id, r.team, r.agent_id, r.api_key_id, sum(r.opened), sum(r.completed), sum(r.failed), sum(r.terminated)
    from unnest(tenants, quarters, workflows, teams, agents, api_keys, ingest_executions.opened, ingest_executions.completed, ingest_executions.failed, ingest_executions.terminated)
             as r(tenant_id, quarter, workflow_id, team, agent_id, api_key_id, opened, completed, failed, terminated)
    group by 1, 2, 3, 4, 5, 6
    order by 1, 2, 3, 4, 5, 6 -- the same order for everybody: no two batches wait for each other
    on conflict (tenant_id, quarter, workflow_id, team, agent_id, api_key_id) do update
    set opened = q.opened + excluded.opened, completed = q.completed + excluded.completed,
        failed = q.failed + excluded.failed, terminated = q.terminated + excluded.terminated;
end
$$;
-- +goose StatementEnd
comment on function metrics.ingest_executions is 'owner: event-processor. Writes metrics.execution_quarters for tenants of the transaction.';
alter function metrics.ingest_executions(uuid[], timestamptz[], text[], text[], text[], text[], bigint[], bigint[], bigint[], bigint[]) owner to metrics_owner;
grant execute on function metrics.ingest_executions(uuid[], timestamptz[], text[], text[], text[], text[], bigint[], bigint[], bigint[], bigint[]) to fulcrum_app;

create view metrics.execution_quarters_v with (security_barrier = true) as
    select tenant_id, quarter, workflow_id, team, agent_id, api_key_id, opened, completed, failed, terminated
    from metrics.execution_quarters where tenant_id = (select fulcrum.current_tenant());
comment on view metrics.execution_quarters_v is 'owner: event-processor. metrics.execution_quarters of the transaction''s tenant.';
alter view metrics.execution_quarters_v owner to metrics_owner;
grant select on metrics.execution_quarters_v to fulcrum_app;

-- +goose Down
drop view metrics.execution_quarters_v;
drop function metrics.ingest_executions;
drop table metrics.execution_quarters;
