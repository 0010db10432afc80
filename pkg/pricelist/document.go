package pricelist

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Parse reads a list from a file's content by its name: .csv, .json, .yaml or
// .yml. The error is Problems with their lines.
func Parse(name string, text []byte) ([]Entry, error) {
	switch ext := strings.ToLower(filepath.Ext(name)); ext {
	case ".csv":
		return ParseCSV(text)
	case ".json", ".yaml", ".yml":
		return ParseYAML(text)
	default:
		return nil, Problems{{Entry: -1, Text: fmt.Sprintf("a price list is a .csv, .json or .yaml file, not %q", ext)}}
	}
}

// document is a YAML file being read.
type document struct {
	list  []Entry
	wrong Problems
}

// ParseYAML reads a list from YAML, or from JSON, which is YAML too: a sequence
// of prices, or a mapping whose "prices" is one. Numbers are read as they are
// written, never through a float.
func ParseYAML(text []byte) ([]Entry, error) {
	in := yaml.NewDecoder(strings.NewReader(string(text)))
	var root yaml.Node
	if err := in.Decode(&root); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, Problems{{Line: 1, Entry: -1, Text: "the file is empty"}}
		}
		return nil, Problems{{Entry: -1, Text: strings.TrimPrefix(err.Error(), "yaml: ")}}
	}
	d := document{}
	var more yaml.Node
	if err := in.Decode(&more); !errors.Is(err, io.EOF) {
		return nil, Problems{{Line: more.Line, Entry: -1, Text: "the file has more than one document"}}
	}
	if len(root.Content) == 0 {
		return nil, Problems{{Line: 1, Entry: -1, Text: "the file is empty"}}
	}
	list := root.Content[0]
	if list.Kind == yaml.MappingNode {
		found := false
		d.each(list, func(key string, value *yaml.Node) {
			if key != "prices" {
				d.bad(value, "", "there is no %q here; the list is called prices", key)
				return
			}
			list, found = value, true
		})
		if !found && len(d.wrong) == 0 {
			d.bad(list, "", "has no prices")
		}
	}
	if len(d.wrong) > 0 {
		return nil, d.wrong
	}
	if list.Kind != yaml.SequenceNode {
		d.bad(list, "prices", "must be a list")
		return nil, d.wrong
	}
	for _, n := range list.Content {
		if d.price(n); len(d.list) > MaxEntries {
			break
		}
	}
	return finish(d.list, d.wrong, MaxEntries)
}

func (d *document) bad(at *yaml.Node, field, format string, a ...any) {
	d.wrong = append(d.wrong, Problem{at.Line, len(d.list), field, fmt.Sprintf(format, a...)})
}

// each calls do for every key of a mapping, which must be there once.
func (d *document) each(n *yaml.Node, do func(key string, value *yaml.Node)) {
	if n.Kind != yaml.MappingNode {
		d.bad(n, "", "a price is a mapping with a model")
		return
	}
	seen := make(map[string]bool)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		if seen[key.Value] {
			d.bad(key, key.Value, "is there twice")
			continue
		}
		seen[key.Value] = true
		do(key.Value, n.Content[i+1])
	}
}

func (d *document) price(n *yaml.Node) {
	e := Entry{Line: n.Line}
	before := len(d.wrong)
	d.each(n, func(key string, value *yaml.Node) {
		switch {
		case key == "tiers" && value.Kind == yaml.SequenceNode:
			for _, t := range value.Content {
				e.Tiers = append(e.Tiers, d.tier(t))
			}
		case key == "tiers" || key == colAbove:
			d.bad(value, key, "must be a list of tiers, each with above_input_tokens and rates")
		default:
			d.scalar(&e, nil, key, value)
		}
	})
	if len(d.wrong) == before {
		d.list = append(d.list, e)
	}
}

func (d *document) tier(n *yaml.Node) Tier {
	var e Entry
	var above int64
	d.each(n, func(key string, value *yaml.Node) {
		if key == colModel || key == colFrom || key == colEnded {
			d.bad(value, key, "is not of a tier")
			return
		}
		d.scalar(&e, &above, key, value)
	})
	return Tier{above, e.Rates}
}

func (d *document) scalar(e *Entry, above *int64, key string, value *yaml.Node) {
	switch {
	case value.Kind != yaml.ScalarNode:
		d.bad(value, key, "must be a single value")
	case value.Tag == "!!null" || value.Value == "":
	default:
		if err := set(e, above, key, value.Value); err != nil {
			d.bad(value, key, "%s", err)
		}
	}
}
