-- +goose Up
-- A check is kept as text, and read and planned anew by every statement that
-- writes: this one was a quarter of what the postings of a single hold cost. It
-- says the same in half as many words.
alter table fulcrum.ledger_postings
    drop constraint ledger_postings_sane,
    add constraint ledger_postings_sane check (cardinality(refs) > 0 and cardinality(lines) = cardinality(refs) and cardinality(moves) = cardinality(refs)
        and 12 <= all (moves) and 61 >= all (moves)
        and array[0, cardinality(refs)] @> array[cardinality(cost_nano), cardinality(total_tokens), cardinality(input_tokens), cardinality(output_tokens),
            cardinality(llm_calls), cardinality(tool_calls), cardinality(seconds)]
        and 0 <= all (cost_nano) and 0 <= all (total_tokens) and 0 <= all (input_tokens) and 0 <= all (output_tokens)
        and 0 <= all (llm_calls) and 0 <= all (tool_calls) and 0 <= all (seconds));

-- +goose Down
alter table fulcrum.ledger_postings
    drop constraint ledger_postings_sane,
    add constraint ledger_postings_sane check (cardinality(refs) > 0 and cardinality(lines) = cardinality(refs) and cardinality(moves) = cardinality(refs)
        and 12 <= all (moves) and 61 >= all (moves)
        and cardinality(cost_nano) in (0, cardinality(refs)) and cardinality(total_tokens) in (0, cardinality(refs))
        and cardinality(input_tokens) in (0, cardinality(refs)) and cardinality(output_tokens) in (0, cardinality(refs))
        and cardinality(llm_calls) in (0, cardinality(refs)) and cardinality(tool_calls) in (0, cardinality(refs)) and cardinality(seconds) in (0, cardinality(refs))
        and 0 <= all (cost_nano) and 0 <= all (total_tokens) and 0 <= all (input_tokens) and 0 <= all (output_tokens)
        and 0 <= all (llm_calls) and 0 <= all (tool_calls) and 0 <= all (seconds));
