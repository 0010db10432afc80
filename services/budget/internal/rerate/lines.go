package rerate

import (
	"cmp"
	"slices"
)

// lines are sums by model and budget.
type lines struct{ by map[[2]string]*Line }

func (l *lines) add(of Line, c change) {
	key := [2]string{of.Budget, of.Model}
	if l.by == nil {
		l.by = make(map[[2]string]*Line)
	}
	line := l.by[key]
	if line == nil {
		line = &of
		l.by[key] = line
	}
	line.Charges++
	line.Old += c.Cost
	line.New += c.cost
}

func (l *lines) sorted() []Line {
	out := make([]Line, 0, len(l.by))
	for _, line := range l.by {
		out = append(out, *line)
	}
	slices.SortFunc(out, func(a, b Line) int { return cmp.Or(cmp.Compare(a.Budget, b.Budget), cmp.Compare(a.Model, b.Model)) })
	return out
}
