-- +goose Up
-- The only way in. Each takes one array a column.

-- +goose StatementBegin
create function metrics.refuse_foreign(tenants uuid[]) returns void
    language plpgsql stable
    set search_path = pg_catalog
as $$
begin
    -- Neither NULL nor an element that is NULL is contained in anything.
    if not coalesce(tenants <@ fulcrum.current_tenants(), false) then
        raise exception 'metrics: a row is of a tenant outside this transaction'
            using errcode = '42501', hint = 'enter through db.WithTenants with every tenant of the batch';
    end if;
end
$$;

create function metrics.ingest_costs(
    tenants uuid[], ats timestamptz[], events uuid[], agents text[], teams text[], users text[], api_keys text[],
    workflows text[], envelopes text[], models text[], costs bigint[], inputs bigint[], outputs bigint[], cached bigint[],
    reasoning bigint[], llm_calls bigint[], tool_calls bigint[], seconds bigint[], price_versions text[], reservations text[]
) returns void
    language plpgsql security definer
    set search_path = pg_catalog
as $$
begin
    perform metrics.refuse_foreign(tenants);
    insert into metrics.cost_events (tenant_id, at, event_id, agent_id, team, user_id, api_key_id,
        workflow_id, envelope_id, model, cost_nano, input_tokens, output_tokens, cached_tokens,
        reasoning_tokens, llm_calls, tool_calls, seconds, price_version, reservation_id)
    select * from unnest(tenants, ats, events, agents, teams, users, api_keys,
        workflows, envelopes, models, costs, inputs, outputs, cached,
        reasoning, ingest_costs.llm_calls, ingest_costs.tool_calls, ingest_costs.seconds, price_versions, reservations);
end
$$;

create function metrics.ingest_decisions(
    tenants uuid[], ats timestamptz[], events uuid[], agents text[], actions text[], decisions text[],
    totals bigint[], evaluates bigint[], reserves bigint[]
) returns void
    language plpgsql security definer
    set search_path = pg_catalog
as $$
begin
    perform metrics.refuse_foreign(tenants);
    insert into metrics.decision_latency (tenant_id, at, event_id, agent_id, action, decision, total_us, evaluate_us, reserve_us)
    select * from unnest(tenants, ats, events, agents, actions, decisions, totals, evaluates, reserves);
end
$$;

-- One row per tenant, agent and minute of the batch; a counter that is zero
-- leaves no row in metrics.metrics.
create function metrics.ingest_counters(
    tenants uuid[], minutes timestamptz[], agents text[], last_ats timestamptz[],
    events bigint[], errors bigint[], decisions bigint[], denials bigint[], costs bigint[], inputs bigint[], outputs bigint[]
) returns void
    language plpgsql security definer
    set search_path = pg_catalog
    set timezone = 'UTC'
as $$
begin
    perform metrics.refuse_foreign(tenants);
    insert into metrics.metrics (tenant_id, at, agent_id, name, value)
    select r.tenant_id, r.minute, r.agent_id, v.name, v.value
    from unnest(tenants, minutes, agents, events, errors, decisions, denials, costs, inputs, outputs)
             as r(tenant_id, minute, agent_id, events, errors, decisions, denials, cost_nano, input_tokens, output_tokens),
         lateral (values ('events', r.events), ('errors', r.errors), ('decisions', r.decisions), ('denials', r.denials),
                         ('cost_nano', r.cost_nano), ('input_tokens', r.input_tokens), ('output_tokens', r.output_tokens)) as v(name, value)
    where v.value <> 0;

    insert into metrics.agent_hours as h (tenant_id, hour, agent_id, events, errors, decisions, denials, cost_nano, input_tokens, output_tokens, last_at)
    select r.tenant_id, date_trunc('hour', r.minute), r.agent_id, sum(r.events), sum(r.errors), sum(r.decisions), sum(r.denials),
           sum(r.cost_nano), sum(r.input_tokens), sum(r.output_tokens), max(r.last_at)
    from unnest(tenants, minutes, agents, last_ats, events, errors, decisions, denials, costs, inputs, outputs)
             as r(tenant_id, minute, agent_id, last_at, events, errors, decisions, denials, cost_nano, input_tokens, output_tokens)
    group by 1, 2, 3
    order by 1, 3, 2 -- the same order for everybody: no two batches wait for each other
    on conflict (tenant_id, agent_id, hour) do update
    set events = h.events + excluded.events, errors = h.errors + excluded.errors,
        decisions = h.decisions + excluded.decisions, denials = h.denials + excluded.denials,
        cost_nano = h.cost_nano + excluded.cost_nano, input_tokens = h.input_tokens + excluded.input_tokens,
        output_tokens = h.output_tokens + excluded.output_tokens, last_at = greatest(h.last_at, excluded.last_at);
end
$$;
-- +goose StatementEnd
comment on function metrics.ingest_costs is 'owner: event-processor. Writes metrics.cost_events for tenants of the transaction.';
comment on function metrics.ingest_decisions is 'owner: event-processor. Writes metrics.decision_latency for tenants of the transaction.';
comment on function metrics.ingest_counters is 'owner: event-processor. Writes metrics.metrics and metrics.agent_hours for tenants of the transaction.';

-- +goose StatementBegin
do $$
declare
    f regprocedure;
begin
    for f in select p.oid::regprocedure from pg_proc p
             where p.pronamespace = 'metrics'::regnamespace and p.proname in ('refuse_foreign', 'ingest_costs', 'ingest_decisions', 'ingest_counters')
    loop
        execute format('alter function %s owner to metrics_owner', f);
        if f::text like '%ingest\_%' then
            execute format('grant execute on function %s to fulcrum_app', f);
        end if;
    end loop;
end
$$;
-- +goose StatementEnd

-- +goose Down
drop function metrics.ingest_counters;
drop function metrics.ingest_decisions;
drop function metrics.ingest_costs;
drop function metrics.refuse_foreign;
