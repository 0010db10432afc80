// Package sandbox compiles and runs Rego on OPA so that what a tenant writes
// can neither leave the process, nor outlive its deadline, nor eat the heap.
//
// What it relies on, outermost first: an allow-list of built-in functions, caps
// on the text, a static bound on the size of values, guards around every
// built-in that walks or grows its operands, and a deadline read between
// expressions. It knows nothing of policies, tenants or decisions.
package sandbox
