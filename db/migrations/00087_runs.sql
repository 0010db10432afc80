-- +goose Up
-- What a run of a workflow costs is read from the latest of its envelopes.
alter table fulcrum.envelope_costs
    add column workflow_id text collate "C" not null default '',
    add column started_at  timestamptz not null default now();
comment on column fulcrum.envelope_costs.started_at is 'when it was first charged for the model';
create index envelope_costs_runs on fulcrum.envelope_costs (tenant_id, workflow_id, started_at);

-- +goose Down
drop index fulcrum.envelope_costs_runs;
alter table fulcrum.envelope_costs drop column started_at, drop column workflow_id;
