package upkeep

import "runtime/debug"

// ownPace is when this process collects its garbage: at four times what is
// alive. What the ledger keeps in memory is small beside what passes through it,
// and at Go's own pace, at twice, a third of its time went into looking at it.
const ownPace = 300

// PaceCollector trades memory for time, unless the operator has set another pace
// (GOGC).
func PaceCollector() {
	if was := debug.SetGCPercent(ownPace); was != 100 {
		debug.SetGCPercent(was)
	}
}
