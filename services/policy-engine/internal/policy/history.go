package policy

import (
	"strings"

	"github.com/fulcrum-io/fulcrum/pkg/quota"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
)

// counters are the limits that define the counters and marks that policies ask
// about as history.<name>. The first definition of a name, in the order of the
// policies, is the one. Rego may ask for any. It is for before slim.
func (s *Set) counters(t *translator) (out []*governancev1.Obligation) {
	asked, all := map[string]bool{}, false
	for _, n := range t.needs {
		if n.field.source == history {
			asked[n.field.key] = true
		}
	}
	for _, p := range s.policies {
		all = all || strings.Contains(p.source.GetRego(), "history")
	}
	for _, sh := range s.shadows {
		all = all || strings.Contains(sh.source.String(), "history")
	}
	if len(asked) == 0 && !all {
		return nil
	}
	found := map[string]bool{}
	define := func(o *governancev1.Obligation) {
		l, err := quota.Parse(o.GetParameters())
		if o.GetType() != quota.Obligation || err != nil || l.Name == "" || l.Kind == quota.After || found[l.Name] || !asked[l.Name] && !all {
			return
		}
		found[l.Name] = true
		out = append(out, s.zoned(o))
	}
	for _, p := range s.policies {
		if p.shadow() {
			continue
		}
		for _, r := range p.rules {
			if r.outcome == nil {
				continue // it does not compile
			}
			for _, o := range r.obligations {
				define(o)
			}
		}
		if p.rego == nil {
			continue
		}
		for _, parameters := range p.rego.limits {
			if o, err := p.limit("", "", parameters); err == nil {
				define(o)
			}
		}
	}
	return out
}
