-- +goose Up
-- Once a minute autovacuum reads a sample of a table that grew by a tenth, and works
-- out for each column which values are common, of arrays for each element. Under ten
-- thousand holds a second that took half a second to 1.3 seconds, in which
-- batches waited 30 to 60 ms. No query of these tables asks by anything but their
-- keys: of those a tenth of the usual sample does, and of the other columns none.
alter table fulcrum.ledger_batches
    alter column tenant_id set statistics 10, alter column occurred_at set statistics 10, alter column id set statistics 10,
    alter column transaction_ids set statistics 0, alter column kinds set statistics 0, alter column reservation_ids set statistics 0;
alter table fulcrum.ledger_postings
    alter column tenant_id set statistics 10, alter column budget_id set statistics 10, alter column window_start set statistics 10,
    alter column occurred_at set statistics 10, alter column batch_id set statistics 10,
    alter column refs set statistics 0, alter column lines set statistics 0, alter column moves set statistics 0, alter column entries set statistics 0,
    alter column cost_nano set statistics 0, alter column total_tokens set statistics 0, alter column input_tokens set statistics 0, alter column output_tokens set statistics 0,
    alter column llm_calls set statistics 0, alter column tool_calls set statistics 0, alter column seconds set statistics 0;
alter table fulcrum.reservations
    alter column tenant_id set statistics 10, alter column id set statistics 10, alter column created_at set statistics 10, alter column expires_at set statistics 10,
    alter column request_hash set statistics 0, alter column price_version set statistics 0, alter column team set statistics 0, alter column agent_id set statistics 0,
    alter column user_id set statistics 0, alter column workflow_id set statistics 0, alter column api_key_id set statistics 0, alter column model set statistics 0,
    alter column envelope_id set statistics 0, alter column budget_ids set statistics 0, alter column window_starts set statistics 0, alter column vias set statistics 0,
    alter column cost_nano set statistics 0, alter column total_tokens set statistics 0, alter column input_tokens set statistics 0, alter column output_tokens set statistics 0,
    alter column llm_calls set statistics 0, alter column tool_calls set statistics 0, alter column seconds set statistics 0;

-- +goose StatementBegin
-- A partition does not take this over from its parent.
create function fulcrum.ensure_ledger_partitions() returns integer
    language plpgsql security definer
    set search_path = pg_catalog
    set lock_timeout = '1s'
as $$
declare
    made integer := fulcrum.ensure_partitions('fulcrum.ledger_batches') + fulcrum.ensure_partitions('fulcrum.ledger_postings');
    c    record;
begin
    for c in
        select part.attrelid::regclass as part, part.attname, coalesce(parent.attstattarget, -1) as target
        from pg_inherits i
        join pg_attribute parent on parent.attrelid = i.inhparent
        join pg_attribute part on part.attrelid = i.inhrelid and part.attname = parent.attname
        where i.inhparent in ('fulcrum.ledger_batches'::regclass, 'fulcrum.ledger_postings'::regclass)
          and parent.attnum > 0 and not parent.attisdropped and part.attstattarget is distinct from parent.attstattarget
    loop
        execute format('alter table %s alter column %I set statistics %s', c.part, c.attname, c.target);
    end loop;
    return made;
end
$$;
-- +goose StatementEnd
grant execute on function fulcrum.ensure_ledger_partitions() to fulcrum_app;

-- +goose Down
drop function fulcrum.ensure_ledger_partitions();
-- +goose StatementBegin
do $$
declare
    c record;
begin
    for c in
        select a.attrelid::regclass as part, a.attname
        from pg_attribute a
        where a.attrelid in ('fulcrum.reservations'::regclass, 'fulcrum.ledger_batches'::regclass, 'fulcrum.ledger_postings'::regclass) and a.attnum > 0 and not a.attisdropped
    loop
        execute format('alter table %s alter column %I set statistics -1', c.part, c.attname);
    end loop;
end
$$;
-- +goose StatementEnd
