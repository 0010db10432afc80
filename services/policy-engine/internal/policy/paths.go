package policy

// paths are the facts a Rego policy can find in its input, as document builds
// it. Below a "*" anything may be.
var paths = map[string][]string{
	"tenant":    {"id"},
	"workflow":  {"id"},
	"envelope":  {"id"},
	"agent":     {"id", "team"},
	"user":      {"id", "roles"},
	"model":     {"id"},
	"tool":      {"name", "names"},
	"input":     {"text"},
	"output":    {"text"},
	"phase":     {"type"},
	"attribute": {"*"},
	"action":    {"kind", "name", "model", "resource", "args"},
	"estimate":  {"cost_usd", "tokens", "input_tokens", "max_output_tokens", "tool_calls", "seconds"},
	"budget":    {"*"},
	"history":   {"*"},
	"time":      {"unix_ns", "hour", "weekday"},
}

// knownPath reports whether a path below input can have a value.
func knownPath(path []string) bool {
	below, ok := paths[path[0]]
	if !ok {
		return false
	}
	if len(path) == 1 || below[0] == "*" {
		return path[0] != "budget" || len(path) < 3 || path[2] == "used_percent" || path[2] == "remaining_usd"
	}
	for _, name := range below {
		if name == path[1] {
			return len(path) == 2 || name == "args"
		}
	}
	return false
}
