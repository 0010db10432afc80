-- +goose Up
-- What every batch of the ledger pays, however small it is. PostgreSQL keeps a
-- check as text, and reads and plans it anew in every statement that writes; the
-- expression of a policy is part of the statement's plan, which lives as long as
-- the connection. So what must hold of every row that the ledger writes is a
-- restrictive policy: the application can write no row that breaks it, in
-- whatever statement. It binds fulcrum_app alone: a row that somebody else breaks
-- is refused when the application next saves it, and the continuous check finds
-- counters that do not fit their entries.
-- The version stays a check: a save that expected another version is told by name.
alter table fulcrum.budget_windows drop constraint budget_windows_sane, drop constraint budget_windows_within;
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

alter table fulcrum.reservations drop constraint reservations_check;
create policy sane on fulcrum.reservations as restrictive to fulcrum_app using (true) with check (
    length(request_hash) = 32 and created_at < expires_at and least(cost_nano, total_tokens, input_tokens, output_tokens, llm_calls, tool_calls, seconds) >= 0
    and cardinality(budget_ids) = cardinality(window_starts) and cardinality(vias) in (0, cardinality(budget_ids)));

alter table fulcrum.ledger_batches drop constraint ledger_batches_sane;
create policy sane on fulcrum.ledger_batches as restrictive to fulcrum_app using (true) with check (
    cardinality(transaction_ids) > 0 and cardinality(kinds) = cardinality(transaction_ids) and cardinality(reservation_ids) = cardinality(transaction_ids)
    and '' < all (kinds));

alter table fulcrum.ledger_postings drop constraint ledger_postings_sane;
create policy sane on fulcrum.ledger_postings as restrictive to fulcrum_app using (true) with check (
    cardinality(refs) > 0 and cardinality(lines) = cardinality(refs) and cardinality(moves) = cardinality(refs)
    and 12 <= all (moves) and 61 >= all (moves)
    and array[0, cardinality(refs)] @> array[cardinality(cost_nano), cardinality(total_tokens), cardinality(input_tokens), cardinality(output_tokens),
        cardinality(llm_calls), cardinality(tool_calls), cardinality(seconds)]
    and 0 <= all (cost_nano) and 0 <= all (total_tokens) and 0 <= all (input_tokens) and 0 <= all (output_tokens)
    and 0 <= all (llm_calls) and 0 <= all (tool_calls) and 0 <= all (seconds));

-- A batch that was decided from memory is guarded by the statement that saves its
-- windows. It reads the bundles of the batch's tenants as the application, so
-- their policy takes a list, as the ledger's tables do.
drop policy tenant_select on fulcrum.config_bundles;
drop policy tenant_insert on fulcrum.config_bundles;
drop policy tenant_update on fulcrum.config_bundles;
drop policy tenant_delete on fulcrum.config_bundles;
select fulcrum.protect_list('fulcrum.config_bundles');
-- +goose StatementBegin
-- Undoes the statement's whole transaction. In a branch of an expression, it costs nothing until it is taken.
create function fulcrum.refuse_batch(why text, code text) returns bigint
    language plpgsql volatile
    set search_path = pg_catalog
as $$
begin
    raise exception 'fulcrum: %', why using errcode = code;
end
$$;
-- +goose StatementEnd
grant execute on function fulcrum.refuse_batch(text, text) to fulcrum_app;

-- +goose Down
drop function fulcrum.refuse_batch(text, text);
drop policy tenant_select on fulcrum.config_bundles;
drop policy tenant_insert on fulcrum.config_bundles;
drop policy tenant_update on fulcrum.config_bundles;
drop policy tenant_delete on fulcrum.config_bundles;
select fulcrum.protect('fulcrum.config_bundles');
drop policy sane on fulcrum.ledger_postings;
alter table fulcrum.ledger_postings
    add constraint ledger_postings_sane check (cardinality(refs) > 0 and cardinality(lines) = cardinality(refs) and cardinality(moves) = cardinality(refs)
        and 12 <= all (moves) and 61 >= all (moves)
        and array[0, cardinality(refs)] @> array[cardinality(cost_nano), cardinality(total_tokens), cardinality(input_tokens), cardinality(output_tokens),
            cardinality(llm_calls), cardinality(tool_calls), cardinality(seconds)]
        and 0 <= all (cost_nano) and 0 <= all (total_tokens) and 0 <= all (input_tokens) and 0 <= all (output_tokens)
        and 0 <= all (llm_calls) and 0 <= all (tool_calls) and 0 <= all (seconds));
drop policy sane on fulcrum.ledger_batches;
alter table fulcrum.ledger_batches
    add constraint ledger_batches_sane check (cardinality(transaction_ids) > 0
        and cardinality(kinds) = cardinality(transaction_ids) and cardinality(reservation_ids) = cardinality(transaction_ids)
        and '' < all (kinds));
drop policy sane on fulcrum.reservations;
alter table fulcrum.reservations
    add constraint reservations_check check (length(request_hash) = 32 and created_at < expires_at and least(cost_nano, total_tokens, input_tokens, output_tokens, llm_calls, tool_calls, seconds) >= 0
        and cardinality(budget_ids) = cardinality(window_starts) and cardinality(vias) in (0, cardinality(budget_ids)));
drop policy within on fulcrum.budget_windows;
drop policy sane on fulcrum.budget_windows;
alter table fulcrum.budget_windows
    add constraint budget_windows_sane check (
        length(budget_id) between 1 and 128 and window_start < window_end and config_version >= 0 and mode in (1, 2, 3, 4) and reached_bp >= 0
        and least(cost_nano_limit, cost_nano_held, cost_nano_spent, cost_nano_over, total_tokens_limit, total_tokens_held, total_tokens_spent, total_tokens_over, input_tokens_limit, input_tokens_held, input_tokens_spent, input_tokens_over, output_tokens_limit, output_tokens_held, output_tokens_spent, output_tokens_over, llm_calls_limit, llm_calls_held, llm_calls_spent, llm_calls_over, tool_calls_limit, tool_calls_held, tool_calls_spent, tool_calls_over, seconds_limit, seconds_held, seconds_spent, seconds_over) >= 0),
    add constraint budget_windows_within check (
        ((cost_nano_limit = 0 and mode <> 4) or cost_nano_spent + cost_nano_held <= cost_nano_limit + cost_nano_over)
        and (total_tokens_limit = 0 or total_tokens_spent + total_tokens_held <= total_tokens_limit + total_tokens_over)
        and (input_tokens_limit = 0 or input_tokens_spent + input_tokens_held <= input_tokens_limit + input_tokens_over)
        and (output_tokens_limit = 0 or output_tokens_spent + output_tokens_held <= output_tokens_limit + output_tokens_over)
        and (llm_calls_limit = 0 or llm_calls_spent + llm_calls_held <= llm_calls_limit + llm_calls_over)
        and (tool_calls_limit = 0 or tool_calls_spent + tool_calls_held <= tool_calls_limit + tool_calls_over)
        and (seconds_limit = 0 or seconds_spent + seconds_held <= seconds_limit + seconds_over));
