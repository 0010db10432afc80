package postgres_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/db/dbtest"
	"github.com/fulcrum-io/fulcrum/pkg/groupcommit"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	policyenginev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policyengine/v1"

	"github.com/fulcrum-io/fulcrum/services/gateway/internal/simulation"
)

// A simulation sees what its tenant's policies were asked, newest first, page by
// page; a shadow's report only what the shadow judged.
func TestRecordedDecisionsAreReadBackByPagesOfOneTenant(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	store, recorder := run(t, d, groupcommit.Options{})
	tenant, other := dbtest.Tenant(t, d), dbtest.Tenant(t, d)
	var want, shadowed []uuid.UUID
	for i := range 25 {
		e := entry(tenant)
		e.Decision.Facts = &policyenginev1.Facts{AgentId: "bot", ToolNames: []string{"search"}}
		e.Decision.Result = &policyenginev1.EvaluateResponse{Decision: governancev1.Decision_DECISION_DENY, PolicySetVersion: 3}
		if i%5 == 0 {
			e.Decision.Result.Shadows = []*policyenginev1.ShadowOutcome{{PolicyId: "p", Version: 2, Live: 4, Decision: 1}}
			shadowed = append(shadowed, e.Decision.ID)
		}
		want = append(want, e.Decision.ID)
		if _, err := recorder.Record(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	unasked := entry(tenant) // refused before any policy was asked
	unasked.Decision.Result = nil
	for _, e := range []uuid.UUID{tenant, other} {
		one := entry(e)
		if e == tenant {
			one = unasked
		}
		if _, err := recorder.Record(t.Context(), one); err != nil {
			t.Fatal(err)
		}
	}
	slices.Reverse(want)
	slices.Reverse(shadowed)
	read := func(tenant uuid.UUID, w simulation.Window) (ids []uuid.UUID) {
		t.Helper()
		var at simulation.Cursor
		for {
			page, err := store.Recorded(context.WithoutCancel(t.Context()), tenant, w, at, 7)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range page {
				ids = append(ids, r.ID)
				if w.Shadow != "" && (len(r.Shadows) != 1 || r.Shadows[0].GetVersion() != 2) {
					t.Errorf("shadows: %v", r.Shadows)
				}
				if r.Facts.GetAgentId() != "bot" || r.Judged != governancev1.Decision_DECISION_DENY || r.Answered != governancev1.Decision_DECISION_ALLOW {
					t.Errorf("recorded: %+v", r)
				}
			}
			if len(page) < 7 {
				return ids
			}
			at = simulation.Cursor{At: page[6].At, ID: page[6].ID}
		}
	}
	if got := read(tenant, simulation.Window{}); !slices.Equal(got, want) {
		t.Errorf("all: %d, want %d in order", len(got), len(want))
	}
	if got := read(tenant, simulation.Window{Shadow: "p"}); !slices.Equal(got, shadowed) {
		t.Errorf("shadowed: %v, want %v", got, shadowed)
	}
	for name, w := range map[string]simulation.Window{
		"another shadow": {Shadow: "q"}, "before they were made": {To: time.Now().Add(-time.Hour)}, "after": {From: time.Now().Add(time.Hour)},
	} {
		if got := read(tenant, w); len(got) != 0 {
			t.Errorf("%s: %v", name, got)
		}
	}
	if got := read(other, simulation.Window{Shadow: "p"}); len(got) != 0 {
		t.Errorf("another tenant's shadow report: %v", got)
	}
	page, err := store.Recorded(t.Context(), other, simulation.Window{}, simulation.Cursor{}, 50)
	if err != nil || len(page) > 1 {
		t.Errorf("another tenant sees %d decisions, %v", len(page), err)
	}
}
