package keys

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
)

// maxTTL keeps expiries inside what a calendar can hold: ten years.
const maxTTL = 315360000 * time.Second

func check(s Spec) error {
	var wrong []fault.Violation
	bad := func(field, format string, a ...any) {
		wrong = append(wrong, fault.Violation{Field: field, Description: fmt.Sprintf(format, a...)})
	}
	if n := utf8.RuneCountInString(s.Name); strings.TrimSpace(s.Name) == "" || n > 256 {
		bad("name", "must have 1 to 256 characters")
	}
	if len(s.Scopes) == 0 {
		bad("scopes", "at least one is needed: a key without scopes can do nothing")
	}
	for i, scope := range s.Scopes {
		if !slices.Contains(scopes, scope) {
			bad(fmt.Sprintf("scopes[%d]", i), "%.64q is not a scope; the scopes are %s", scope, strings.Join(scopes, ", "))
		}
	}
	if s.TTL < 0 || s.TTL > maxTTL {
		bad("expires_in_seconds", "must be between 0 and %d", int64(maxTTL/time.Second))
	}
	if len(wrong) > 0 {
		return fault.Fields(wrong...).WithReason("API_KEY_INVALID")
	}
	return nil
}
