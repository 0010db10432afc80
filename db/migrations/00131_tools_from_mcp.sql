-- +goose Up
alter table fulcrum.tools
    add column source      text not null default '' check (length(source) <= 128),
    add column annotations text not null default '' check (octet_length(annotations) <= 8192),
    add column digest      text not null default '';
comment on column fulcrum.tools.source is 'the MCP server it was learned from; empty: registered by hand';
comment on column fulcrum.tools.digest is 'SHA-256 of the whole definition that was confirmed; empty: registered by hand';

-- +goose Down
alter table fulcrum.tools drop column digest, drop column annotations, drop column source;
