package decision

import (
	"context"
	"slices"

	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
	policyenginev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policyengine/v1"
	"github.com/google/uuid"
)

// Learned is a value that an entry adds to the history of a field, in the
// transaction that records the entry.
type Learned struct {
	Baseline uuid.UUID
	Label    string // the history in words
	Value    float64
}

// statistics reads the histories that policies compare fields with. One that
// nothing was added to is there, with no samples; one by whom c has not is left
// out: it is unknown then, and conditions on it fail.
func (p *Pipeline) statistics(ctx context.Context, c *counted, asked []*policyenginev1.Baseline) (map[string]*policyv1.FieldStatistics, error) {
	ids := make(map[string]uuid.UUID, len(asked))
	read := make([]uuid.UUID, 0, len(asked))
	for _, b := range asked {
		if id, _, ok := c.baseline(b); ok {
			ids[b.GetKey()], read = id, append(read, id)
		}
	}
	if len(ids) == 0 {
		return nil, nil
	}
	found, err := p.Store.Baselines(ctx, c.who.Tenant, read)
	if err != nil {
		return nil, err
	}
	out := make(map[string]*policyv1.FieldStatistics, len(ids))
	for key, id := range ids {
		if out[key] = found[id]; out[key] == nil {
			out[key] = &policyv1.FieldStatistics{}
		}
	}
	return out, nil
}

// learned is what an action that may happen adds to the histories of its fields.
// What was refused adds nothing: otherwise an agent could ask for more and more
// until it is usual.
func (c *counted) learned(result *policyenginev1.EvaluateResponse) (out []Learned) {
	for _, b := range result.GetBaselines() {
		if id, label, ok := c.baseline(b); ok && b.Value != nil {
			out = append(out, Learned{Baseline: id, Label: label, Value: b.GetValue()})
		}
	}
	return out
}

// baseline names c's part of a history; not ok if c has not what it is apart by.
func (c *counted) baseline(b *policyenginev1.Baseline) (id uuid.UUID, label string, ok bool) {
	parts := []string{"baseline", c.who.Tenant.String(), b.GetPolicyId(), b.GetField()}
	name := b.GetField() + " in policy " + b.GetPolicyId()
	for _, by := range b.GetBy() {
		value := c.is(by)
		if value == "" {
			return uuid.Nil, "", false
		}
		parts, name = append(parts, by, value), name+", "+by+" "+value
	}
	return idFrom(digest(parts...)), clip(name, 512), true
}

// sameBaselines reports whether two answers ask for the same histories.
func sameBaselines(a, b []*policyenginev1.Baseline) bool {
	return slices.EqualFunc(a, b, func(a, b *policyenginev1.Baseline) bool {
		return a.GetKey() == b.GetKey() && a.GetPolicyId() == b.GetPolicyId() && a.GetField() == b.GetField() && slices.Equal(a.GetBy(), b.GetBy())
	})
}

// withValues is a, with the values of b where a has none.
func withValues(a, b []*policyenginev1.Baseline) []*policyenginev1.Baseline {
	out := slices.Clone(a)
	for _, o := range b {
		i := slices.IndexFunc(out, func(had *policyenginev1.Baseline) bool { return had.GetKey() == o.GetKey() })
		switch {
		case i < 0:
			out = append(out, o)
		case out[i].Value == nil && o.Value != nil:
			out[i] = o
		}
	}
	return out
}
