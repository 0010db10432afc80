-- +goose Up
-- A unit whose limit is 0 has none. over is what stands beyond the limit because
-- it had already happened (an overrun, a lowered limit, a budget that only warns).
create table fulcrum.budget_windows (
    tenant_id        uuid        not null,
    budget_id        text        collate "C" not null,
    window_start     timestamptz not null,
    window_end       timestamptz not null,
    config_version   bigint      not null,
    mode             smallint    not null,
    suspended        boolean     not null default false,
    version          bigint      not null default 0,
    reached_bp       integer     not null default 0,
    throttled_until  timestamptz not null default 'epoch',
    created_at       timestamptz not null default now(),
    updated_at       timestamptz not null default now(),
    cost_nano_limit      bigint not null default 0,
    cost_nano_held       bigint not null default 0,
    cost_nano_spent      bigint not null default 0,
    cost_nano_over       bigint not null default 0,
    total_tokens_limit   bigint not null default 0,
    total_tokens_held    bigint not null default 0,
    total_tokens_spent   bigint not null default 0,
    total_tokens_over    bigint not null default 0,
    input_tokens_limit   bigint not null default 0,
    input_tokens_held    bigint not null default 0,
    input_tokens_spent   bigint not null default 0,
    input_tokens_over    bigint not null default 0,
    output_tokens_limit  bigint not null default 0,
    output_tokens_held   bigint not null default 0,
    output_tokens_spent  bigint not null default 0,
    output_tokens_over   bigint not null default 0,
    llm_calls_limit      bigint not null default 0,
    llm_calls_held       bigint not null default 0,
    llm_calls_spent      bigint not null default 0,
    llm_calls_over       bigint not null default 0,
    tool_calls_limit     bigint not null default 0,
    tool_calls_held      bigint not null default 0,
    tool_calls_spent     bigint not null default 0,
    tool_calls_over      bigint not null default 0,
    seconds_limit        bigint not null default 0,
    seconds_held         bigint not null default 0,
    seconds_spent        bigint not null default 0,
    seconds_over         bigint not null default 0,
    primary key (tenant_id, budget_id, window_start),
    -- Few checks with many terms: each check is prepared anew by every statement.
    constraint budget_windows_version check (version >= 0),
    constraint budget_windows_sane check (
        length(budget_id) between 1 and 128 and window_start < window_end and config_version >= 0 and mode in (1, 2, 3) and reached_bp >= 0
        and least(cost_nano_limit, cost_nano_held, cost_nano_spent, cost_nano_over, total_tokens_limit, total_tokens_held, total_tokens_spent, total_tokens_over, input_tokens_limit, input_tokens_held, input_tokens_spent, input_tokens_over, output_tokens_limit, output_tokens_held, output_tokens_spent, output_tokens_over, llm_calls_limit, llm_calls_held, llm_calls_spent, llm_calls_over, tool_calls_limit, tool_calls_held, tool_calls_spent, tool_calls_over, seconds_limit, seconds_held, seconds_spent, seconds_over) >= 0),
    constraint budget_windows_within check (
        (cost_nano_limit = 0 or cost_nano_spent + cost_nano_held <= cost_nano_limit + cost_nano_over)
        and (total_tokens_limit = 0 or total_tokens_spent + total_tokens_held <= total_tokens_limit + total_tokens_over)
        and (input_tokens_limit = 0 or input_tokens_spent + input_tokens_held <= input_tokens_limit + input_tokens_over)
        and (output_tokens_limit = 0 or output_tokens_spent + output_tokens_held <= output_tokens_limit + output_tokens_over)
        and (llm_calls_limit = 0 or llm_calls_spent + llm_calls_held <= llm_calls_limit + llm_calls_over)
        and (tool_calls_limit = 0 or tool_calls_spent + tool_calls_held <= tool_calls_limit + tool_calls_over)
        and (seconds_limit = 0 or seconds_spent + seconds_held <= seconds_limit + seconds_over))
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000);
comment on table fulcrum.budget_windows is 'owner: budget. What is held and spent of one budget in one window, next to its limits. Changed only under a row lock by a ledger batch; always the sum of its ledger_entries.';
comment on column fulcrum.budget_windows.budget_id is 'the budget''s id, or envelope:<id> for the limits an envelope carries';
comment on column fulcrum.budget_windows.config_version is 'version of the budget bundle the limits come from';
comment on column fulcrum.budget_windows.mode is 'fulcrum.cost.v1.BudgetMode: 1 hard, 2 soft, 3 throttle';
comment on column fulcrum.budget_windows.version is 'grows with every save; a save that expected another one breaks the check and undoes its whole batch. Whoever repairs a row by hand raises it, too';
comment on column fulcrum.budget_windows.reached_bp is 'highest threshold announced in this window, in hundredths of a percent';
comment on column fulcrum.budget_windows.window_end is 'exclusive; the year 9999 for a window that never ends';
select fulcrum.protect_list('fulcrum.budget_windows');
grant select, insert, update on fulcrum.budget_windows to fulcrum_app;

-- +goose Down
drop table fulcrum.budget_windows;
