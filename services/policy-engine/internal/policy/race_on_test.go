//go:build race

package policy_test

import "time"

// grace is how long d may take under the race detector.
func grace(d time.Duration) time.Duration { return 10 * d }
