-- name: QueueWebhooks :exec
-- One message for each endpoint that wants the event; an event that comes again
-- makes none.
insert into fulcrum.webhook_deliveries (tenant_id, endpoint_id, event_id, type, body)
select i.tenant_id, e.id, i.event_id, i.type, i.body
from (select unnest(@tenant_ids::uuid[]) as tenant_id, unnest(@event_ids::uuid[]) as event_id,
             unnest(@types::text[]) as type, unnest(@bodies::bytea[]) as body) i
join fulcrum.webhook_endpoints e on e.tenant_id = i.tenant_id
where e.tenant_id = any(@tenants::uuid[]) and e.status = 'ACTIVE'
  and (cardinality(e.event_types) = 0 or i.type = any(e.event_types))
on conflict (tenant_id, endpoint_id, event_id) do nothing;

-- name: WebhookDueTenants :many
select fulcrum.webhook_due_tenants(@after::uuid, @lim::integer)::uuid as tenant_id;

-- name: WebhookStaleTenants :many
select fulcrum.webhook_stale_tenants(@after::uuid, @lim::integer)::uuid as tenant_id;

-- name: ClaimWebhooks :many
-- Takes what is due, from each endpoint not more than its share, and counts the
-- attempt: who dies in the middle has tried.
with due as (
    select d.tenant_id, d.endpoint_id, d.event_id
    from fulcrum.webhook_endpoints e
    cross join lateral (
        select w.tenant_id, w.endpoint_id, w.event_id, w.next_at
        from fulcrum.webhook_deliveries w
        where w.tenant_id = e.tenant_id and w.endpoint_id = e.id and w.state = 'PENDING' and w.next_at <= now()
          and (w.claimed_until is null or w.claimed_until <= now())
        order by w.next_at
        limit @each::integer
        for update skip locked
    ) d
    where e.tenant_id = @tenant_id and e.status = 'ACTIVE' and not e.id = any(@busy::uuid[])
    order by d.next_at
    limit @lim::integer
)
update fulcrum.webhook_deliveries w
set attempts = w.attempts + 1, attempted_at = now(), claimed_until = now() + make_interval(secs => @lease_seconds::double precision)
from due join fulcrum.webhook_endpoints e on e.tenant_id = due.tenant_id and e.id = due.endpoint_id
where w.tenant_id = @tenant_id and w.tenant_id = due.tenant_id and w.endpoint_id = due.endpoint_id and w.event_id = due.event_id
returning w.endpoint_id, w.event_id, w.type, w.body, w.attempts, w.created_at, e.url;

-- name: WebhookSecrets :many
-- The newest first.
select id, sealed, wrapped_data_key, kek_id
from fulcrum.webhook_secrets
where tenant_id = @tenant_id and endpoint_id = @endpoint_id and (expires_at is null or expires_at > now())
order by created_at desc, id desc;

-- name: EndWebhook :execrows
-- Says how an attempt went, unless somebody else has taken the message since.
update fulcrum.webhook_deliveries
set state = @state, status_code = @status_code, error = @error, claimed_until = null,
    next_at = now() + make_interval(secs => @wait_seconds::double precision)
where tenant_id = @tenant_id and endpoint_id = @endpoint_id and event_id = @event_id and state = 'PENDING' and attempts = @attempt::integer;

-- name: LockWebhook :one
select id, url, description, event_types, status, disabled_reason, failures, failing_since, last_error, last_attempt_at, last_success_at,
       created_by, created_at, updated_at, now()::timestamptz as at
from fulcrum.webhook_endpoints
where tenant_id = @tenant_id and id = @id
for no key update;

-- name: NoteWebhookAttempt :exec
update fulcrum.webhook_endpoints
set status = @status, disabled_reason = @disabled_reason, failures = @failures, failing_since = sqlc.narg('failing_since'),
    last_error = @last_error, last_attempt_at = now(), last_success_at = case when @succeeded::boolean then now() else last_success_at end
where tenant_id = @tenant_id and id = @id;

-- name: FailPendingWebhooks :execrows
update fulcrum.webhook_deliveries
set state = 'FAILED', error = @error, claimed_until = null
where tenant_id = @tenant_id and endpoint_id = @endpoint_id and state = 'PENDING';

-- name: InsertWebhook :exec
insert into fulcrum.webhook_endpoints (tenant_id, id, url, description, event_types, created_by)
values (@tenant_id, @id, @url, @description, @event_types, @created_by);

