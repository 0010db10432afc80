package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"
)

// Line is one figure. Floor is what the same machine needed in the same run
// for the parts that cannot be saved, Ratio is Value/Floor, and OK says
// whether the goal is met; a line without a goal is OK.
type Line struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
	Floor float64 `json:"floor,omitempty"`
	Ratio float64 `json:"ratio,omitempty"`
	Goal  string  `json:"goal,omitempty"`
	OK    bool    `json:"ok"`
}

// AtMost is a line whose ratio to the floor has an upper goal; 0 means none.
func AtMost(name string, value, floor float64, unit string, goal float64) Line {
	l := Line{Name: name, Value: value, Unit: unit, Floor: floor, OK: true}
	if floor > 0 {
		l.Ratio = value / floor
	}
	if goal > 0 {
		l.Goal, l.OK = fmt.Sprintf("ratio ≤ %g", goal), l.Ratio <= goal
	}
	return l
}

// AtLeast is a line whose ratio to a baseline has a lower goal; 0 means none.
func AtLeast(name string, value, baseline float64, unit string, goal float64) Line {
	l := AtMost(name, value, baseline, unit, 0)
	if goal > 0 {
		l.Goal, l.OK = fmt.Sprintf("ratio ≥ %g", goal), l.Ratio >= goal
	}
	return l
}

// NoMore is a line whose value has an upper goal; 0 means none.
func NoMore(name string, value float64, unit string, goal float64) Line {
	l := Line{Name: name, Value: value, Unit: unit, OK: true}
	if goal > 0 {
		l.Goal, l.OK = fmt.Sprintf("≤ %g %s", goal, unit), value <= goal
	}
	return l
}

// NoLess is a line whose value has a lower goal; 0 means none.
func NoLess(name string, value float64, unit string, goal float64) Line {
	l := Line{Name: name, Value: value, Unit: unit, OK: true}
	if goal > 0 {
		l.Goal, l.OK = fmt.Sprintf("≥ %g %s", goal, unit), value >= goal
	}
	return l
}

// Print writes the lines as a table for people.
func Print(out io.Writer, lines []Line) error {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\tvalue\tunit\tfloor\tratio\tgoal\tok\t")
	for _, l := range lines {
		verdict := ""
		if l.Goal != "" {
			verdict = map[bool]string{true: "yes", false: "NO"}[l.OK]
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t\n", l.Name, number(l.Value), l.Unit, number(l.Floor), number(l.Ratio), l.Goal, verdict)
	}
	return t.Flush()
}

// WriteJSON writes the lines as JSON, one a line.
func WriteJSON(out io.Writer, lines []Line) error {
	enc := json.NewEncoder(out)
	for _, l := range lines {
		if err := enc.Encode(l); err != nil {
			return err
		}
	}
	return nil
}

func number(v float64) string {
	switch {
	case v == 0:
		return ""
	case v >= 1000:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case v >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 2, 64)
}
