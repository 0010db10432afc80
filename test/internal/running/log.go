package running

import (
	"fmt"
	"os"
	"strings"
)

// races returns the first report of the race detector about our own code: an
// access from one of our packages. The embedded NATS server has races of its own.
func races(log string) string {
	text, _ := os.ReadFile(log)
	reports := strings.Split(string(text), "WARNING: DATA RACE")
	for _, report := range reports[1:] {
		report, _, _ = strings.Cut(report, "==================")
		accesses, _, _ := strings.Cut(report, "created at:")
		if strings.Contains(accesses, "fulcrum-io/fulcrum/") {
			return report[:min(len(report), 4000)]
		}
	}
	return ""
}

func tail(log string, n int) string {
	text, err := os.ReadFile(log)
	if err != nil {
		return fmt.Sprintf("\t(no log: %v)", err)
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return "\t" + strings.Join(lines[max(0, len(lines)-n):], "\n\t")
}
