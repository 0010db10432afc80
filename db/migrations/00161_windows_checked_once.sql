-- +goose Up
-- The statement that saves windows proposes each as a new row and changes the one
-- that is there. Policies for inserting were checked of the proposal, and those for
-- changing of the row: the same, twice. Now they are for changing, and a row that
-- is new in truth is checked by a trigger, which costs nothing while there is none.
-- It binds every role.
drop policy sane on fulcrum.budget_windows;
drop policy within on fulcrum.budget_windows;
create policy sane on fulcrum.budget_windows as restrictive for update to fulcrum_app using (true) with check (
    length(budget_id) between 1 and 128 and window_start < window_end and config_version >= 0 and mode in (1, 2, 3, 4) and reached_bp >= 0
    and least(cost_nano_limit, cost_nano_held, cost_nano_spent, cost_nano_over, total_tokens_limit, total_tokens_held, total_tokens_spent, total_tokens_over,
        input_tokens_limit, input_tokens_held, input_tokens_spent, input_tokens_over, output_tokens_limit, output_tokens_held, output_tokens_spent, output_tokens_over,
        llm_calls_limit, llm_calls_held, llm_calls_spent, llm_calls_over, tool_calls_limit, tool_calls_held, tool_calls_spent, tool_calls_over,
        seconds_limit, seconds_held, seconds_spent, seconds_over) >= 0);
create policy within on fulcrum.budget_windows as restrictive for update to fulcrum_app using (true) with check (
    ((cost_nano_limit = 0 and mode <> 4) or cost_nano_spent + cost_nano_held <= cost_nano_limit + cost_nano_over)
    and (total_tokens_limit = 0 or total_tokens_spent + total_tokens_held <= total_tokens_limit + total_tokens_over)
    and (input_tokens_limit = 0 or input_tokens_spent + input_tokens_held <= input_tokens_limit + input_tokens_over)
    and (output_tokens_limit = 0 or output_tokens_spent + output_tokens_held <= output_tokens_limit + output_tokens_over)
    and (llm_calls_limit = 0 or llm_calls_spent + llm_calls_held <= llm_calls_limit + llm_calls_over)
    and (tool_calls_limit = 0 or tool_calls_spent + tool_calls_held <= tool_calls_limit + tool_calls_over)
    and (seconds_limit = 0 or seconds_spent + seconds_held <= seconds_limit + seconds_over));
comment on policy within on fulcrum.budget_windows is 'No budget is overspent: what is spent and held is never more than the limit and what stands beyond it because it had already happened.';
-- +goose StatementBegin
-- Refuses a row, as a check of the trigger's name would.
create function fulcrum.refuse_row() returns trigger
    language plpgsql
    set search_path = pg_catalog
as $$
begin
    raise exception 'fulcrum: new row of %.% cannot be: %', tg_table_schema, tg_table_name, tg_name
        using errcode = 'check_violation', schema = tg_table_schema, table = tg_table_name, constraint = tg_name;
