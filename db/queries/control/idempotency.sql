-- name: ClaimKey :execrows
-- 1: the key is new and ours to answer. 0: it was used before; a claim in
-- flight elsewhere is waited for.
insert into fulcrum.control_idempotency (tenant_id, key, request_hash)
values (@tenant_id, @key, @request_hash)
on conflict (tenant_id, key) do nothing;

-- name: AnswerKey :exec
update fulcrum.control_idempotency
set response = @response
where tenant_id = @tenant_id and key = @key;

-- name: KeyAnswer :one
select request_hash, response
from fulcrum.control_idempotency
where tenant_id = @tenant_id and key = @key
  and (created_at > now() - interval '7 days' or starts_with(key, 'create tenant '));

-- name: ForgetKeys :exec
-- What made the tenant itself is never forgotten.
delete from fulcrum.control_idempotency
where tenant_id = @tenant_id and created_at <= now() - interval '7 days' and not starts_with(key, 'create tenant ');
