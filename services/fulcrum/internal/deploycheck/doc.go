// Package deploycheck holds no code: its tests keep what operators are given
// (deploy/, docker-compose.yml, docs/runbook.md, docs/failure-modes.md) true to
// what the programs read, serve and promise.
package deploycheck
