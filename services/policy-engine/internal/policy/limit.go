package policy

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/fulcrum-io/fulcrum/pkg/quota"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
)

// limit makes a THROTTLE that says exactly how often into the obligation LIMIT,
// which the gateway keeps: counts are taken where the decision is recorded, not
// where it is judged. Rates as such stay with the caller's THROTTLE.
func (p *compiled) limit(message, rule string, parameters map[string]string) (*governancev1.Obligation, error) {
	o := p.obligation(quota.Obligation, message, rule, parameters)
	// Whose limit it is and what it does are no parameters: somebody else's
	// counter would be touched by them.
	o.Parameters["policy_id"], o.Parameters["rule_id"] = p.source.GetPolicyId(), rule
	delete(o.Parameters, "level")
	switch p.level {
	case policyv1.EnforcementLevel_ENFORCEMENT_LEVEL_WARN:
		o.Parameters["level"] = "WARN"
	case policyv1.EnforcementLevel_ENFORCEMENT_LEVEL_TERMINATE:
		o.Parameters["level"] = "TERMINATE"
	}
	l, err := quota.Parse(o.GetParameters())
	if err == nil && l.Name == "" && rule == "" {
		err = &quota.Problem{Parameter: "counter", Message: "is missing: a limit of a rule without a rule_id needs a counter to count on"}
	}
	return o, err
}

// limitProblem finds the field that an error of limit is about.
func limitProblem(field string, err error) Problem {
	var p *quota.Problem
	if errors.As(err, &p) {
		return Problem{Field: field + ".parameters." + p.Parameter, Message: "the limit's " + p.Error()}
	}
	return Problem{Field: field + ".parameters", Message: err.Error()}
}

// zoned tells a limit on a piece of the calendar whose calendar it is.
func (s *Set) zoned(o *governancev1.Obligation) *governancev1.Obligation {
	if o.GetType() != quota.Obligation || !strings.HasPrefix(o.GetParameters()["per"], "calendar ") || o.GetParameters()["zone"] != "" {
		return o
	}
	out := &governancev1.Obligation{Type: o.GetType(), Parameters: maps.Clone(o.GetParameters())}
	out.Parameters["zone"] = s.zone.String()
	return out
}

// literalLimits reads the limits in a module that are written out, and says which
// cannot be kept. What is computed is checked when it is.
func literalLimits(rules []*ast.Rule) (limits []map[string]string, out []Problem) {
	for _, r := range rules {
		ast.WalkTerms(r, func(t *ast.Term) bool {
			o, ok := t.Value.(ast.Object)
			if !ok {
				return false
			}
			kind, written := literalText(o, "type")
			if kind != quota.Obligation && kind != "THROTTLE" || !written {
				return false
			}
			parameters, whole := map[string]string{}, true
			if inner := o.Get(ast.StringTerm("parameters")); inner != nil {
				parameters, whole = literalTexts(inner)
			}
			if !whole || kind == "THROTTLE" && !quota.Marked(parameters) {
				return false
			}
			_, err := quota.Parse(parameters)
			_, hasRule := literalText(o, "rule_id")
			if err == nil && !hasRule && o.Get(ast.StringTerm("rule_id")) == nil && needsRule(parameters) {
				err = errors.New("rule_id is missing: a limit without one needs a counter to count on")
			}
			if err != nil {
				at := cmp.Or(t.Location, r.Loc())
				out = append(out, Problem{Field: "rego", Line: at.Row, Column: at.Col, Message: "a limit's " + err.Error()})
			}
			limits = append(limits, parameters)
			return false
		})
	}
	return limits, out
}

// needsRule reports whether a limit counts on a counter of its rule's own.
func needsRule(parameters map[string]string) bool {
	return parameters["counter"] == "" && (parameters["max"] != "" || parameters["parallel"] != "")
}

func literalText(o ast.Object, key string) (string, bool) {
	t := o.Get(ast.StringTerm(key))
	if t == nil {
		return "", false
	}
	s, ok := t.Value.(ast.String)
	return string(s), ok
}

// literalTexts reads an object of constants; whole says whether it is one.
func literalTexts(t *ast.Term) (out map[string]string, whole bool) {
	o, ok := t.Value.(ast.Object)
	if !ok || !t.IsGround() {
		return nil, false
	}
	whole = true
	out = make(map[string]string, o.Len())
	o.Foreach(func(k, v *ast.Term) {
		key, isText := k.Value.(ast.String)
		text, isSimple := simple(v.Value)
		if !isText || !isSimple {
			whole = false
			return
		}
		out[string(key)] = text
	})
	return out, whole
}

// limitDuty is a limit among a Rego policy's obligations.
func (p *compiled) limitDuty(e *entry, fields, parameters map[string]string) error {
	rule := fields["rule_id"]
	o, err := p.limit(fields["message"], rule, parameters)
	if err != nil {
		return fmt.Errorf("a limit's %w", err)
	}
	e.obligations = []*governancev1.Obligation{o}
	e.actions = []*policyv1.PolicyAction{{ActionType: policyv1.ActionType_ACTION_TYPE_THROTTLE, Message: fields["message"], Parameters: parameters}}
	return nil
}
