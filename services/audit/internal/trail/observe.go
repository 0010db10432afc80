package trail

import "time"

// Observer is told what operators want to know.
type Observer interface {
	// Appended is told how many entries a commit added, and how long ago the
	// oldest of them happened.
	Appended(entries int, lag time.Duration)
	// Unsigned is told how many tenants have entries no checkpoint covers.
	Unsigned(tenants int)
	// Refused is told that a log contradicts itself and was not signed.
	Refused()
}
