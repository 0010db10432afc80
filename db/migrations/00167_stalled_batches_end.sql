-- +goose Up
-- +goose StatementBegin
create function fulcrum.end_stalled(after interval) returns integer
    language sql volatile
    set search_path = pg_catalog
as $$
    -- A client that sends a transaction in parts and stops in the middle, because its
    -- host is lost or its process stands still, leaves the server waiting for the next
    -- part with the locks of the first: as 'active', where neither
    -- idle_in_transaction_session_timeout nor statement_timeout looks. Only clients of
    -- the caller's name, role and database.
    with stalled as materialized (
        select pid from pg_stat_activity
        where datname = current_database() and usename = current_user and application_name = current_setting('application_name')
          and state = 'active' and wait_event = 'ClientRead' and pid <> pg_backend_pid()
          and greatest(xact_start, state_change) < clock_timestamp() - after
    )
    select count(*)::integer from stalled where pg_terminate_backend(pid)
$$;
-- +goose StatementEnd
grant execute on function fulcrum.end_stalled(interval) to fulcrum_app;

-- +goose Down
drop function fulcrum.end_stalled(interval);
