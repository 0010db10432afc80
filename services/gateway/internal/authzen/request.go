// Package authzen speaks the OpenID AuthZEN Authorization API 1.0: it turns its
// questions into actions, and our decisions into its answers.
package authzen

import (
	"encoding/json"
	"fmt"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
)

// MaxEvaluations is how many questions one request may hold.
const MaxEvaluations = 100

// Entity is a subject or a resource.
type Entity struct {
	Type       string         `json:"type"`
	ID         string         `json:"id"`
	Properties map[string]any `json:"properties"`
}

// Action is what the subject wants to do with the resource.
type Action struct {
	Name       string         `json:"name"`
	Properties map[string]any `json:"properties"`
}

// Evaluation is one question. What is nil was not said.
type Evaluation struct {
	Subject  *Entity        `json:"subject"`
	Action   *Action        `json:"action"`
	Resource *Entity        `json:"resource"`
	Context  map[string]any `json:"context"`
}

// Request is one question, or several that share what they do not say
// themselves. Fields that are not in the specification are ignored, as it asks.
type Request struct {
	Evaluation
	// Evaluations are read one by one, so that one that cannot be read spoils
	// no other.
	Evaluations []json.RawMessage `json:"evaluations"`
	Options     struct {
		Semantic Semantic `json:"evaluations_semantic"`
	} `json:"options"`
}

// Semantic says when a batch ends.
type Semantic string

// The semantics. The zero value means ExecuteAll.
const (
	ExecuteAll          Semantic = "execute_all"
	DenyOnFirstDeny     Semantic = "deny_on_first_deny"
	PermitOnFirstPermit Semantic = "permit_on_first_permit"
)

// Check refuses a batch that cannot be asked as a whole.
func (r Request) Check() error {
	if n := len(r.Evaluations); n > MaxEvaluations {
		return fault.Field("evaluations", "has %d entries, and at most %d are answered", n, MaxEvaluations).WithReason("VALIDATION_FAILED")
	}
	switch r.Options.Semantic {
	case "", ExecuteAll, DenyOnFirstDeny, PermitOnFirstPermit:
		return nil
	}
	return fault.Field("options.evaluations_semantic", "must be %s, %s or %s", ExecuteAll, DenyOnFirstDeny, PermitOnFirstPermit).
		WithReason("VALIDATION_FAILED")
}

// Ends reports whether a batch ends with this answer.
func (s Semantic) Ends(decision bool) bool {
	return s == DenyOnFirstDeny && !decision || s == PermitOnFirstPermit && decision
}

// At returns the i-th question of a batch. An entity that the question has
// replaces the shared one as a whole, except that its type, id or name is the
// shared one's where it has none.
func (r Request) At(i int) (Evaluation, error) {
	var e Evaluation
	if err := json.Unmarshal(r.Evaluations[i], &e); err != nil {
		return e, fault.Field(fmt.Sprintf("evaluations[%d]", i), "is not an evaluation").WithReason("REQUEST_MALFORMED").WithCause(err)
	}
	e.Subject = merged(e.Subject, r.Subject)
	e.Resource = merged(e.Resource, r.Resource)
	if e.Action == nil {
		e.Action = r.Action
	} else if e.Action.Name == "" && r.Action != nil {
		e.Action.Name = r.Action.Name
	}
	if e.Context == nil {
		e.Context = r.Context
	}
	return e, nil
}

func merged(own, shared *Entity) *Entity {
	if own == nil || shared == nil {
		if own == nil {
			return shared
		}
		return own
	}
	if own.Type == "" {
		own.Type = shared.Type
	}
	if own.ID == "" {
		own.ID = shared.ID
	}
	return own
}

// complete names everything a question lacks.
func (e Evaluation) complete() error {
	var missing []fault.Violation
	need := func(field, value string) {
		if value == "" {
			missing = append(missing, fault.Violation{Field: field, Description: "is required"})
		}
	}
	if e.Subject == nil {
		need("subject", "")
	} else {
		need("subject.type", e.Subject.Type)
		need("subject.id", e.Subject.ID)
	}
	if e.Action == nil {
		need("action", "")
	} else {
		need("action.name", e.Action.Name)
	}
	if e.Resource == nil {
		need("resource", "")
	} else {
		need("resource.type", e.Resource.Type)
		need("resource.id", e.Resource.ID)
	}
	if len(missing) > 0 {
		return fault.Fields(missing...).WithReason("VALIDATION_FAILED")
	}
	return nil
}
