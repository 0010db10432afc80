// Package collector sets how often the garbage collector runs in the engine.
package collector

import (
	"runtime/debug"
	"sync"
)

// percent is how much garbage may grow in relation to what is in use. A
// collection walks through the compiled policies of all tenants and takes the
// cores meanwhile, for some ten milliseconds with 500 tenants; what it frees was
// left behind by decisions, 6 KB by each. At Go's default of 100 that was a
// fortieth of all time at 5,000 decisions a second, which is the 99th percentile;
// at 400 it is less than a hundredth. An instance with few tenants has a ballast
// besides.
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
