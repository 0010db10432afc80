-- +goose Up
-- What was held in a span of time. The rows of a batch have the same moment, which
-- the index keeps once. It reads the table, and nobody holds meanwhile: a gigabyte
-- takes a second or two.
create index reservations_period on fulcrum.reservations (tenant_id, created_at) where not posted;

-- +goose Down
drop index fulcrum.reservations_period;
