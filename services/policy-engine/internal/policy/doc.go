// Package policy turns a tenant's published policies into an immutable Set and
// judges facts by it. It knows neither gRPC nor SQL, reads no clock but to time
// itself, and never answers ALLOW because something went wrong, unless the
// tenant asked for that.
//
// Structured rules of all policies of a tenant become one table, and what a table
// does not compare one Rego module: OPA indexes rules within a module. Rego
// policies are compiled each by itself, because their authors must not see or slow
// one another.
package policy
