package policy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
)

// conflict says why the comparisons cannot all be true of one fact, "" if they
// can or that is not clear. It looks at each field by itself.
func (l *linter) conflict(all []literal) string {
	fields := map[field]*possible{}
	for _, lit := range all {
		c := lit.leaf.compares
		if c == nil || c.kinds&(texts|list) != 0 || c.whole {
			continue // of a list, several things can be true
		}
		p := fields[c.field]
		if p == nil {
			p = l.scoped(c.field)
			fields[c.field] = p
		}
		if !p.add(c, lit.not) {
			return fmt.Sprintf("no %s is %s at once", c.name, strings.Join(p.said, " and "))
		}
	}
	return ""
}

// possible is what a fact can be after some comparisons.
type possible struct {
	only     []operand // nil: anything
	except   []operand
	from, to *bound
	said     []string
}

// bound is one end of a range.
type bound struct {
	at        float64
	including bool
}

// scoped is what the policy's scope leaves of a field.
func (l *linter) scoped(f field) *possible {
	s := l.policy.GetScope()
	var ids []string
	switch f.source {
	case modelID:
		ids = s.GetModelIds()
	case agentID:
		ids = s.GetAgentIds()
	case agentTeam:
		ids = s.GetTeams()
	case workflowID:
		ids = s.GetWorkflowIds()
	}
	p := &possible{}
	if len(ids) == 0 || s.GetApplyToAll() {
		return p
	}
	for _, id := range ids {
		p.only = append(p.only, operand{kind: text, str: id})
	}
	p.said = append(p.said, "in the policy's scope")
	return p
}

// add takes a comparison into account and reports whether anything is left.
func (p *possible) add(c *comparison, not bool) bool {
	desc := strings.TrimPrefix(c.describe(), c.name+" ")
	if not {
		desc = "not " + desc
	}
	p.said = append(p.said, desc)
	affix := c.with == policyv1.ConditionType_CONDITION_TYPE_STARTS_WITH || c.with == policyv1.ConditionType_CONDITION_TYPE_ENDS_WITH
	switch {
	case affix:
		fits := strings.HasPrefix
		if c.with == policyv1.ConditionType_CONDITION_TYPE_ENDS_WITH {
			fits = strings.HasSuffix
		}
		p.keep(func(o operand) bool {
			return o.kind == text && slices.ContainsFunc(c.args, func(a operand) bool { return fits(o.str, a.str) }) != not
		})
	case c.span:
		if (c.op == notIn) != not {
			return true // two ranges; not looked into
		}
		p.above(c.args[0], true)
		p.below(c.args[1], true)
	case c.op == equals, c.op == in, c.op == notEquals, c.op == notIn:
		if (c.op == notEquals || c.op == notIn) != not {
			p.except = append(p.except, c.args...)
		} else if p.only == nil {
			p.only = slices.Clone(c.args)
		} else {
			p.keep(func(o operand) bool { return slices.ContainsFunc(c.args, o.same) })
		}
	case c.op == greater, c.op == greaterEqual, c.op == less, c.op == lessEqual:
		up := c.op == greater || c.op == greaterEqual
		including := c.op == greaterEqual || c.op == lessEqual
		if not {
			up, including = !up, !including
		}
		if up {
			p.above(c.args[0], including)
		} else {
			p.below(c.args[0], including)
		}
	}
	return p.left()
}

// keep drops values that are ruled out, if there are only some.
func (p *possible) keep(fits func(operand) bool) {
	if p.only != nil {
		p.only = slices.DeleteFunc(slices.Clone(p.only), func(o operand) bool { return !fits(o) })
	}
}

func (p *possible) above(o operand, including bool) {
	if n, ok := o.float(); ok && (p.from == nil || n > p.from.at || n == p.from.at && !including) {
		p.from = &bound{n, including}
	}
}

func (p *possible) below(o operand, including bool) {
	if n, ok := o.float(); ok && (p.to == nil || n < p.to.at || n == p.to.at && !including) {
		p.to = &bound{n, including}
	}
}

func (p *possible) left() bool {
	if p.from != nil && p.to != nil && (p.from.at > p.to.at || p.from.at == p.to.at && !(p.from.including && p.to.including)) {
		return false
	}
	if p.only == nil {
		return true
	}
	return slices.ContainsFunc(p.only, func(o operand) bool {
		if slices.ContainsFunc(p.except, o.same) {
			return false
		}
		n, ok := o.float()
		if !ok {
			return true
		}
		return (p.from == nil || n > p.from.at || n == p.from.at && p.from.including) &&
			(p.to == nil || n < p.to.at || n == p.to.at && p.to.including)
	})
}

func (o operand) same(other operand) bool {
	return o.kind == other.kind && o.str == other.str && o.num == other.num && o.yes == other.yes
}

func (o operand) float() (float64, bool) {
	if o.kind != number {
		return 0, false
	}
	n, err := strconv.ParseFloat(string(o.num), 64)
	return n, err == nil
}
