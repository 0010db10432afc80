package bench

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestRunMeasuresWhatACallTakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := Case{"slow", func(context.Context) error { time.Sleep(20 * time.Millisecond); return nil }}
		fast := Case{"fast", func(context.Context) error { time.Sleep(5 * time.Millisecond); return nil }}
		got, err := Run(t.Context(), []Case{slow, fast}, Options{Callers: 4, Rounds: 3, Each: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		if got["slow"].P50 != 20*time.Millisecond || got["fast"].P99 != 5*time.Millisecond {
			t.Errorf("got %v", got)
		}
		if r := got["slow"].PerSecond / got["fast"].PerSecond; r < 0.2 || r > 0.3 {
			t.Errorf("slow does %.2f of what fast does, want a quarter", r)
		}
	})
}

func TestRunStopsAtTheFirstFailure(t *testing.T) {
	t.Parallel()

	broken := errors.New("broken")
	_, err := Run(t.Context(), []Case{{"c", func(context.Context) error { return broken }}}, Options{})
	if !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

func TestGoalsAreJudged(t *testing.T) {
	t.Parallel()

	lines := []Line{AtMost("near", 25, 10, "µs", 3), AtMost("far", 40, 10, "µs", 3), AtLeast("fast", 300, 10, "/s", 30), AtMost("free", 7, 0, "µs", 0),
		NoMore("soon", 9, "ms", 10), NoMore("late", 11, "ms", 10), NoLess("many", 10, "/s", 10), NoLess("few", 9, "/s", 10)}
	for i, want := range []bool{true, false, true, true, true, false, true, false} {
		if lines[i].OK != want {
			t.Errorf("%+v", lines[i])
		}
	}
	var table, js strings.Builder
	if err := errors.Join(Print(&table, lines), WriteJSON(&js, lines)); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(table.String(), "NO") || !strings.HasPrefix(js.String(), `{"name":"near","value":25,"unit":"µs","floor":10,"ratio":2.5,"goal":"ratio ≤ 3","ok":true}`) {
		t.Errorf("%s\n%s", table.String(), js.String())
	}
}
