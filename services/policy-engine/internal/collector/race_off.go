//go:build !race

package collector

// ballast counts as in use and is never touched, so it takes no memory: it keeps
// a process with few tenants from collecting all the time when one of them has
// policies that leave much garbage. A collection comes at 320 MiB at the earliest.
const ballast = 64 << 20 // bytes