-- name: InsertWebhookSecret :exec
insert into fulcrum.webhook_secrets (tenant_id, endpoint_id, id, sealed, wrapped_data_key, kek_id)
values (@tenant_id, @endpoint_id, @id, @sealed, @wrapped_data_key, @kek_id);

-- name: RetireWebhookSecrets :one
-- Lets what signs now sign until its time is over, and returns when that is.
update fulcrum.webhook_secrets
set expires_at = now() + make_interval(secs => @overlap_seconds::double precision)
where tenant_id = @tenant_id and endpoint_id = @endpoint_id and expires_at is null
returning expires_at::timestamptz as expires_at;

-- name: DropRetiredWebhookSecrets :exec
-- Of the retired ones only the newest keeps signing.
delete from fulcrum.webhook_secrets s
where s.tenant_id = @tenant_id and s.endpoint_id = @endpoint_id and s.expires_at is not null
  and (s.expires_at <= now() or s.id <> (
      select n.id from fulcrum.webhook_secrets n
      where n.tenant_id = @tenant_id and n.endpoint_id = @endpoint_id and n.expires_at is not null
      order by n.created_at desc, n.id desc limit 1));

-- name: LockWebhooks :exec
-- One change of a tenant's endpoints at a time.
select pg_advisory_xact_lock(hashtextextended('fulcrum.webhook_endpoints ' || @tenant::text, 0));

-- name: CountWebhooks :one
select count(*) from fulcrum.webhook_endpoints where tenant_id = @tenant_id;

-- name: Webhooks :many
select e.id, e.url, e.description, e.event_types, e.status, e.disabled_reason, e.failures, e.failing_since, e.last_error, e.last_attempt_at,
       e.last_success_at, e.created_by, e.created_at, e.updated_at,
       (select count(*) from fulcrum.webhook_deliveries d
        where d.tenant_id = e.tenant_id and d.endpoint_id = e.id and d.state = 'PENDING') as pending
from fulcrum.webhook_endpoints e
where e.tenant_id = @tenant_id
order by e.created_at desc, e.id desc;

-- name: Webhook :one
select e.id, e.url, e.description, e.event_types, e.status, e.disabled_reason, e.failures, e.failing_since, e.last_error, e.last_attempt_at,
       e.last_success_at, e.created_by, e.created_at, e.updated_at,
       (select count(*) from fulcrum.webhook_deliveries d
        where d.tenant_id = e.tenant_id and d.endpoint_id = e.id and d.state = 'PENDING') as pending
from fulcrum.webhook_endpoints e
where e.tenant_id = @tenant_id and e.id = @id;

-- name: UpdateWebhook :exec
update fulcrum.webhook_endpoints
set url = @url, description = @description, event_types = @event_types, status = @status, disabled_reason = @disabled_reason,
    failures = @failures, failing_since = sqlc.narg('failing_since'), last_error = @last_error, updated_at = now()
where tenant_id = @tenant_id and id = @id;

-- name: DeleteWebhook :execrows
delete from fulcrum.webhook_endpoints where tenant_id = @tenant_id and id = @id;

-- name: WebhookDeliveries :many
select event_id, type, state, attempts, status_code, error, created_at, attempted_at, next_at
from fulcrum.webhook_deliveries
where tenant_id = @tenant_id and endpoint_id = @endpoint_id and (created_at, event_id) < (@before_at::timestamptz, @before_id::uuid)
order by created_at desc, event_id desc
limit @lim::integer;

-- name: ForgetWebhooks :execrows
delete from fulcrum.webhook_deliveries
where tenant_id = @tenant_id and state <> 'PENDING' and created_at < now() - interval '7 days';

-- name: WebhookRewrapTenants :many
select fulcrum.webhook_rewrap_tenants(@kek::text, @after::uuid, @lim::integer)::uuid as tenant_id;

-- name: SecretsToRewrap :many
select endpoint_id, id, sealed, wrapped_data_key, kek_id
from fulcrum.webhook_secrets
where tenant_id = @tenant_id and kek_id <> @kek::text
for update;

-- name: RewrapWebhookSecret :exec
update fulcrum.webhook_secrets
set wrapped_data_key = @wrapped_data_key, kek_id = @kek_id
where tenant_id = @tenant_id and id = @id;
