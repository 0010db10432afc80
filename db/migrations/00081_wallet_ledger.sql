-- +goose Up
-- A wallet is one more window of the ledger, of mode 4: its cost limit is the
-- credit put in, and counts when it is 0, too.
alter table fulcrum.budget_windows
    drop constraint budget_windows_sane,
    drop constraint budget_windows_within,
    add constraint budget_windows_sane check (
        length(budget_id) between 1 and 128 and window_start < window_end and config_version >= 0 and mode in (1, 2, 3, 4) and reached_bp >= 0
        and least(cost_nano_limit, cost_nano_held, cost_nano_spent, cost_nano_over, total_tokens_limit, total_tokens_held, total_tokens_spent, total_tokens_over, input_tokens_limit, input_tokens_held, input_tokens_spent, input_tokens_over, output_tokens_limit, output_tokens_held, output_tokens_spent, output_tokens_over, llm_calls_limit, llm_calls_held, llm_calls_spent, llm_calls_over, tool_calls_limit, tool_calls_held, tool_calls_spent, tool_calls_over, seconds_limit, seconds_held, seconds_spent, seconds_over) >= 0),
    add constraint budget_windows_within check (
        (cost_nano_limit = 0 and mode <> 4 or cost_nano_spent + cost_nano_held <= cost_nano_limit + cost_nano_over)
        and (total_tokens_limit = 0 or total_tokens_spent + total_tokens_held <= total_tokens_limit + total_tokens_over)
        and (input_tokens_limit = 0 or input_tokens_spent + input_tokens_held <= input_tokens_limit + input_tokens_over)
        and (output_tokens_limit = 0 or output_tokens_spent + output_tokens_held <= output_tokens_limit + output_tokens_over)
        and (llm_calls_limit = 0 or llm_calls_spent + llm_calls_held <= llm_calls_limit + llm_calls_over)
        and (tool_calls_limit = 0 or tool_calls_spent + tool_calls_held <= tool_calls_limit + tool_calls_over)
        and (seconds_limit = 0 or seconds_spent + seconds_held <= seconds_limit + seconds_over));
comment on column fulcrum.budget_windows.budget_id is 'the budget''s id; envelope:<id> for the limits an envelope carries; wallet:<id> for a wallet; suspense for charges that no budget covers';
comment on column fulcrum.budget_windows.mode is 'fulcrum.cost.v1.BudgetMode: 1 hard, 2 soft, 3 throttle; 4 prepaid: a wallet';
comment on column fulcrum.budget_windows.reached_bp is 'furthest threshold announced in this window: in hundredths of a percent, of a wallet 2^31-1 less its low balance in cents';

alter table fulcrum.ledger_transactions
    drop constraint ledger_transactions_check,
    add constraint ledger_transactions_check check (
        kind in ('hold', 'settle', 'release', 'expire', 'charge', 'limits', 'carry', 'topup', 'refund', 'adjust', 'correction')
        and (kind in ('limits', 'carry', 'topup', 'refund', 'adjust', 'correction') or reservation_id is not null));
alter table fulcrum.ledger_entries
    drop constraint ledger_entries_check,
    add constraint ledger_entries_check check (from_account <> to_account
        and from_account in ('available', 'held', 'spent', 'overage', 'suspense', 'external')
        and to_account in ('available', 'held', 'spent', 'overage', 'suspense', 'external')
        and least(cost_nano, total_tokens, input_tokens, output_tokens, llm_calls, tool_calls, seconds) >= 0);

create table fulcrum.ledger_movements (
    tenant_id        uuid        not null,
    idempotency_key  text        collate "C" not null,
    id               uuid        not null,
    request_hash     bytea       not null,
    kind             text        not null,
    budget_id        text        collate "C" not null,
    reservation_id   uuid,
    cost_nano        bigint      not null,
    balance_nano     bigint      not null,
    reference        text        not null default '',
    reason           text        not null default '',
    actor            text        not null,
    occurred_at      timestamptz not null,
    primary key (tenant_id, idempotency_key),
    check (kind in ('topup', 'refund', 'adjust', 'correction') and length(request_hash) = 32 and cost_nano <> 0
        and (kind <> 'topup' or cost_nano > 0) and (kind <> 'refund' or cost_nano < 0) and (kind = 'topup' or reason <> ''))
);
comment on table fulcrum.ledger_movements is 'owner: budget. What somebody did to an account by hand, once for each idempotency key. Append-only.';
comment on column fulcrum.ledger_movements.id is 'of the ledger transaction';
comment on column fulcrum.ledger_movements.budget_id is 'empty for a correction of a reservation: it is in every account the reservation was charged to';
comment on column fulcrum.ledger_movements.cost_nano is 'added to the credit; of a correction, added to what was spent';
comment on column fulcrum.ledger_movements.balance_nano is 'of a wallet after it: credit less what is spent';
create index ledger_movements_by_account on fulcrum.ledger_movements (tenant_id, budget_id, occurred_at);
select fulcrum.protect_list('fulcrum.ledger_movements');
grant select, insert on fulcrum.ledger_movements to fulcrum_app;

