package web

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
)

// decodeStrict reads one JSON object into v: no unknown fields, no duplicate
// keys, nothing after it.
func decodeStrict(body []byte, v any) error {
	if err := unambiguous(body); err != nil {
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

// unambiguous refuses JSON that two parsers might read differently.
func unambiguous(body []byte) error {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	if err := uniqueKeys(d, 0); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("there is something after the JSON document")
	}
	return nil
}

func uniqueKeys(d *json.Decoder, depth int) error {
	if depth > 100 {
		return errors.New("nested deeper than 100 levels")
	}
	t, err := d.Token()
	if err != nil {
		return err
	}
	open, ok := t.(json.Delim)
	if !ok {
		return nil
	}
	seen := make(map[string]bool)
	for d.More() {
		if open == '{' {
			k, err := d.Token()
			if err != nil {
				return err
			}
			key, _ := k.(string)
			if folded := strings.ToLower(key); seen[folded] {
				return fmt.Errorf("duplicate field %q", clip(key, 64))
			} else {
				seen[folded] = true
			}
		}
		if err := uniqueKeys(d, depth+1); err != nil {
			return err
		}
	}
	_, err = d.Token()
	return err
}

var camel = regexp.MustCompile(`"(policyType|tenantId|agentId|maxCostUsd|maxRequestsPerMinute|maxRequestsPerHour|blockedTools|allowedTools|allowedModels|blockedPatterns|triggerActions)"(\s*:)`)

// snake turns the camelCase names of the forms into snake_case.
func snake(body []byte) []byte {
	return camel.ReplaceAllFunc(body, func(match []byte) []byte {
		parts := camel.FindSubmatch(match)
		return fmt.Appendf(nil, `"%s"%s`, snakeName(string(parts[1])), parts[2])
	})
}
