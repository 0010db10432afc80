-- +goose Up
-- A batch of fifty is longer than what PostgreSQL tries to compress, and trying
-- was a fifth of what its row cost, and more than half with 256. The price is 16
-- bytes a transaction. Partitions to come take this over.
alter table fulcrum.ledger_batches
    alter column transaction_ids set storage external,
    alter column reservation_ids set storage external;

-- +goose Down
alter table fulcrum.ledger_batches
    alter column transaction_ids set storage extended,
    alter column reservation_ids set storage extended;
