package oracle

import (
	"context"
	"math"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
)

// Model is what runs of one workflow cost. A run is an envelope.
type Model struct {
	Workflow        string
	Runs            int64
	Mean, Deviation float64 // nano-USD a run
	Tokens          float64 // a run
	PerHour         float64
	At              time.Time // when it was made
}

// Source is where the runs are read. Models come without At.
type Source interface {
	// RunsOf returns the model of one workflow from its latest runs since from;
	// Runs is 0 if there were none.
	RunsOf(ctx context.Context, tenant uuid.UUID, workflow string, from time.Time) (Model, error)
	// RunsAfter returns those of up to limit workflows that ran since from, by
	// their names and after one.
	RunsAfter(ctx context.Context, tenant uuid.UUID, after string, from time.Time, limit int) ([]Model, error)
}

const (
	lookback = 30 * 24 * time.Hour
	fresh    = 5 * time.Minute
	most     = 10_000 // models in memory
	pooled   = 200    // workflows that the model of a tenant is made of, at most
)

// Models keeps the models of workflows in memory for some minutes. Safe for
// concurrent use.
type Models struct {
	source Source
	mu     sync.Mutex // guards cache
	cache  map[workflow]Model
}

type workflow struct {
	tenant uuid.UUID
	id     string
}

// NewModels returns Models over source.
func NewModels(source Source) *Models {
	return &Models{source: source, cache: make(map[workflow]Model)}
}

// Of returns the model of a workflow as of now, and whether it was made before;
// with anew it never was. It is a NotFound fault if the workflow did not run in
// the last 30 days.
func (m *Models) Of(ctx context.Context, tenant uuid.UUID, id string, now time.Time, anew bool) (Model, bool, error) {
	key := workflow{tenant, id}
	if model, ok := m.kept(key, now); ok && !anew {
		return model, true, nil
	}
	model, err := m.source.RunsOf(ctx, tenant, id, now.Add(-lookback))
	if err != nil {
		return Model{}, false, err
	}
	if model.Runs == 0 {
		return Model{}, false, fault.New(fault.NotFound, "workflow %q did not run in the last 30 days: there is nothing to learn from", id).
			WithReason("MODEL_NOT_FOUND").WithMeta("workflow_id", id)
	}
	model.At = now
	m.keep(key, model)
	return model, false, nil
}

func (m *Models) kept(key workflow, now time.Time) (Model, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	model, ok := m.cache[key]
	return model, ok && now.Sub(model.At) < fresh
}

func (m *Models) keep(key workflow, model Model) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.cache) >= most {
		clear(m.cache) // rare, and cheaper than keeping an order
	}
	m.cache[key] = model
}

// After returns the models of up to limit workflows after one, by name.
func (m *Models) After(ctx context.Context, tenant uuid.UUID, after string, now time.Time, limit int) ([]Model, error) {
	models, err := m.source.RunsAfter(ctx, tenant, after, now.Add(-lookback), limit)
	for i := range models {
		models[i].At = now
	}
	return models, err
}

// all is the key of a tenant's workflows together; no workflow has a name with a
// zero byte.
const all = "\x00"

// All returns the model of the tenant's workflows together, up to the first 200
// of them; Runs is 0 if none ran.
func (m *Models) All(ctx context.Context, tenant uuid.UUID, now time.Time) (Model, error) {
	key := workflow{tenant, all}
	if model, ok := m.kept(key, now); ok {
		return model, nil
	}
	models, err := m.After(ctx, tenant, "", now, pooled)
	if err != nil {
		return Model{}, err
	}
	nameless, err := m.source.RunsOf(ctx, tenant, "", now.Add(-lookback))
	if err != nil {
		return Model{}, err
	}
	model := pool(append(models, nameless), now)
	if model.Runs > 0 {
		m.keep(key, model)
	}
	return model, nil
}

// pool adds models up: variances within workflows and between them.
func pool(models []Model, now time.Time) Model {
	sum := Model{At: now}
	var squares float64
	for _, m := range models {
		n := float64(m.Runs)
		sum.Runs += m.Runs
		sum.Mean += n * m.Mean
		sum.Tokens += n * m.Tokens
		sum.PerHour += m.PerHour
		squares += (n-1)*m.Deviation*m.Deviation + n*m.Mean*m.Mean
	}
	if sum.Runs == 0 {
		return sum
	}
	n := float64(sum.Runs)
	sum.Mean, sum.Tokens = sum.Mean/n, sum.Tokens/n
	if sum.Runs > 1 {
		sum.Deviation = math.Sqrt(max(squares-n*sum.Mean*sum.Mean, 0) / (n - 1))
	}
	return sum
}
