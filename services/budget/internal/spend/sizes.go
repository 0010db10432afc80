package spend

import (
	"cmp"
	"math"
	"slices"
)

// Cell is a place in the distribution of calls: like input and like output. A
// bucket is twice the binary logarithm of the tokens, rounded up, so that the
// largest of one are 1.41 times the smallest; -1 is for none.
type Cell struct{ Input, Output int16 }

// CellOf is the cell of a call.
func CellOf(input, output int64) Cell { return Cell{bucket(input), bucket(output)} }

func bucket(tokens int64) int16 {
	if tokens <= 0 {
		return -1
	}
	return int16(math.Ceil(2*math.Log2(float64(tokens)) - 1e-9))
}

// Size is how many calls fell into a cell, and their sums.
type Size struct {
	Cell
	Calls, Input, Output, Seconds int64
	CostNano                      int64
}

// per is the mean of one call of the cell.
func (s Size) per(sum int64) float64 { return float64(sum) / float64(s.Calls) }

// weighed is a value and how many calls stand behind it.
type weighed struct{ value, weight float64 }

// quantile returns the value below which a share q of the weight lies. Each
// value stands in the middle of its own weight, and between two of them it is a
// straight line. all must not be empty; it is put in order.
func quantile(all []weighed, q float64) float64 {
	slices.SortFunc(all, func(a, b weighed) int { return cmp.Compare(a.value, b.value) })
	total := 0.0
	for _, w := range all {
		total += w.weight
	}
	target, passed := q*total, 0.0
	for i, w := range all {
		middle := passed + w.weight/2
		if target <= middle {
			if i == 0 {
				return w.value
			}
			before := all[i-1]
			from := passed - before.weight/2
			return before.value + (w.value-before.value)*(target-from)/(middle-from)
		}
		passed += w.weight
	}
	return all[len(all)-1].value
}

// like returns the sizes whose input is like the one given: of its own bucket
// and of wider and wider ones around it, until there are enough calls.
func like(sizes []Size, input int64, enough int64) []Size {
	at := bucket(input)
	for reach := int16(0); reach <= 6; reach++ {
		var near []Size
		var calls int64
		for _, s := range sizes {
			if d := s.Cell.Input - at; d >= -reach && d <= reach {
				near = append(near, s)
				calls += s.Calls
			}
		}
		if calls >= enough {
			return near
		}
	}
	return sizes // nothing like it: better than no history at all
}
