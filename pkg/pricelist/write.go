package pricelist

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/fulcrum-io/fulcrum/pkg/money"
)

// CSV writes a list so that ParseCSV reads it back.
func CSV(list []Entry) []byte {
	var out bytes.Buffer
	w := csv.NewWriter(&out)
	_ = w.Write(Columns()) // a buffer takes everything
	for _, e := range list {
		_ = w.Write(csvRow(e, 0, e.Rates))
		for _, t := range e.Tiers {
			_ = w.Write(csvRow(e, t.Above, t.Rates))
		}
	}
	w.Flush()
	return out.Bytes()
}

func csvRow(e Entry, above int64, r Rates) []string {
	row := []string{e.Model, at(e.From), "", "", "", "", "", "", "", ""}
	if above > 0 {
		row[2] = strconv.FormatInt(above, 10)
	}
	for i, one := range rates {
		row[3+i] = amount(*one.of(&r))
	}
	if e.Ended {
		row[len(row)-1] = "true"
	}
	return row
}

// YAML writes a list so that ParseYAML reads it back.
func YAML(list []Entry) ([]byte, error) {
	prices := &yaml.Node{Kind: yaml.SequenceNode}
	for _, e := range list {
		n := &yaml.Node{Kind: yaml.MappingNode}
		put(n, colModel, "!!str", e.Model)
		put(n, colFrom, "", at(e.From))
		putRates(n, e.Rates)
		if len(e.Tiers) > 0 {
			tiers := &yaml.Node{Kind: yaml.SequenceNode}
			for _, t := range e.Tiers {
				one := &yaml.Node{Kind: yaml.MappingNode}
				put(one, colAbove, "", strconv.FormatInt(t.Above, 10))
				putRates(one, t.Rates)
				tiers.Content = append(tiers.Content, one)
			}
			n.Content = append(n.Content, word("tiers"), tiers)
		}
		if e.Ended {
			put(n, colEnded, "", "true")
		}
		prices.Content = append(prices.Content, n)
	}
	return yaml.Marshal(&yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{word("prices"), prices}})
}

// JSON writes a list so that ParseYAML reads it back.
func JSON(list []Entry) ([]byte, error) {
	prices := make([]map[string]any, len(list))
	for i, e := range list {
		one := jsonRates(e.Rates)
		one[colModel] = e.Model
		if !e.From.IsZero() {
			one[colFrom] = at(e.From)
		}
		if e.Ended {
			one[colEnded] = true
		}
		var tiers []map[string]any
		for _, t := range e.Tiers {
			tier := jsonRates(t.Rates)
			tier[colAbove] = t.Above
			tiers = append(tiers, tier)
		}
		if tiers != nil {
			one["tiers"] = tiers
		}
		prices[i] = one
	}
	text, err := json.MarshalIndent(map[string]any{"prices": prices}, "", "  ")
	return append(text, '\n'), err
}

func jsonRates(r Rates) map[string]any {
	out := make(map[string]any)
	for _, one := range rates {
		if n := *one.of(&r); n != 0 {
			out[one.name] = json.Number(amount(n))
		}
	}
	return out
}

func word(s string) *yaml.Node { return &yaml.Node{Kind: yaml.ScalarNode, Value: s} }

// put adds a value unless it is empty.
func put(n *yaml.Node, key, tag, value string) {
	if value != "" {
		n.Content = append(n.Content, word(key), &yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: value})
	}
}

func putRates(n *yaml.Node, r Rates) {
	for _, one := range rates {
		put(n, one.name, "", amount(*one.of(&r)))
	}
}

// amount is empty for nothing.
func amount(n money.Nano) string {
	if n == 0 {
		return ""
	}
	return strings.TrimSuffix(strings.TrimPrefix(n.String(), "$"), ".00")
}

func at(t time.Time) string {
	switch {
	case t.IsZero():
		return ""
	case t.Equal(t.Truncate(24 * time.Hour)):
		return t.UTC().Format(time.DateOnly)
	}
	return t.UTC().Format(time.RFC3339Nano)
}
