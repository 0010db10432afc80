// Package collector sets how often the garbage collector runs in the engine.
package collector

import (
	"runtime/debug"
	"sync"
)

// percent is how much garbage may grow in relation to what is in use. A
// collection walks through the policies of all tenants and takes the cores
// meanwhile; what it frees was left behind by decisions, 4 KB by each and 20 KB
// with its call. A share of a hundredth of all time is the 99th percentile. An
// instance with few tenants has a ballast besides.
const percent = 400

// hold returns the ballast, which stays where it is.
var hold = sync.OnceValue(func() []byte { return make([]byte, ballast) })

// Relax lets more garbage gather than Go's default, unless GOGC says otherwise.
// GOMEMLIMIT bounds it, as ever. It is for the whole process.
func Relax(getenv func(string) string) {
	if getenv("GOGC") == "" {
		if debug.SetMemoryLimit(-1) > 8*ballast { // which counts it
			hold()
		}
		debug.SetGCPercent(percent)
	}
}
