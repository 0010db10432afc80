// Package ledger is the rule book of the budget ledger: what a hold, a charge
// or a release does to the windows of budgets. It decides in memory, on rows
// that a store has locked, and says what the store must write; it knows
// neither SQL nor gRPC.
package ledger
