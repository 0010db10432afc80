package pricelist

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fulcrum-io/fulcrum/pkg/money"
)

// The columns of a CSV besides the rates. A row with above_input_tokens is a tier
// of the price in an earlier row with the same model and effective_from.
const (
	colModel = "model"
	colFrom  = "effective_from"
	colAbove = "above_input_tokens"
	colEnded = "ended"
)

// Columns are all columns of a CSV in the order in which they are written.
func Columns() []string {
	out := []string{colModel, colFrom, colAbove}
	for _, r := range rates {
		out = append(out, r.name)
	}
	return append(out, colEnded)
}

// ParseCSV reads a list. The first row names the columns, in any order; lines
// that begin with # do not count. The error is Problems with their lines.
func ParseCSV(text []byte) ([]Entry, error) { return parseCSV(text, MaxEntries) }

// ParseShipped is ParseCSV for the list that ships, which may be longer than a
// tenant's.
func ParseShipped(text []byte) ([]Entry, error) { return parseCSV(text, 100_000) }

func parseCSV(text []byte, most int) ([]Entry, error) {
	in := csv.NewReader(bytes.NewReader(text))
	in.Comment, in.FieldsPerRecord, in.TrimLeadingSpace = '#', -1, true
	header, err := in.Read()
	if errors.Is(err, io.EOF) {
		return nil, Problems{{Line: 1, Entry: -1, Text: "the file is empty: the first line names the columns"}}
	}
	if err != nil {
		return nil, unreadable(err)
	}
	p := table{line: first(in), columns: header}
	if err := p.head(); err != nil {
		return nil, err
	}
	for {
		row, err := in.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, append(p.wrong, unreadable(err)...)
		}
		p.line = first(in)
		p.row(row)
		if len(p.list) > most {
			break
		}
	}
	return finish(p.list, p.wrong, most)
}

func first(in *csv.Reader) int {
	line, _ := in.FieldPos(0)
	return line
}

func unreadable(err error) Problems {
	if e, ok := errors.AsType[*csv.ParseError](err); ok {
		return Problems{{Line: e.Line, Entry: -1, Text: e.Err.Error()}}
	}
	return Problems{{Entry: -1, Text: err.Error()}}
}

// table is a CSV being read.
type table struct {
	columns []string
	line    int
	list    []Entry
	wrong   Problems
}

func (p *table) bad(field, format string, a ...any) {
	p.wrong = append(p.wrong, Problem{p.line, len(p.list), field, fmt.Sprintf(format, a...)})
}

func (p *table) head() error {
	known := Columns()
	for i, name := range p.columns {
		name = strings.ToLower(strings.TrimSpace(strings.TrimPrefix(name, "\ufeff")))
		switch {
		case !slices.Contains(known, name):
			p.bad("", "there is no column %q; the columns are %s", name, strings.Join(known, ", "))
		case slices.Contains(p.columns[:i], name):
			p.bad("", "the column %s is there twice", name)
		}
		p.columns[i] = name
	}
	if !slices.Contains(p.columns, colModel) {
		p.bad("", "there is no column model")
	}
	if len(p.wrong) > 0 {
		return p.wrong
	}
	return nil
}

func (p *table) row(cells []string) {
	if len(cells) != len(p.columns) {
		p.bad("", "has %d cells, the first line has %d", len(cells), len(p.columns))
		return
	}
	e := Entry{Line: p.line}
	before := len(p.wrong)
	var above int64
	for i, name := range p.columns {
		cell := strings.TrimSpace(cells[i])
		if cell == "" {
			continue
		}
		if err := set(&e, &above, name, cell); err != nil {
			p.bad(name, "%s", err)
		}
	}
	switch {
	case len(p.wrong) > before:
	case above == 0:
		p.list = append(p.list, e)
	default:
		p.tier(e, above)
	}
}

// tier adds a row to the price it belongs to.
func (p *table) tier(e Entry, above int64) {
	for i := len(p.list) - 1; i >= 0; i-- {
		to := &p.list[i]
		if Name(to.Model) == Name(e.Model) && to.From.Equal(e.From) {
			to.Tiers = append(to.Tiers, Tier{above, e.Rates})
			return
		}
	}
	p.bad(colAbove, "no earlier row has this model and effective_from without above_input_tokens")
}

func finish(list []Entry, wrong Problems, most int) ([]Entry, error) {
	for i := range list {
		slices.SortStableFunc(list[i].Tiers, func(a, b Tier) int { return int(a.Above - b.Above) })
	}
	if len(wrong) == 0 {
		wrong = check(list, most)
	}
	if len(wrong) > 0 {
		return nil, wrong
	}
	return list, nil
}

// set puts one cell into e or above.
func set(e *Entry, above *int64, name, cell string) (err error) {
	switch name {
	case colModel:
		e.Model = cell
		return nil
	case colFrom:
		e.From, err = moment(cell)
		return err
	case colAbove:
		n, err := strconv.ParseInt(cell, 10, 64)
		if err != nil || n < 0 || n > MaxAbove {
			return fmt.Errorf("%.40q is not a number of tokens up to %d", cell, MaxAbove)
		}
		*above = n
		return nil
	case colEnded:
		e.Ended, err = strconv.ParseBool(cell)
		if err != nil {
			return fmt.Errorf("%.40q is not true or false", cell)
		}
		return nil
	}
	return setRate(&e.Rates, name, cell)
}

func setRate(r *Rates, name, cell string) error {
	for _, one := range rates {
		if one.name != name {
			continue
		}
		n, err := money.Parse(cell)
		if err != nil {
			return fmt.Errorf("%.40q is not an amount of dollars such as 2.50 with at most nine decimals", cell)
		}
		*one.of(r) = n
		return nil
	}
	return fmt.Errorf("is not known here")
}

func moment(s string) (time.Time, error) {
	for _, layout := range []string{time.DateOnly, time.RFC3339Nano} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC().Truncate(time.Microsecond), nil
		}
	}
	return time.Time{}, fmt.Errorf("%.40q is not a day or a moment such as 2026-01-31 or 2026-01-31T08:00:00Z", s)
}
