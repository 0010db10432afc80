#!/usr/bin/env bash
# Fails if committed generated code differs from what the sources give.
# Regenerates into a copy, so a stale tree is reported, not silently repaired.
set -euo pipefail
cd "$(dirname "$0")/../.."

copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
cp -r proto "$copy/proto"
(cd "$copy/proto" && buf lint && buf generate)
if ! diff -r -q proto/gen "$copy/proto/gen"; then
  echo "proto/gen is stale; run: make generate" >&2
  exit 1
fi
sqlc diff -f db/sqlc.yaml || { echo "sqlc output is stale; run: make sqlc" >&2; exit 1; }