end
$$;
-- +goose StatementEnd
create trigger budget_windows_new after insert on fulcrum.budget_windows for each row when (not coalesce(
    length(new.budget_id) between 1 and 128 and new.window_start < new.window_end and new.config_version >= 0 and new.mode in (1, 2, 3, 4) and new.reached_bp >= 0
    and least(new.cost_nano_limit, new.cost_nano_held, new.cost_nano_spent, new.cost_nano_over, new.total_tokens_limit, new.total_tokens_held, new.total_tokens_spent, new.total_tokens_over,
        new.input_tokens_limit, new.input_tokens_held, new.input_tokens_spent, new.input_tokens_over, new.output_tokens_limit, new.output_tokens_held, new.output_tokens_spent, new.output_tokens_over,
        new.llm_calls_limit, new.llm_calls_held, new.llm_calls_spent, new.llm_calls_over, new.tool_calls_limit, new.tool_calls_held, new.tool_calls_spent, new.tool_calls_over,
        new.seconds_limit, new.seconds_held, new.seconds_spent, new.seconds_over) >= 0
    and ((new.cost_nano_limit = 0 and new.mode <> 4) or new.cost_nano_spent + new.cost_nano_held <= new.cost_nano_limit + new.cost_nano_over)
    and (new.total_tokens_limit = 0 or new.total_tokens_spent + new.total_tokens_held <= new.total_tokens_limit + new.total_tokens_over)
    and (new.input_tokens_limit = 0 or new.input_tokens_spent + new.input_tokens_held <= new.input_tokens_limit + new.input_tokens_over)
    and (new.output_tokens_limit = 0 or new.output_tokens_spent + new.output_tokens_held <= new.output_tokens_limit + new.output_tokens_over)
    and (new.llm_calls_limit = 0 or new.llm_calls_spent + new.llm_calls_held <= new.llm_calls_limit + new.llm_calls_over)
    and (new.tool_calls_limit = 0 or new.tool_calls_spent + new.tool_calls_held <= new.tool_calls_limit + new.tool_calls_over)
    and (new.seconds_limit = 0 or new.seconds_spent + new.seconds_held <= new.seconds_limit + new.seconds_over), false)) execute function fulcrum.refuse_row();
-- A save that expected another version says so by its code (FT023). The check stays
-- for instances of the release before: they save -1, and know the check by its name.
comment on column fulcrum.budget_windows.version is 'grows with every save; a save that expected another one undoes its whole batch (FT023). Whoever repairs a row by hand raises it, too';

-- +goose Down
comment on column fulcrum.budget_windows.version is 'grows with every save; a save that expected another one breaks the check and undoes its whole batch. Whoever repairs a row by hand raises it, too';
drop trigger budget_windows_new on fulcrum.budget_windows;
drop function fulcrum.refuse_row();
drop policy within on fulcrum.budget_windows;
drop policy sane on fulcrum.budget_windows;
create policy sane on fulcrum.budget_windows as restrictive to fulcrum_app using (true) with check (
    length(budget_id) between 1 and 128 and window_start < window_end and config_version >= 0 and mode in (1, 2, 3, 4) and reached_bp >= 0
    and least(cost_nano_limit, cost_nano_held, cost_nano_spent, cost_nano_over, total_tokens_limit, total_tokens_held, total_tokens_spent, total_tokens_over,
        input_tokens_limit, input_tokens_held, input_tokens_spent, input_tokens_over, output_tokens_limit, output_tokens_held, output_tokens_spent, output_tokens_over,
        llm_calls_limit, llm_calls_held, llm_calls_spent, llm_calls_over, tool_calls_limit, tool_calls_held, tool_calls_spent, tool_calls_over,
        seconds_limit, seconds_held, seconds_spent, seconds_over) >= 0);
create policy within on fulcrum.budget_windows as restrictive to fulcrum_app using (true) with check (
    ((cost_nano_limit = 0 and mode <> 4) or cost_nano_spent + cost_nano_held <= cost_nano_limit + cost_nano_over)
    and (total_tokens_limit = 0 or total_tokens_spent + total_tokens_held <= total_tokens_limit + total_tokens_over)
    and (input_tokens_limit = 0 or input_tokens_spent + input_tokens_held <= input_tokens_limit + input_tokens_over)
    and (output_tokens_limit = 0 or output_tokens_spent + output_tokens_held <= output_tokens_limit + output_tokens_over)
    and (llm_calls_limit = 0 or llm_calls_spent + llm_calls_held <= llm_calls_limit + llm_calls_over)
    and (tool_calls_limit = 0 or tool_calls_spent + tool_calls_held <= tool_calls_limit + tool_calls_over)
    and (seconds_limit = 0 or seconds_spent + seconds_held <= seconds_limit + seconds_over));
comment on policy within on fulcrum.budget_windows is 'No budget is overspent: what is spent and held is never more than the limit and what stands beyond it because it had already happened.';
