package policy

import (
	"cmp"
	"errors"
	"fmt"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/fulcrum-io/fulcrum/pkg/quota"
	governancev1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/governance/v1"
	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
)

// entry is an element of a Rego policy's sets: a rule that matched, so to speak.
type entry struct {
	match *policyv1.RuleMatch
	outcome
}

// Limits of what a Rego policy may answer.
const (
	maxEntries   = 64
	maxMessage   = 2048 // bytes
	maxParameter = 8192
	maxKeys      = 64
)

// entry reads one element: a message, or an object with message, rule_id,
// rule_name, severity, and what its set takes besides.
func (p *compiled) entry(set string, decision governancev1.Decision, t *ast.Term) (*entry, error) {
	fields, parameters, err := element(t.Value)
	if err != nil {
		return nil, fmt.Errorf("an element of %s %w", set, err)
	}
	e := &entry{match: &policyv1.RuleMatch{RuleId: cmp.Or(fields["rule_id"], set), RuleName: fields["rule_name"]}}
	if decision == governancev1.Decision_DECISION_UNSPECIFIED {
		return e, p.duty(e, fields, parameters)
	}
	e.decision = decision
	message := cmp.Or(fields["message"], p.source.GetName(), "policy "+p.source.GetPolicyId())
	e.reasons = []*governancev1.Reason{p.reason(&governancev1.Reason{
		RuleId: e.match.RuleId, RuleName: e.match.RuleName, Message: message,
		Severity: fields["severity"], Decision: p.enforced(decision),
	})}
	e.actions = []*policyv1.PolicyAction{{ActionType: actionOf[decision], Message: message, Parameters: parameters}}
	if decision == governancev1.Decision_DECISION_REQUIRE_APPROVAL {
		if e.approval, err = parseApproval(fields); err != nil {
			return nil, fmt.Errorf("%s: %w", set, err)
		}
	}
	return e, nil
}

// duty fills e from an element of obligations.
func (p *compiled) duty(e *entry, fields, parameters map[string]string) error {
	if fields["type"] == quota.Obligation || fields["type"] == "THROTTLE" && quota.Marked(parameters) {
		return p.limitDuty(e, fields, parameters)
	}
	kind := policyv1.ActionType(policyv1.ActionType_value["ACTION_TYPE_"+fields["type"]])
	if kind == policyv1.ActionType_ACTION_TYPE_UNSPECIFIED {
		return errors.New("an element of obligations has no known type, such as MODIFY, REDIRECT, THROTTLE, LIMIT, NOTIFY or AUDIT")
	}
	if _, decides := decisions[kind]; decides {
		return fmt.Errorf("%s is a decision, not an obligation", fields["type"])
	}
	e.obligations = []*governancev1.Obligation{p.obligation(fields["type"], fields["message"], e.match.GetRuleId(), parameters)}
	e.actions = []*policyv1.PolicyAction{{ActionType: kind, Message: fields["message"], Parameters: parameters}}
	return nil
}

// element reads a string as a message, and an object by its keys.
func element(v ast.Value) (fields, parameters map[string]string, err error) {
	switch v := v.(type) {
	case ast.String:
		return map[string]string{"message": clip(string(v), maxMessage)}, nil, nil
	case ast.Object:
		fields, err = flat(v, maxMessage, "parameters")
		if err != nil {
			return nil, nil, err
		}
		if inner := v.Get(ast.StringTerm("parameters")); inner != nil {
			o, ok := inner.Value.(ast.Object)
			if !ok {
				return nil, nil, errors.New("has parameters that are no object")
			}
			if parameters, err = flat(o, maxParameter, ""); err != nil {
				return nil, nil, fmt.Errorf("has parameters, and it %w", err)
			}
		}
		return fields, parameters, nil
	}
	return nil, nil, errors.New("is neither a string nor an object")
}

// flat reads an object of simple values, leaving out one key.
func flat(o ast.Object, longest int, except string) (map[string]string, error) {
	if o.Len() > maxKeys {
		return nil, fmt.Errorf("has more than %d keys", maxKeys)
	}
	out := make(map[string]string, o.Len())
	for _, key := range o.Keys() {
		name, ok := key.Value.(ast.String)
		if !ok {
			return nil, errors.New("has a key that is not a string")
		}
		if string(name) == except {
			continue
		}
		s, ok := simple(o.Get(key).Value)
		if !ok {
			return nil, fmt.Errorf("has a %s that is not a string, number, boolean or list of strings", string(name))
		}
		out[string(name)] = clip(s, longest)
	}
	return out, nil
}

// simple writes a simple value as text; a list of strings becomes comma
// separated. It never walks deeper, whatever the policy built.
func simple(v ast.Value) (string, bool) {
	switch v := v.(type) {
	case ast.String:
		return string(v), true
	case ast.Number:
		return string(v), true
	case ast.Boolean:
		return v.String(), true
	case *ast.Array:
		if v.Len() > maxKeys {
			return "", false
		}
		parts := make([]string, v.Len())
		for i := range parts {
			s, ok := v.Elem(i).Value.(ast.String)
			if !ok {
				return "", false
			}
			parts[i] = clip(string(s), maxMessage)
		}
		return strings.Join(parts, ","), true
	}
	return "", false
}
