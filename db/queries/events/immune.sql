-- name: Detectors :many
-- What the tenant has set.
select name, enabled, threshold, window_seconds, updated_at, updated_by
from fulcrum.immune_detectors
where tenant_id = @tenant_id;

-- name: SetDetector :exec
insert into fulcrum.immune_detectors as d (tenant_id, name, enabled, threshold, window_seconds, updated_by)
values (@tenant_id, @name, @enabled, @threshold, @window_seconds, @updated_by)
on conflict (tenant_id, name) do update
set enabled = excluded.enabled, threshold = excluded.threshold, window_seconds = excluded.window_seconds,
    updated_at = now(), updated_by = excluded.updated_by
where d.tenant_id = @tenant_id;

-- name: AddToWindows :many
-- Takes the row locks in one order for all, so that batches never wait for each
-- other in a circle.
insert into fulcrum.immune_windows as w (tenant_id, detector, pattern_id, window_start, amount)
select @tenant_id, s.detector, s.pattern_id, s.window_start, s.amount
from (select unnest(@detectors::text[]) as detector, unnest(@pattern_ids::uuid[]) as pattern_id,
             unnest(@window_starts::timestamptz[]) as window_start, unnest(@amounts::bigint[]) as amount) s
order by s.detector, s.pattern_id, s.window_start
on conflict (tenant_id, detector, pattern_id, window_start) do update
set amount = w.amount + excluded.amount
where w.tenant_id = @tenant_id
returning w.detector, w.pattern_id, w.window_start, w.amount;

-- name: ForgetWindows :exec
delete from fulcrum.immune_windows w
where w.tenant_id = @tenant_id and w.window_start < now() - interval '2 days';

-- name: SeePattern :exec
insert into fulcrum.attack_patterns as p (tenant_id, id, signature, indicators, frequency, first_seen, last_seen)
values (@tenant_id, @id, @signature, @indicators::text[], 1, @seen_at, @seen_at)
on conflict (tenant_id, id) do update
set frequency = p.frequency + 1, last_seen = greatest(p.last_seen, excluded.last_seen), first_seen = least(p.first_seen, excluded.first_seen)
where p.tenant_id = @tenant_id;

-- name: IncidentOpen :one
-- Whether a detector has opened an incident for the pattern and window already.
select exists (
    select from fulcrum.incidents
    where tenant_id = @tenant_id and pattern_id = @pattern_id and window_start = @window_start::timestamptz);

-- name: OpenIncident :exec
insert into fulcrum.incidents (tenant_id, id, pattern_id, detector, window_start, severity, category, description, details, reported_by, body_hash, occurred_at)
values (@tenant_id, @id, @pattern_id, @detector, sqlc.narg('window_start'), @severity, @category, @description, @details, @reported_by, @body_hash, @occurred_at);

-- name: ReportedHash :one
select body_hash from fulcrum.incidents
where tenant_id = @tenant_id and id = @id;

-- name: ProposePolicy :execrows
-- Nothing is proposed twice while somebody is thinking about it, nor within a
-- day of the last proposal for the same pattern.
insert into fulcrum.generated_policies (tenant_id, id, pattern_id, incident_id, policy, reasoning, agent_id, api_key_id, user_id)
select @tenant_id, @id, @pattern_id, @incident_id, @policy, @reasoning, @agent_id, @api_key_id, @user_id
where not exists (
    select from fulcrum.generated_policies g
    where g.tenant_id = @tenant_id and g.pattern_id = @pattern_id
      and (g.state in ('PENDING', 'APPROVING', 'MODIFYING') or g.generated_at > now() - interval '1 day'))
on conflict (tenant_id, pattern_id) where state in ('PENDING', 'APPROVING', 'MODIFYING') do nothing;

-- name: Incidents :many
select id, pattern_id, detector, severity, category, description, details, occurred_at, created_at
from fulcrum.incidents
where tenant_id = @tenant_id and (created_at, id) < (@before_at::timestamptz, @before_id::uuid)
order by created_at desc, id desc
limit @lim::integer;

-- name: AttackPatterns :many
select id, signature, indicators, frequency, first_seen, last_seen
from fulcrum.attack_patterns
where tenant_id = @tenant_id and (last_seen, id) < (@before_at::timestamptz, @before_id::uuid)
order by last_seen desc, id desc
limit @lim::integer;

-- name: PendingPolicies :many
select id, pattern_id, policy, reasoning, generated_at
from fulcrum.generated_policies
where tenant_id = @tenant_id and state = 'PENDING' and (generated_at, id) < (@before_at::timestamptz, @before_id::uuid)
order by generated_at desc, id desc
limit @lim::integer;

-- name: LockGenerated :one
select id, pattern_id, policy, reasoning, agent_id, api_key_id, user_id, state, policy_id
from fulcrum.generated_policies
where tenant_id = @tenant_id and id = @id
for update;

-- name: MoveGenerated :execrows
update fulcrum.generated_policies
set state = @state, reviewer = @reviewer, review_note = @review_note, policy_id = sqlc.narg('policy_id'), reviewed_at = now()
where tenant_id = @tenant_id and id = @id and state = @was::text;

-- name: LockReport :exec
-- One report under one idempotency key at a time.
select pg_advisory_xact_lock(hashtextextended('fulcrum.incidents ' || @report::text, 0));

-- name: LockDetectors :exec
select pg_advisory_xact_lock(hashtextextended('fulcrum.immune_detectors ' || @tenant::text, 0));
