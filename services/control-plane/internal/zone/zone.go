// Package zone knows the names of time zones, whatever machine it runs on.
package zone

import (
	"time"
	_ "time/tzdata" // the machine may have none
)

// Valid reports whether name is an IANA time zone such as Europe/Berlin. The
// empty name is: it leaves the choice to somebody else.
func Valid(name string) bool {
	if name == "Local" { // what the machine is set to is no answer
		return false
	}
	_, err := time.LoadLocation(name)
	return err == nil
}
