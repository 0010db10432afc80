// Package strictjson refuses JSON that two parsers might read differently: what
// one of them checked must be what the next one acts on. RFC 8259 leaves open
// what a name that stands twice in an object means, and texts that are not UTF-8.
package strictjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxDepth is how deep values may be nested.
const maxDepth = 100

// Unique returns nil if body is one JSON value, in UTF-8, no object of which has
// a name twice, nested at most 100 deep. Names that differ in case are two.
func Unique(body []byte) error { return check(body, func(s string) string { return s }) }

// UniqueFolded is Unique for what encoding/json reads into structs: to it, names
// that differ only in case are one.
func UniqueFolded(body []byte) error { return check(body, folded) }

// Unmarshal is json.Unmarshal into a struct, of what is UniqueFolded.
func Unmarshal(body []byte, v any) error {
	if err := UniqueFolded(body); err != nil {
		return err
	}
	return json.Unmarshal(body, v)
}

func check(body []byte, fold func(string) string) error {
	if !utf8.Valid(body) {
		return errors.New("it is not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	if err := value(d, fold, 0); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("there is something after the JSON document")
	}
	return nil
}

func value(d *json.Decoder, fold func(string) string, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("nested deeper than %d levels", maxDepth)
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
			name, _ := k.(string)
			if seen[fold(name)] {
				return fmt.Errorf("duplicate field %q", clip(name))
			}
			seen[fold(name)] = true
		}
		if err := value(d, fold, depth+1); err != nil {
			return err
		}
	}
	_, err = d.Token()
	return err
}

// folded is the same for all names that strings.EqualFold calls equal.
func folded(name string) string {
	return strings.Map(func(r rune) rune {
		least := r
		for other := unicode.SimpleFold(r); other != r; other = unicode.SimpleFold(other) {
			least = min(least, other)
		}
		return least
	}, name)
}

// clip shortens a name for an error.
func clip(s string) string {
	if len(s) <= 64 {
		return s
	}
	return strings.ToValidUTF8(s[:64], "") + "…"
}
