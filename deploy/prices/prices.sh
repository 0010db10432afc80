#!/usr/bin/env bash
# Fetches the pinned package that lists what models cost and writes the shipped
# price table from it; with --check, fails if the table is not what it gives.
set -euo pipefail
cd "$(dirname "$0")/../.."

wheels=$(mktemp -d)
trap 'rm -rf "$wheels"' EXIT
pip download --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary :all: --dest "$wheels" -r deploy/prices/requirements.txt
python3 deploy/prices/generate.py "$@" "$wheels"/*.whl services/budget/internal/price/shipped.csv
