package decision

import (
	"context"
	"slices"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/fulcrum-io/fulcrum/pkg/money"
	"github.com/fulcrum-io/fulcrum/pkg/quota"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	policyenginev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policyengine/v1"
)

// asked are the facts that a tenant's policies ask about and no caller knows.
type asked struct {
	history   []*governancev1.Obligation // counters and marks
	baselines []*policyenginev1.Baseline
	budgets   []string // names
}

func askedBy(r *policyenginev1.EvaluateResponse) asked {
	return asked{history: r.GetHistory(), baselines: r.GetBaselines(), budgets: r.GetBudgets()}
}

func (a asked) nothing() bool { return len(a.history)+len(a.baselines)+len(a.budgets) == 0 }

func (a asked) same(b asked) bool {
	return slices.Equal(a.budgets, b.budgets) && slices.EqualFunc(a.history, b.history, func(a, b *governancev1.Obligation) bool { return proto.Equal(a, b) }) && sameBaselines(a.baselines, b.baselines)
}

// remembering asks the policies about facts together with what the counters they
// look at have counted for c, the histories that they compare fields with, and the
// standing of budgets. Which ones they are is known from the last answer; when that
// has changed, they are asked once more.
//
// What they hear is of before they are asked, so two that are judged at once may
// hear the same. What must be exact is a limit, which is taken when the decision
// is recorded.
func (p *Pipeline) remembering(ctx context.Context, c *counted, req *policyenginev1.EvaluateRequest) (*policyenginev1.EvaluateResponse, error) {
	tenant := c.who.Tenant
	read := p.Memory.lastAsked(tenant)
	for attempt := 0; ; attempt++ {
		var err error
		if req.Facts.History, err = p.history(ctx, c, read.history); err != nil {
			return nil, err
		}
		if req.Facts.Statistics, err = p.statistics(ctx, c, read.baselines); err != nil {
			return nil, err
		}
		p.standings(ctx, c, req.Facts, read.budgets)
		result, err := p.judge(ctx, tenant, req)
		if err != nil || result.GetPolicySetVersion() == 0 && askedBy(result).nothing() {
			return result, err // nobody was there to ask anything
		}
		ask := askedBy(result)
		if ask.same(read) {
			return result, nil
		}
		p.Memory.remembersAsked(tenant, ask)
		if ask.nothing() || attempt == attempts {
			return result, nil
		}
		read = ask
	}
}

// history reads counters by the limits that define them. One by whom c has not
// is left out: it is unknown then, and conditions on it fail.
func (p *Pipeline) history(ctx context.Context, c *counted, defined []*governancev1.Obligation) (map[string]float64, error) {
	if len(defined) == 0 {
		return nil, nil
	}
	takes := make([]Take, 0, len(defined))
	ids := make([]uuid.UUID, 0, len(defined))
	for _, o := range defined {
		l, err := quota.Parse(o.GetParameters())
		if err != nil {
			continue
		}
		if t, missing := c.take(l); missing == "" {
			takes, ids = append(takes, t), append(ids, t.Counter)
		}
	}
	if len(ids) == 0 {
		return nil, nil
	}
	counts, err := p.Store.Counted(ctx, c.who.Tenant, ids)
	if err != nil {
		return nil, err
	}
	out := make(map[string]float64, len(takes))
	for _, t := range takes {
		n := float64(counts[t.Counter])
		if t.Limit.Of == quota.USD {
			n = money.Nano(counts[t.Counter]).USD()
		}
		out[t.Limit.Name] = n
	}
	return out, nil
}

func (m *Memory) lastAsked(tenant uuid.UUID) asked {
	if m == nil {
		return asked{}
	}
	read, _ := m.asked.GetIfPresent(tenant)
	return read
}

func (m *Memory) remembersAsked(tenant uuid.UUID, ask asked) {
	if m != nil {
		m.asked.Set(tenant, ask)
	}
}
