-- +goose Up
-- A correction of a charge by hand is what a re-rating is: the last one says what
-- the charge costs, in the summaries, too. Those of before moved money only.
comment on table fulcrum.charge_corrections is
    'owner: budget. What a charge costs after prices were changed, or somebody put it right: its settlement stays as it was, and the last correction counts. Append-only; the money moves by a transaction of kind correction.';
comment on column fulcrum.charge_corrections.rerate_id is 'the re-rating; or, with the price version by-hand, the id of the ledger_movement';

-- The owner of the tables sees no row of them while row level security is forced.
alter table fulcrum.ledger_movements no force row level security;
alter table fulcrum.settlements no force row level security;
alter table fulcrum.reservations no force row level security;
alter table fulcrum.charge_corrections no force row level security;
alter table fulcrum.spend_rollups no force row level security;
alter table fulcrum.envelope_costs no force row level security;
with charge as (
    select s.tenant_id, s.reservation_id, s.model, s.created_at, r.workflow_id, r.team, r.agent_id, r.api_key_id, r.envelope_id,
        coalesce(c.number, 0) as number, coalesce(c.new_nano, s.cost_nano) as cost_nano
    from fulcrum.settlements s
    join fulcrum.reservations r on r.tenant_id = s.tenant_id and r.id = s.reservation_id
    left join lateral (select x.number, x.new_nano from fulcrum.charge_corrections x
        where x.tenant_id = s.tenant_id and x.reservation_id = s.reservation_id order by x.number desc limit 1) c on true
    where s.kind = 'settled'
), moved as (
    select m.tenant_id, m.reservation_id, m.id, m.occurred_at, c.number + row_number() over w as number,
        -- One that took back more than the charge was made it cost nothing.
        greatest(c.cost_nano + sum(m.cost_nano) over w - m.cost_nano, 0) as old_nano, greatest(c.cost_nano + sum(m.cost_nano) over w, 0) as new_nano
    from fulcrum.ledger_movements m
    join charge c on c.tenant_id = m.tenant_id and c.reservation_id = m.reservation_id
    where m.kind = 'correction'
      and not exists (select from fulcrum.charge_corrections x where x.tenant_id = m.tenant_id and x.rerate_id = m.id)
    window w as (partition by m.tenant_id, m.reservation_id order by m.occurred_at, m.id)
), put as (
    insert into fulcrum.charge_corrections (tenant_id, reservation_id, number, rerate_id, old_nano, new_nano, price_version, created_at)
    select m.tenant_id, m.reservation_id, m.number, m.id, m.old_nano, m.new_nano, 'by-hand', m.occurred_at from moved m
    returning tenant_id, reservation_id, new_nano - old_nano as delta
), envelopes as (
    update fulcrum.envelope_costs t set cost_nano = t.cost_nano + d.delta
    from (select c.tenant_id, c.envelope_id, c.model, sum(p.delta) as delta
        from put p join charge c on c.tenant_id = p.tenant_id and c.reservation_id = p.reservation_id group by 1, 2, 3) d
    where t.tenant_id = d.tenant_id and t.envelope_id = d.envelope_id and t.model = d.model
)
update fulcrum.spend_rollups t set cost_nano = t.cost_nano + d.delta
from (select c.tenant_id, h.hour, c.workflow_id, c.team, c.agent_id, c.api_key_id, c.model, sum(p.delta) as delta
    from put p
    join charge c on c.tenant_id = p.tenant_id and c.reservation_id = p.reservation_id
    cross join lateral (
        select x.hour from fulcrum.spend_rollups x
        where x.tenant_id = c.tenant_id and x.hour <= c.created_at and x.hour > c.created_at - interval '1 hour' and x.workflow_id = c.workflow_id
          and x.team = c.team and x.agent_id = c.agent_id and x.api_key_id = c.api_key_id and x.model = c.model
        order by x.hour desc limit 1) h
    group by 1, 2, 3, 4, 5, 6, 7) d
where t.tenant_id = d.tenant_id and t.hour = d.hour and t.workflow_id = d.workflow_id and t.team = d.team
  and t.agent_id = d.agent_id and t.api_key_id = d.api_key_id and t.model = d.model;
alter table fulcrum.ledger_movements force row level security;
alter table fulcrum.settlements force row level security;
alter table fulcrum.reservations force row level security;
alter table fulcrum.charge_corrections force row level security;
alter table fulcrum.spend_rollups force row level security;
alter table fulcrum.envelope_costs force row level security;

-- +goose Down
-- What was put right stays right: the release before takes it for a re-rating.
comment on column fulcrum.charge_corrections.rerate_id is null;
comment on table fulcrum.charge_corrections is
    'owner: budget. What a charge costs after prices were changed: its settlement stays as it was, and the last correction counts. Append-only; the money moves by a transaction of kind correction.';