-- +goose Down
drop table fulcrum.ledger_movements;
-- The owner of the tables sees no row of them while row level security is forced.
alter table fulcrum.budget_windows no force row level security;
alter table fulcrum.reservation_parts no force row level security;
alter table fulcrum.ledger_entries no force row level security;
alter table fulcrum.ledger_transactions no force row level security;
delete from fulcrum.ledger_entries where from_account = 'external' or to_account = 'external' or budget_id like 'wallet:%';
update fulcrum.ledger_entries set budget_id = '' where budget_id = 'suspense';
delete from fulcrum.ledger_transactions where kind in ('topup', 'refund', 'adjust');
delete from fulcrum.ledger_transactions t where t.kind = 'correction' and t.reservation_id is null
    and not exists (select from fulcrum.ledger_entries e where e.tenant_id = t.tenant_id and e.transaction_id = t.id);
-- What was corrected in a budget alone is usage that came from elsewhere.
update fulcrum.ledger_transactions set kind = 'carry' where kind = 'correction' and reservation_id is null;
delete from fulcrum.reservation_parts where budget_id = 'suspense' or budget_id like 'wallet:%';
delete from fulcrum.budget_windows where mode = 4 or budget_id = 'suspense';
alter table fulcrum.budget_windows force row level security;
alter table fulcrum.reservation_parts force row level security;
alter table fulcrum.ledger_entries force row level security;
alter table fulcrum.ledger_transactions force row level security;
alter table fulcrum.ledger_entries
    drop constraint ledger_entries_check,
    add constraint ledger_entries_check check (from_account <> to_account
        and from_account in ('available', 'held', 'spent', 'overage', 'suspense')
        and to_account in ('available', 'held', 'spent', 'overage', 'suspense')
        and least(cost_nano, total_tokens, input_tokens, output_tokens, llm_calls, tool_calls, seconds) >= 0);
alter table fulcrum.ledger_transactions
    drop constraint ledger_transactions_check,
    add constraint ledger_transactions_check check (kind in ('hold', 'settle', 'correction', 'release', 'expire', 'charge', 'limits', 'carry') and (kind in ('limits', 'carry') or reservation_id is not null));
comment on column fulcrum.budget_windows.budget_id is 'the budget''s id, or envelope:<id> for the limits an envelope carries';
comment on column fulcrum.budget_windows.mode is 'fulcrum.cost.v1.BudgetMode: 1 hard, 2 soft, 3 throttle';
comment on column fulcrum.budget_windows.reached_bp is 'highest threshold announced in this window, in hundredths of a percent';
alter table fulcrum.budget_windows
    drop constraint budget_windows_sane,
    drop constraint budget_windows_within,
    add constraint budget_windows_sane check (
        length(budget_id) between 1 and 128 and window_start < window_end and config_version >= 0 and mode in (1, 2, 3) and reached_bp >= 0
        and least(cost_nano_limit, cost_nano_held, cost_nano_spent, cost_nano_over, total_tokens_limit, total_tokens_held, total_tokens_spent, total_tokens_over, input_tokens_limit, input_tokens_held, input_tokens_spent, input_tokens_over, output_tokens_limit, output_tokens_held, output_tokens_spent, output_tokens_over, llm_calls_limit, llm_calls_held, llm_calls_spent, llm_calls_over, tool_calls_limit, tool_calls_held, tool_calls_spent, tool_calls_over, seconds_limit, seconds_held, seconds_spent, seconds_over) >= 0),
    add constraint budget_windows_within check (
        (cost_nano_limit = 0 or cost_nano_spent + cost_nano_held <= cost_nano_limit + cost_nano_over)
        and (total_tokens_limit = 0 or total_tokens_spent + total_tokens_held <= total_tokens_limit + total_tokens_over)
        and (input_tokens_limit = 0 or input_tokens_spent + input_tokens_held <= input_tokens_limit + input_tokens_over)
        and (output_tokens_limit = 0 or output_tokens_spent + output_tokens_held <= output_tokens_limit + output_tokens_over)
        and (llm_calls_limit = 0 or llm_calls_spent + llm_calls_held <= llm_calls_limit + llm_calls_over)
        and (tool_calls_limit = 0 or tool_calls_spent + tool_calls_held <= tool_calls_limit + tool_calls_over)
        and (seconds_limit = 0 or seconds_spent + seconds_held <= seconds_limit + seconds_over));
