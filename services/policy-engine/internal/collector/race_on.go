//go:build race

package collector

// The race detector touches memory that is only set aside, four times over.
const ballast = 0
