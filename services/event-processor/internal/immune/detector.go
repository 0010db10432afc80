// Package immune watches the stream of events for what agents should not do:
// plain rules that count, without a model. What they find is an incident, and a
// draft of a policy for a person to review. Nothing here is on the path of a
// decision, and nothing here ever changes what is in force.
package immune

import (
	"fmt"
	"time"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
)

// Name is a detector's.
type Name string

// The detectors.
const (
	Loop         Name = "loop"
	CostVelocity Name = "cost_velocity"
	BulkRead     Name = "bulk_read"
	Privilege    Name = "privilege"
)

// Detector is one rule: an incident is opened when a window's amount reaches
// the threshold. Windows do not overlap; they start at multiples of their length
// since 1970, so every instance means the same ones.
type Detector struct {
	Name      Name
	About     string // what it counts, for people
	Enabled   bool
	Threshold int64 // of CostVelocity nano-USD
	Window    time.Duration
	UpdatedAt time.Time // zero: as shipped
	UpdatedBy string
}

// shipped are the detectors as they are until a tenant sets them.
var shipped = []Detector{
	{Name: Loop, About: "the same action with the same arguments, asked for by one agent", Enabled: true, Threshold: 50, Window: time.Minute},
	{Name: CostVelocity, About: "what one agent is charged, in nano-USD", Enabled: true, Threshold: 10_000_000_000, Window: 5 * time.Minute},
	{Name: BulkRead, About: "data accesses that one agent was allowed", Enabled: true, Threshold: 200, Window: time.Minute},
	{Name: Privilege, About: "actions that policies denied one agent, or wanted a person's approval for", Enabled: true, Threshold: 20, Window: 5 * time.Minute},
}

// Detectors are all of them, as a tenant has set them.
func Detectors(set []Detector) []Detector {
	all := append([]Detector(nil), shipped...)
	for i := range all {
		for _, s := range set {
			if s.Name == all[i].Name {
				s.About = all[i].About
				all[i] = s
			}
		}
	}
	return all
}

// One picks a detector out of all. fault.NotFound: there is none of that name.
func One(all []Detector, name Name) (Detector, error) {
	for _, d := range all {
		if d.Name == name {
			return d, nil
		}
	}
	return Detector{}, fault.New(fault.NotFound, "there is no detector %q", string(name))
}

// start is where the window around a time begins.
func (d Detector) start(at time.Time) time.Time {
	long := max(int64(d.Window/time.Second), 1)
	return time.Unix(at.Unix()/long*long, 0).UTC()
}

// limit is the threshold in words.
func (d Detector) limit() string {
	if d.Name == CostVelocity {
		return fmt.Sprintf("%.2f USD", float64(d.Threshold)/1e9)
	}
	return fmt.Sprint(d.Threshold)
}
