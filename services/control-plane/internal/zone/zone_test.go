package zone_test

import (
	"testing"

	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/zone"
)

func TestValid(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{
		"": true, "UTC": true, "Europe/Berlin": true, "America/Argentina/Ushuaia": true,
		"Local": false, "Europe/Atlantis": false, "../etc/passwd": false, "/etc/localtime": false, `a\b`: false,
	} {
		if got := zone.Valid(name); got != want {
			t.Errorf("Valid(%q) = %v", name, got)
		}
	}
}
