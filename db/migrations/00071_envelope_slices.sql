-- +goose Up
create table fulcrum.envelope_slices (
    tenant_id    uuid        not null,
    envelope_id  uuid        not null,
    request_hash bytea       not null,
    behind       text[]      not null,
    vias         text[]      not null,
    created_at   timestamptz not null,
    returned_at  timestamptz,
    returned     bigint[]    not null default '{}',
    primary key (tenant_id, envelope_id),
    check (length(request_hash) = 32 and cardinality(behind) = cardinality(vias))
);
comment on table fulcrum.envelope_slices is 'owner: budget. Envelopes whose limits are a slice of what the envelopes above them have. What is left of a slice is the limit less what is spent in its budget window, and is held in the windows behind it; once it is returned, no more than what the envelope still holds.';
comment on column fulcrum.envelope_slices.behind is 'budget ids of the envelopes above, nearest first';
comment on column fulcrum.envelope_slices.vias is 'for each of them the slice through which it stands behind: this envelope''s or one above';
comment on column fulcrum.envelope_slices.returned_at is 'the envelope has ended; its window is suspended from then on';
comment on column fulcrum.envelope_slices.returned is 'what went back then, by unit in the order of the columns of budget_windows';
select fulcrum.protect_list('fulcrum.envelope_slices');
grant select, insert, update (returned_at, returned) on fulcrum.envelope_slices to fulcrum_app;

alter table fulcrum.reservation_parts add column via text collate "C" not null default '';
comment on column fulcrum.reservation_parts.via is 'empty: the reservation holds here; else nothing is held here for it alone: this window stands behind the slice of that name, and is charged what the reservation is charged';

-- +goose Down
alter table fulcrum.reservation_parts drop column via;
drop table fulcrum.envelope_slices;
