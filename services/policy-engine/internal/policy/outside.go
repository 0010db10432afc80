package policy

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	policyv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/policy/v1"
)

// Some conditions are answered by somebody else: a model that reads a text
// (SEMANTIC), or a service of the tenant's choice (EXTERNAL_CALL). Their answers
// are facts: they are asked for before an evaluation, never in it, and one that
// did not come is unknown like any other fact.

// Question is what such a condition asks. Equal questions are asked once.
type Question struct {
	Kind      policyv1.ConditionType // SEMANTIC or EXTERNAL_CALL
	Field     string                 // whose text is judged
	Intent    string                 // SEMANTIC: what to look for, in words
	Model     string                 // SEMANTIC: who judges; empty: whoever does by default
	Threshold float64                // SEMANTIC: from which confidence on it holds
	URL       string                 // EXTERNAL_CALL
}

// Key names the question in Answers.
func (q Question) Key() string {
	return fmt.Sprintf("%d %q %q %q %g %q", q.Kind, q.Field, q.Intent, q.Model, q.Threshold, q.URL)
}

// Asked is a question about the text of one request.
type Asked struct {
	Question
	Text string
}

// Answers are whether conditions hold, by the keys of their questions. What is
// not in it is unknown.
type Answers map[string]bool

// Backends are who can be asked on this instance. Conditions that need another
// are always unknown.
type Backends struct{ Semantic, External bool }

const (
	// defaultThreshold is meant where a SEMANTIC condition gives none.
	defaultThreshold = 0.7
	// maxQuestions is how many conditions of a tenant may ask: each request waits
	// for the slowest.
	maxQuestions = 16
)

// outside translates a condition whose answer comes from elsewhere.
func (t *translator) outside(path string, kind policyv1.ConditionType, c *policyv1.PolicyCondition) (node, error) {
	q, err := question(kind, c)
	switch {
	case kind == policyv1.ConditionType_CONDITION_TYPE_SEMANTIC && !t.backends.Semantic,
		kind == policyv1.ConditionType_CONDITION_TYPE_EXTERNAL_CALL && !t.backends.External:
		return t.unavailable(path, short(kind)+" backend is not configured"), nil
	case err != nil:
		return node{}, err
	case len(t.questions) >= maxQuestions:
		return node{}, fmt.Errorf("at most %d conditions of a tenant may be SEMANTIC or EXTERNAL_CALL", maxQuestions)
	}
	t.questions = append(t.questions, q)
	desc := fmt.Sprintf("SEMANTIC %s %q", q.Field, q.Intent)
	if kind == policyv1.ConditionType_CONDITION_TYPE_EXTERNAL_CALL {
		desc = fmt.Sprintf("EXTERNAL_CALL %s %s", q.Field, q.URL)
	}
	return node{leaf: answered(need{field: field{source: outside, key: q.Key()}, kinds: boolean}, clip(desc, 200))}, nil
}

func question(kind policyv1.ConditionType, c *policyv1.PolicyCondition) (Question, error) {
	q := Question{Kind: kind, Field: cmp.Or(c.GetField(), "input.text")}
	_, kinds, err := parseField(q.Field)
	switch {
	case err != nil:
		return q, err
	case kinds&text == 0:
		return q, fmt.Errorf("%s is a %s: only a string can be asked about", q.Field, kinds)
	}
	if kind == policyv1.ConditionType_CONDITION_TYPE_SEMANTIC {
		q.Intent, q.Model = strings.TrimSpace(c.GetSemanticIntent()), c.GetSemanticModel()
		q.Threshold = cmp.Or(float64(c.GetSemanticConfidenceThreshold()), defaultThreshold)
		if q.Intent == "" {
			return q, errors.New("SEMANTIC needs a semantic_intent")
		}
		return q, nil
	}
	q.URL = c.GetStringValue()
	if u, err := url.Parse(q.URL); err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
		return q, errors.New("EXTERNAL_CALL needs an https URL without a user as its string_value")
	}
	return q, nil
}

// Questions returns what must be asked before r can be judged in full.
func (s *Set) Questions(r Request) []Asked {
	if !s.asks {
		return nil
	}
	only, err := s.chosen(r.Only)
	if err != nil {
		return nil // Evaluate says so
	}
	v := s.view(r.Facts)
	tool := ""
	if len(v.tools) > 0 {
		tool = v.tools[0]
	}
	var out []Asked
	seen := map[string]bool{}
	for i, p := range s.policies {
		if only != nil && !only[i] || len(p.questions) == 0 || p.broken != "" {
			continue
		}
		if applies, _ := p.applies(v); !applies {
			continue
		}
		for _, q := range p.questions {
			f, _, err := parseField(q.Field)
			if err != nil || seen[q.Key()] {
				continue
			}
			seen[q.Key()] = true
			if t := v.lookup(need{field: f, kinds: text}, tool); t != nil {
				if s, ok := t.Value.(ast.String); ok {
					out = append(out, Asked{q, string(s)})
				}
			}
		}
	}
	return out
}
