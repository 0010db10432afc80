package oracle_test

import (
	"testing"
	"time"

	"github.com/fulcrum-io/fulcrum/services/budget/internal/amount"
	"github.com/fulcrum-io/fulcrum/services/budget/internal/oracle"
)

// A budget that used 10 dollars and a call an hour for a week, ten days into a
// month of thirty.
func steadily(limit, spent float64) oracle.Budget {
	b := oracle.Budget{Zone: time.UTC, End: noon.AddDate(0, 0, 20)}
	b.Limit[amount.Cost], b.Spent[amount.Cost] = int64(limit*1e9), int64(spent*1e9)
	for i := range 7 * 24 {
		b.Hours = append(b.Hours, oracle.Used{Start: noon.Add(time.Duration(i-7*24) * time.Hour), Amounts: amount.Amounts{amount.Cost: 10e9, amount.LLMCalls: 1}})
	}
	return b
}

var noon = time.Date(2026, 3, 11, 12, 0, 0, 0, time.UTC)

func TestAVerdictSaysWhatToDo(t *testing.T) {
	t.Parallel()
	const rest = 20 * 24 * 10 // dollars that will come
	for _, tt := range []struct {
		name   string
		budget oracle.Budget
		want   oracle.Action
		least  float64 // of the probability
		most   float64
	}{
		{"plenty left", steadily(3*rest+2400, 2400), oracle.None, 0, 0.1},
		{"it may not do", steadily(1.2*rest+2400, 2400), oracle.Warn, 0.2, 0.5},
		{"a slower pace would do", steadily(0.7*rest+2400, 2400), oracle.ReduceRate, 0.5, 1},
		{"no pace would do", steadily(0.1*rest+2400, 2400), oracle.RequestQuota, 0.9, 1},
		{"nothing left", steadily(2400, 2400), oracle.Halt, 1, 1},
		{"overspent", steadily(2000, 2400), oracle.Halt, 1, 1},
		{"no limit", steadily(0, 2400), oracle.None, 0, 0},
		{"never used", oracle.Budget{Limit: amount.Amounts{1}, Zone: time.UTC, End: noon.AddDate(0, 0, 1)}, oracle.None, 0, 0},
		{"its window is over", func() oracle.Budget { b := steadily(1e6, 1); b.End = noon; return b }(), oracle.None, 0, 0},
	} {
		v := oracle.Judge(tt.budget, noon)
		if v.Action != tt.want || v.Probability < tt.least || v.Probability > tt.most || v.Message == "" {
			t.Errorf("%s: %+v, want action %d and %v to %v", tt.name, v, tt.want, tt.least, tt.most)
		}
		if v.CostLow > v.Cost || v.Cost > v.CostHigh || v.Confidence < 0 || v.Confidence > 1 {
			t.Errorf("%s: out of its own bounds: %+v", tt.name, v)
		}
	}
}

func TestAVerdictIsOfTheUnitThatRunsOutFirst(t *testing.T) {
	t.Parallel()
	b := steadily(1e6, 2400)
	b.Limit[amount.LLMCalls], b.Spent[amount.LLMCalls] = 240+100, 240
	v := oracle.Judge(b, noon)
	if v.Unit != amount.LLMCalls || v.Probability < 0.9 || v.Action != oracle.RequestQuota {
		t.Errorf("100 calls left, one used an hour: %+v", v)
	}
	if in := v.Exhausted.Sub(noon).Hours(); in < 80 || in > 120 {
		t.Errorf("they last for %v hours", in)
	}
	if usd := v.Cost / 1e9; usd < 2400+0.7*4800 || usd > 2400+1.3*4800 {
		t.Errorf("the cost is predicted all the same: %v", usd)
	}
}

func TestAWindowWithoutAnEndIsLookedAtForAMonth(t *testing.T) {
	t.Parallel()
	b := steadily(1e6, 0)
	b.Endless, b.End = true, time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)
	if v := oracle.Judge(b, noon); !v.Until.Equal(noon.AddDate(0, 0, 30)) {
		t.Errorf("until %v", v.Until)
	}
	b.Endless = false
	if v := oracle.Judge(b, noon); !v.Until.Equal(noon.AddDate(0, 0, 366)) {
		t.Errorf("ten years are looked at until %v", v.Until)
	}
}
