//go:build !race

package policy_test

import "time"

// grace is how long d may take, with room for a crowded machine.
func grace(d time.Duration) time.Duration { return 2 * d }
