package db_test

import (
	"fmt"

	"github.com/google/uuid"
)

// seeds gives values, as SQL, for columns of tables whose rows cannot be guessed
// from types and constraints. Add a case when the matrix says so; n is 1 or 2,
// and rows with different n must not collide.
func seeds(table string, tenant uuid.UUID, n int) map[string]string {
	switch table {
	case "fulcrum.envelopes": // a root is its own root
		return map[string]string{"id": id(table, tenant, n), "root_id": id(table, tenant, n)}
	case "fulcrum.budget_windows":
		return map[string]string{"budget_id": fmt.Sprintf("'budget-%d'", n), "window_start": "'2026-01-01'", "window_end": "'2026-02-01'", "config_version": "1", "mode": "1"}
	case "fulcrum.reservations":
		return map[string]string{"id": id(table, tenant, n), "request_hash": "sha256('')", "created_at": "'2026-01-01'", "expires_at": "'2026-01-02'",
			"cost_nano": "1", "posted": "false", "budget_ids": "array['b']", "window_starts": "array['2026-01-01'::timestamptz]"}
	case "fulcrum.ledger_batches":
		return map[string]string{"transaction_ids": "array[" + id(table, tenant, n) + "]", "kinds": "array['hold']", "reservation_ids": "array[" + id(table, tenant, n) + "]"}
	case "fulcrum.ledger_postings":
		return map[string]string{
			"refs": "'{1}'", "lines": "'{0}'", "moves": "'{12}'", "cost_nano": fmt.Sprintf("'{%d}'", n), "total_tokens": "'{}'",
			"input_tokens": "'{}'", "output_tokens": "'{}'", "llm_calls": "'{}'", "tool_calls": "'{}'", "seconds": "'{}'",
		}
	}
	return nil
}

// id is a UUID that only this row has.
func id(table string, tenant uuid.UUID, n int) string {
	return literal(uuid.NewSHA1(tenant, fmt.Append(nil, table, n)).String(), "uuid")
}

// definers are the SECURITY DEFINER functions that the app may call: they see
// past the policies, so each says here why a tenant learns nothing of another.
var definers = map[string]string{
	"fulcrum.find_api_key":             "the credential itself is the question, before a tenant is known; the answer is only of its own tenant",
	"fulcrum.budget_bundle_versions":   "answers for the tenants of the transaction only, FT001 without",
	"fulcrum.ledger_guard":             "compares versions of the transaction's own tenants only, FT001 without; returns the time",
	"metrics.ensure_days":              "DDL only; returns a count of partitions",
	"metrics.ingest_costs":             "refuses rows of tenants that the transaction does not name",
	"metrics.ingest_counters":          "refuses rows of tenants that the transaction does not name",
	"metrics.ingest_executions":        "refuses rows of tenants that the transaction does not name",
	"metrics.ingest_decisions":         "refuses rows of tenants that the transaction does not name",
	"fulcrum.ensure_partitions":        "DDL only; returns a count of partitions",
	"fulcrum.ensure_ledger_partitions": "DDL only; returns a count of partitions",
	"fulcrum.create_tenant":            "administration: control-plane calls it for the platform administrator only",
	"fulcrum.list_tenants":             "administration: control-plane calls it for the platform administrator only",
	"fulcrum.tenant":                   "administration: one tenant by id, called with the caller's own or by the administrator",
	"fulcrum.tenant_settings":          "administration: one tenant by id, called with the caller's own or by the administrator",
	"fulcrum.update_tenant_settings":   "administration: one tenant by id, called with the caller's own or by the administrator",
	"fulcrum.set_tenant_status":        "administration: control-plane calls it for the platform administrator only",
}
