-- +goose Up
create table fulcrum.budget_hours (
    tenant_id        uuid        not null,
    budget_id        text        collate "C" not null,
    hour             timestamptz not null,
    window_start     timestamptz not null,
    model            text        collate "C" not null,
    cost_nano        bigint      not null default 0,
    total_tokens     bigint      not null default 0,
    input_tokens     bigint      not null default 0,
    output_tokens    bigint      not null default 0,
    llm_calls        bigint      not null default 0,
    tool_calls       bigint      not null default 0,
    seconds          bigint      not null default 0,
    charges          bigint      not null default 0,
    primary key (tenant_id, budget_id, hour, window_start, model),
    check (least(cost_nano, total_tokens, input_tokens, output_tokens, llm_calls, tool_calls, seconds, charges) >= 0)
) with (fillfactor = 70);
comment on table fulcrum.budget_hours is 'owner: budget. Sums of what each budget was charged, by hour of the tenant''s clock and by model; kept in the transaction of each charge. Predictions learn from it. Limits that an envelope carries have none.';
comment on column fulcrum.budget_hours.window_start is 'the window that was charged, which a late charge shares with its hold';
select fulcrum.protect_list('fulcrum.budget_hours');
grant select, insert, update on fulcrum.budget_hours to fulcrum_app;

create table fulcrum.budget_notices (
    tenant_id     uuid        not null,
    budget_id     text        collate "C" not null,
    window_start  timestamptz not null,
    threshold_bp  integer     not null check (threshold_bp > 0),
    notified_at   timestamptz not null,
    primary key (tenant_id, budget_id, window_start, threshold_bp)
);
comment on table fulcrum.budget_notices is 'owner: budget. When each threshold of a budget was last announced in a window. Whether it still is announced, budget_windows.reached_bp says.';
select fulcrum.protect_list('fulcrum.budget_notices');
grant select, insert, update on fulcrum.budget_notices to fulcrum_app;

-- +goose Down
drop table fulcrum.budget_notices;
drop table fulcrum.budget_hours;
