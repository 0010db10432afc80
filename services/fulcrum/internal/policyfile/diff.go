package policyfile

import (
	"fmt"
	"strings"
)

// around is how many unchanged lines a diff shows around a change.
const around = 3

// maxCells bounds the table that finds what two texts have in common. Beyond
// it the differing middle is shown as replaced.
const maxCells = 4 << 20

// edit is one line of a diff: kept (' '), taken out ('-') or put in ('+').
type edit struct {
	mark byte
	text string
}

// unified is the unified diff of two texts without its header; "" if they are
// the same.
func unified(a, b string) string {
	edits := edits(lines(a), lines(b))
	var out strings.Builder
	oldAt, newAt := 1, 1
	for i := 0; i < len(edits); {
		if edits[i].mark == ' ' {
			oldAt, newAt, i = oldAt+1, newAt+1, i+1
			continue
		}
		from := i
		for from > 0 && i-from < around && edits[from-1].mark == ' ' {
			from--
		}
		to := hunkEnd(edits, i)
		oldFrom, newFrom := oldAt-(i-from), newAt-(i-from)
		var oldLines, newLines int
		var body strings.Builder
		for _, e := range edits[from:to] {
			if e.mark != '+' {
				oldLines++
			}
			if e.mark != '-' {
				newLines++
			}
			body.WriteByte(e.mark)
			body.WriteString(e.text)
			body.WriteByte('\n')
		}
		fmt.Fprintf(&out, "@@ -%s +%s @@\n%s", extent(oldFrom, oldLines), extent(newFrom, newLines), body.String())
		oldAt, newAt, i = oldFrom+oldLines, newFrom+newLines, to
	}
	return out.String()
}

// hunkEnd is behind the last change that belongs to the hunk of the one at i,
// and the lines around it.
func hunkEnd(edits []edit, i int) int {
	last := i
	for j := i; j < len(edits) && j-last <= 2*around; j++ {
		if edits[j].mark != ' ' {
			last = j
		}
	}
	return min(len(edits), last+1+around)
}

func extent(from, count int) string {
	if count == 0 {
		from--
	}
	if count == 1 {
		return fmt.Sprint(from)
	}
	return fmt.Sprintf("%d,%d", from, count)
}

func lines(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(text, "\n"), "\n")
}

// edits is a shortest way from a to b.
func edits(a, b []string) (all []edit) {
	head := 0
	for head < len(a) && head < len(b) && a[head] == b[head] {
		head++
	}
	tail := 0
	for tail < len(a)-head && tail < len(b)-head && a[len(a)-1-tail] == b[len(b)-1-tail] {
		tail++
	}
	add := func(mark byte, texts []string) {
		for _, t := range texts {
			all = append(all, edit{mark, t})
		}
	}
	add(' ', a[:head])
	x, y := a[head:len(a)-tail], b[head:len(b)-tail]
	if len(x)*len(y) > maxCells {
		add('-', x)
		add('+', y)
	} else {
		all = append(all, middle(x, y)...)
	}
	add(' ', a[len(a)-tail:])
	return all
}

// middle follows the longest common subsequence.
func middle(x, y []string) (all []edit) {
	width := len(y) + 1
	common := make([]int32, (len(x)+1)*width) // of x[i:] and y[j:]
	for i := len(x) - 1; i >= 0; i-- {
		for j := len(y) - 1; j >= 0; j-- {
			if x[i] == y[j] {
				common[i*width+j] = common[(i+1)*width+j+1] + 1
			} else {
				common[i*width+j] = max(common[(i+1)*width+j], common[i*width+j+1])
			}
		}
	}
	i, j := 0, 0
	for i < len(x) || j < len(y) {
		switch {
		case i < len(x) && j < len(y) && x[i] == y[j]:
			all = append(all, edit{' ', x[i]})
			i, j = i+1, j+1
		case i < len(x) && (j == len(y) || common[(i+1)*width+j] >= common[i*width+j+1]):
			all = append(all, edit{'-', x[i]})
			i++
		default:
			all = append(all, edit{'+', y[j]})
			j++
		}
	}
	return all
}
