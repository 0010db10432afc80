-- +goose Up
-- A histogram in two dimensions: calls of like input and like output share a
-- row, so that a charge touches one row however wide the distribution is.
create table fulcrum.call_sizes (
    tenant_id      uuid     not null,
    workflow_id    text     collate "C" not null,
    model          text     collate "C" not null,
    day            date     not null,
    input_bucket   smallint not null,
    output_bucket  smallint not null,
    calls          bigint   not null,
    input_tokens   bigint   not null,
    output_tokens  bigint   not null,
    cost_nano      bigint   not null,
    seconds        bigint   not null,
    primary key (tenant_id, workflow_id, model, day, input_bucket, output_bucket),
    check (calls > 0 and least(input_tokens, output_tokens, cost_nano, seconds) >= 0)
) with (fillfactor = 70);
comment on table fulcrum.call_sizes is 'owner: budget. How large the model calls of a workflow were, by UTC day; kept in the transaction of each charge whose usage was reported. Cost predictions learn from it.';
comment on column fulcrum.call_sizes.input_bucket is 'twice the binary logarithm of the tokens of one call, rounded up; -1 for none';
select fulcrum.protect_list('fulcrum.call_sizes');
grant select, insert, update on fulcrum.call_sizes to fulcrum_app;

-- +goose Down
drop table fulcrum.call_sizes;
