// Package terminal shows answers to people and programs: aligned tables, facts
// about one thing, and JSON. Text from elsewhere cannot steer the terminal.
package terminal

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

const gap = "  "

// Table aligns rows below their headings.
type Table struct {
	columns []column
	rows    [][]string
}

type column struct {
	name  string
	right bool
}

// NewTable returns an empty table. A heading that begins with ">" is of a
// column of numbers, which are aligned at their ends.
func NewTable(headings ...string) *Table {
	t := &Table{columns: make([]column, len(headings))}
	for i, h := range headings {
		name, right := strings.CutPrefix(h, ">")
		t.columns[i] = column{name: name, right: right}
	}
	return t
}

// Row adds a row with one cell for each heading. An empty cell is shown as "-".
func (t *Table) Row(cells ...any) {
	row := make([]string, len(t.columns))
	for i := range row {
		row[i] = "-"
		if i < len(cells) {
			if text := Clean(fmt.Sprint(cells[i])); text != "" {
				row[i] = text
			}
		}
	}
	t.rows = append(t.rows, row)
}

// Len is the number of rows.
func (t *Table) Len() int { return len(t.rows) }

// Write writes headings and rows, or nothing if there are no rows.
func (t *Table) Write(w io.Writer, color bool) error {
	if len(t.rows) == 0 {
		return nil
	}
	widths := make([]int, len(t.columns))
	for i, c := range t.columns {
		widths[i] = utf8.RuneCountInString(c.name)
		for _, row := range t.rows {
			widths[i] = max(widths[i], utf8.RuneCountInString(row[i]))
		}
	}
	head := make([]string, len(t.columns))
	for i, c := range t.columns {
		head[i] = c.name
	}
	var b strings.Builder
	t.line(&b, head, widths, false)
	for _, row := range t.rows {
		t.line(&b, row, widths, color)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (t *Table) line(b *strings.Builder, cells []string, widths []int, color bool) {
	last := len(cells) - 1
	for i, cell := range cells {
		pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
		if color {
			cell = Paint(cell)
		}
		switch {
		case t.columns[i].right:
			b.WriteString(pad + cell)
		case i == last:
			b.WriteString(cell)
		default:
			b.WriteString(cell + pad)
		}
		if i < last {
			b.WriteString(gap)
		}
	}
	b.WriteByte('\n')
}

// Facts are what is known about one thing, a name and a value a line. Empty
// values are left out.
type Facts struct{ rows [][2]string }

// Add adds a fact, unless the value is empty.
func (f *Facts) Add(name string, value any) {
	text := Clean(fmt.Sprint(value))
	if value == nil || text == "" {
		return
	}
	f.rows = append(f.rows, [2]string{name, text})
}

// Write writes the facts with their values aligned.
func (f *Facts) Write(w io.Writer, color bool) error {
	width := 0
	for _, row := range f.rows {
		width = max(width, utf8.RuneCountInString(row[0]))
	}
	var b strings.Builder
	for _, row := range f.rows {
		value := row[1]
		if color {
			value = Paint(value)
		}
		fmt.Fprintf(&b, "%-*s%s%s\n", width, row[0], gap, value)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
