package mask_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	costv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/cost/v1"
	"github.com/fulcrum-io/fulcrum/services/control-plane/internal/mask"
)

var mutable = map[string]bool{"name": true, "description": true, "limits": true, "tags": true, "thresholds": true, "period": true}

func stored() *costv1.Budget {
	return &costv1.Budget{
		BudgetId: "id", Name: "old", Description: "kept", Tags: map[string]string{"a": "1"},
		Limits:     &costv1.BudgetLimits{MaxTokens: 10, MaxCostUsd: 5},
		Thresholds: []*costv1.NotificationThreshold{{ThresholdPercent: 80}},
	}
}

func TestApply(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		patch *costv1.Budget
		paths []string
		want  func(*costv1.Budget)
	}{
		{"nothing set", &costv1.Budget{}, nil, func(*costv1.Budget) {}},
		{"one set", &costv1.Budget{Name: "new"}, nil, func(b *costv1.Budget) { b.Name = "new" }},
		{"what the server sets is skipped", &costv1.Budget{BudgetId: "other", Name: "new"}, nil, func(b *costv1.Budget) { b.Name = "new" }},
		{"a message field by field", &costv1.Budget{Limits: &costv1.BudgetLimits{MaxCostUsd: 7}}, nil, func(b *costv1.Budget) { b.Limits.MaxCostUsd = 7 }},
		{"a map as a whole", &costv1.Budget{Tags: map[string]string{"b": "2"}}, nil, func(b *costv1.Budget) { b.Tags = map[string]string{"b": "2"} }},
		{"a list as a whole", &costv1.Budget{Thresholds: []*costv1.NotificationThreshold{{ThresholdPercent: 1}, {ThresholdPercent: 2}}}, nil, func(b *costv1.Budget) {
			b.Thresholds = []*costv1.NotificationThreshold{{ThresholdPercent: 1}, {ThresholdPercent: 2}}
		}},
		{"a named field is cleared", &costv1.Budget{}, []string{"description", "tags", "thresholds"}, func(b *costv1.Budget) {
			b.Description, b.Tags, b.Thresholds = "", nil, nil
		}},
		{"only the named", &costv1.Budget{Name: "new", Description: "new"}, []string{"name"}, func(b *costv1.Budget) { b.Name = "new" }},
		{"a field of a field", &costv1.Budget{Limits: &costv1.BudgetLimits{MaxTokens: 1, MaxCostUsd: 7}}, []string{"limits.max_cost_usd"}, func(b *costv1.Budget) { b.Limits.MaxCostUsd = 7 }},
		{"by its JSON name", &costv1.Budget{}, []string{"limits.maxTokens"}, func(b *costv1.Budget) { b.Limits.MaxTokens = 0 }},
		{"a field of a field that is not there", &costv1.Budget{Period: &costv1.BudgetPeriod{DurationSeconds: 9}}, []string{"period.duration_seconds"}, func(b *costv1.Budget) {
			b.Period = &costv1.BudgetPeriod{DurationSeconds: 9}
		}},
		{"everything", &costv1.Budget{BudgetId: "other", Name: "new"}, []string{"*"}, func(b *costv1.Budget) {
			proto.Reset(b)
			b.BudgetId, b.Name = "id", "new"
		}},
	} {
		got, want := stored(), stored()
		tt.want(want)
		if err := mask.Apply(got, tt.patch, tt.paths, mutable); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

func TestApplyDoesNotShareMemory(t *testing.T) {
	t.Parallel()
	patch := &costv1.Budget{Tags: map[string]string{"a": "1"}, Limits: &costv1.BudgetLimits{MaxTokens: 1}, Thresholds: []*costv1.NotificationThreshold{{ThresholdPercent: 5}}}
	for _, paths := range [][]string{nil, {"*"}} {
		got := &costv1.Budget{}
		if err := mask.Apply(got, patch, paths, mutable); err != nil {
			t.Fatal(err)
		}
		got.Tags["a"], got.Limits.MaxTokens, got.Thresholds[0].ThresholdPercent = "2", 2, 6
		if patch.GetTags()["a"] != "1" || patch.GetLimits().GetMaxTokens() != 1 || patch.GetThresholds()[0].GetThresholdPercent() != 5 {
			t.Errorf("changing the result changed the patch: %v", patch)
		}
	}
}

func TestWrongPathsAreNamed(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"", ".", "budget_id", "budgetId", "nope", "limits.nope", "limits.", "name.x", "tags.a", "thresholds.threshold_percent", "period.period_start.seconds"} {
		got := stored()
		err := mask.Apply(got, &costv1.Budget{Name: "new"}, []string{"name", path}, mutable)
		f, ok := fault.As(err)
		if !ok || f.Kind != fault.Invalid || len(f.Violations) != 1 || f.Violations[0].Field != "update_mask[1]" {
			t.Errorf("%q: %v", path, err)
		}
	}
}

func FuzzApply(f *testing.F) {
	for _, path := range []string{"name", "limits.max_tokens", "*", "..", "period.period_start"} {
		f.Add(path)
	}
	f.Fuzz(func(t *testing.T, path string) {
		got := stored()
		err := mask.Apply(got, &costv1.Budget{BudgetId: "other"}, []string{path}, mutable)
		if got.GetBudgetId() != "id" {
			t.Errorf("%q reaches what the server sets (%v)", path, err)
		}
	})
}
