package web

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/strictjson"
)

// decodeStrict reads one JSON object into v: no unknown fields, no duplicate
// keys, nothing after it.
func decodeStrict(body []byte, v any) error {
	if err := strictjson.UniqueFolded(body); err != nil {
		return unreadable(err.Error())
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		text := strings.TrimPrefix(err.Error(), "json: ")
		if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
			return fault.Field(wrong.Field, "must be a %s", wrong.Type).WithReason("REQUEST_MALFORMED")
		}
		return unreadable(text)
	}
	return nil
}

var camel = regexp.MustCompile(`"(policyType|tenantId|agentId|maxCostUsd|maxRequestsPerMinute|maxRequestsPerHour|blockedTools|allowedTools|allowedModels|blockedPatterns|triggerActions)"(\s*:)`)

// snake turns the camelCase names of the forms into snake_case.
func snake(body []byte) []byte {
	return camel.ReplaceAllFunc(body, func(match []byte) []byte {
		parts := camel.FindSubmatch(match)
		return fmt.Appendf(nil, `"%s"%s`, snakeName(string(parts[1])), parts[2])
	})
}
