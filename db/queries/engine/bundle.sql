-- name: PolicyBundle :one
select version, content
from fulcrum.config_bundles
where tenant_id = @tenant_id and kind = 'policies';

-- name: PolicyBundleVersion :one
select version
from fulcrum.config_bundles
where tenant_id = @tenant_id and kind = 'policies';
