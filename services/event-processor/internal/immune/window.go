package immune

import (
	"bytes"
	"cmp"
	"slices"
	"time"

	"github.com/google/uuid"

	busv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/bus/v1"
)

// Window is what some events add to one window of one pattern.
type Window struct {
	Detector Detector
	Pattern  uuid.UUID
	Start    time.Time
	Amount   int64
	Last     Sighting // the newest
}

// Sum adds up what the enabled detectors see in events, in one order for all.
func Sum(tenant uuid.UUID, detectors []Detector, events []*busv1.Event) []*Window {
	type key struct {
		detector Name
		pattern  uuid.UUID
		start    int64
	}
	windows := make(map[key]*Window)
	for _, e := range events {
		for _, s := range See(e) {
			d, err := One(detectors, s.Detector)
			if err != nil || !d.Enabled {
				continue
			}
			start := d.start(s.At)
			k := key{s.Detector, Pattern(tenant, s.Signature), start.UnixNano()}
			w := windows[k]
			if w == nil {
				w = &Window{Detector: d, Pattern: k.pattern, Start: start, Last: s}
				windows[k] = w
			}
			w.Amount += s.Amount
			if s.At.After(w.Last.At) {
				w.Last = s
			}
		}
	}
	all := make([]*Window, 0, len(windows))
	for _, w := range windows {
		all = append(all, w)
	}
	slices.SortFunc(all, func(a, b *Window) int {
		return cmp.Or(cmp.Compare(a.Detector.Name, b.Detector.Name), bytes.Compare(a.Pattern[:], b.Pattern[:]), a.Start.Compare(b.Start))
	})
	return all
}
