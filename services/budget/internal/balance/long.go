package balance

import "os"

// Long is short, or full if the long form of the tests was asked for (make
// chaos). What must hold is the same.
func Long[T any](short, full T) T {
	if os.Getenv("FULCRUM_TEST_FULL") != "" {
		return full
	}
	return short
}
