#!/usr/bin/env bash
# Runs every fuzz target of the workspace for the given time. Making inputs
# smaller that are only new is left out: it takes all the time there is.
set -euo pipefail
cd "$(dirname "$0")/../.."

grep -rlE '^func Fuzz' --include='*_test.go' . | while read -r file; do
  dir=$(dirname "$file")
  grep -oE '^func Fuzz[A-Za-z0-9_]+' "$file" | awk '{print $2}' | while read -r target; do
    echo "== $dir $target ($1)"
    go test "$dir" -run '^$' -fuzz "^$target\$" -fuzztime "$1" -fuzzminimizetime 1x
  done
done
