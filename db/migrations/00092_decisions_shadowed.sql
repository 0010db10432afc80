-- +goose Up
-- Decisions that a shadow judged too are few and looked for by their time.
alter table fulcrum.decisions add column shadowed boolean not null default false;
comment on column fulcrum.decisions.shadowed is 'a policy in shadow judged it too: what it said is in result, and policy_ids has shadow:<policy id>';
create index decisions_shadowed on fulcrum.decisions (tenant_id, decided_at desc, id desc) where shadowed;

-- +goose Down
drop index fulcrum.decisions_shadowed;
alter table fulcrum.decisions drop column shadowed;
