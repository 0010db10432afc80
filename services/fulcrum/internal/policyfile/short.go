package policyfile

import "strings"

// prefixes of the enum values that files may write short, by the field they
// stand in.
var prefixes = map[string]string{
	"condition_type": "CONDITION_TYPE_", "operator": "CONDITION_OPERATOR_", "logical_operator": "LOGICAL_OPERATOR_",
	"action_type": "ACTION_TYPE_", "severity": "SEVERITY_LEVEL_", "enforcement": "ENFORCEMENT_LEVEL_",
	"phase": "EXECUTION_PHASE_", "phases": "EXECUTION_PHASE_", "kind": "ACTION_KIND_",
	"failure_mode": "FAILURE_MODE_", "decision": "DECISION_",
}

// open are fields whose content is the author's own, whatever its keys are.
var open = map[string]bool{"arguments": true, "extra": true, "attributes": true, "parameters": true, "list_value": true, "tags": true}

// Lengthen writes the enum values of a tree in full: DENY in the field decision
// becomes DECISION_DENY. It returns what to use instead of v.
func Lengthen(field string, v any) any {
	switch v := v.(type) {
	case string:
		if p := prefixes[field]; p != "" && !strings.HasPrefix(v, p) {
			return p + strings.ToUpper(v)
		}
	case []any:
		for i, e := range v {
			v[i] = Lengthen(field, e)
		}
	case map[string]any:
		for k, e := range v {
			if !open[k] {
				v[k] = Lengthen(k, e)
			}
		}
	}
	return v
}
